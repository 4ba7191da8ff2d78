"""The fuzzer finds what readers may not do, and nothing in honest ones."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fuzzing import READERS

ROOT = Path(__file__).parents[1]
FINDINGS = {
  'crash': 'dies of SIGSEGV',
  'spin': 'takes too long',
  'wait': 'hangs',
  'swell': 'takes 4',
  'exceed': 'out of memory',
  'write': 'open outside: ',
  'start': 'os.system',
  'stumble': 'KeyError',
  'hide': 'no name',
  'garble': 'cannot be printed',
  'differ': 'other values (a.bin)',
}


@pytest.fixture(scope='module')
def found(tmp_path_factory):
  folder = tmp_path_factory.mktemp('faulty')
  done = subprocess.run(
    [sys.executable, '-m', 'tests.faulty', str(folder)],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize('name', FINDINGS)
def test_a_fault_is_found(found, name):
  counts, findings = found[name]
  assert not counts
  ((number, what),) = findings
  assert number == 0
  assert what.startswith(FINDINGS[name])


def test_what_is_read_or_refused_by_name_is_no_fault(found):
  assert found['refuse'] == [{'refused': 1}, []]
  assert found['keep'] == [{'read': 1}, []]


def test_the_same_seed_damages_alike():
  from benchmarks.fuzzing import damage

  data = b'a\tb\nc\td\n' * 5
  made = [damage.table(random.Random(f'{i}'), data) for i in range(50)]
  assert made == [damage.table(random.Random(f'{i}'), data) for i in range(50)]
  assert len(set(made)) > 30


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """Readers' files by what makes them."""
  folders = {}

  def folder(make):
    if make not in folders:
      folders[make] = tmp_path_factory.mktemp(make.__name__) / 'files'
      folders[make].mkdir()
      make(folders[make])
    return folders[make]

  return folder


@pytest.mark.parametrize('name', READERS)
def test_what_is_not_damaged_is_read(made, name):
  """It raises nothing."""
  reader = READERS[name]
  reader.read(made(reader.make), random.Random('0'))
