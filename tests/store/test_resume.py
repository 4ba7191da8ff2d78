"""Writers that are killed, that run side by side, or that find no room."""

import contextlib
import multiprocessing.pool
import os
import pathlib
import random
import re
import resource
import subprocess
import sys
import threading
import time

import pytest

from jaxrep.types import InputError
from tests import disk
from tests.store import entries, gcs

SHARD = re.compile(r'/c/\d+/0/0$')


def start(workdir, *arguments, **environment) -> subprocess.Popen:
  process = subprocess.Popen(
    [sys.executable, '-m', 'tests.store.entries', workdir, *arguments],
    cwd=pathlib.Path(__file__).parents[2],
    env={**os.environ, **environment},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'started\n', process.stderr.read()
  return process


def advance(process: subprocess.Popen, units: int) -> None:
  """Waits until so many units are done; the next four are being written."""
  process.stdin.write('go\n' * (units + 4))
  process.stdin.flush()
  for _ in range(units):
    assert process.stdout.readline() == 'done\n'


def kill(process: subprocess.Popen) -> None:
  process.kill()
  assert process.wait() == -9
  process.communicate()


def end(process: subprocess.Popen) -> None:
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 0, errors


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('uninterrupted')
  end(start(workdir))
  return entries.contents(workdir)


def test_killed_writers_leave_what_one_would_have_written(
  tmp_path, uninterrupted
):
  done = []
  moments = random.Random(0)
  for attempt in range(14):
    process = start(tmp_path)
    if attempt > 1:  # the first two are killed while they create the entry
      advance(process, moments.randrange(4))
    time.sleep(moments.uniform(0, 0.006))
    kill(process)
    done.append(
      sum(bool(SHARD.search(name)) for name in entries.contents(tmp_path))
    )
  assert done == sorted(done)
  assert 0 < done[-1] < 2 * (entries.UNITS - 1)
  end(start(tmp_path))
  assert entries.contents(tmp_path) == uninterrupted


def test_two_writers_share_the_units(tmp_path, uninterrupted):
  both = [start(tmp_path, str(part), '2') for part in range(2)]
  for process in both:
    end(process)
  assert entries.contents(tmp_path) == uninterrupted


def test_the_same_in_a_bucket(uninterrupted):
  with gcs.serve() as (url, objects):
    environment = gcs.environment(url)
    process = start('gs://bucket/run 1', **environment)
    advance(process, 2)
    kill(process)
    assert 'run 1/store/tiny/speech/eng/complete.json' not in objects
    end(start('gs://bucket/run 1', **environment))
    assert objects == {
      f'run 1/{name}': data for name, data in uninterrupted.items()
    }


def test_of_two_definitions_at_once_one_wins(tmp_path):
  barrier = threading.Barrier(8)

  def create(workdir, seed):
    barrier.wait()
    try:
      return entries.create(workdir, entries.rows(4), definition={'seed': seed})
    except InputError as error:
      return str(error)

  with multiprocessing.pool.ThreadPool(8) as pool:
    for attempt in range(5):
      made = pool.starmap(
        create, [(tmp_path / str(attempt), seed) for seed in range(8)]
      )
      lost = [one for one in made if isinstance(one, str)]
      assert len(lost) == 7
      assert all('another definition' in message for message in lost)


@contextlib.contextmanager
def largest_file(size: int):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path):
  entries.write(entries.create(tmp_path / 'whole', entries.rows(10)))
  workdir = tmp_path / 'full'
  writer = entries.create(workdir, entries.rows(10))
  writer.write_unit(0, entries.values(writer, 0))
  before = entries.contents(workdir)
  shard = 4 * 3 * 6 * 4  # the first unit's taps of width 6, in bytes
  with (
    largest_file(shard // 2),
    pytest.raises(InputError, match=r'Cannot write to .*File too large'),
  ):
    writer.write_unit(1, entries.values(writer, 1))
  assert entries.contents(workdir) == before
  assert writer.remaining_units() == [1, 2]
  entries.write(entries.create(workdir, entries.rows(10)))
  assert entries.contents(workdir) == entries.contents(tmp_path / 'whole')


def test_a_disk_that_fills_up_again_and_again(tmp_path):
  """And is read-only in between: one error each, in the system's words."""
  rows, taps = entries.rows(80), entries.WIDE
  whole = entries.create(tmp_path / 'whole', rows, taps=taps)
  entries.write(whole)
  left = []
  with disk.mounted(tmp_path / 'disk', 16) as small:
    for spare in (0, 20, 60, 100, 150):
      small.fill(spare)
      with pytest.raises(InputError, match=r'No space left .*again'):
        entries.write(entries.create(small.path, rows, taps=taps))
      with small.read_only(), pytest.raises(InputError, match='Read-only file'):
        entries.write(entries.create(small.path, rows, taps=taps))
      names = entries.contents(small.path)
      left.append(sum(bool(SHARD.search(name)) for name in names))
    assert 0 == left[0] < left[-1] and left == sorted(left)
    small.resize(1000)
    entries.write(entries.create(small.path, rows, taps=taps))
    assert entries.contents(small.path) == entries.contents(tmp_path / 'whole')


def test_reasons_come_before_the_shards(tmp_path):
  writer = entries.create(tmp_path, entries.rows(10))
  with largest_file(100), pytest.raises(InputError, match='Cannot write'):
    writer.write_unit(1, entries.values(writer, 1), {5: 'silent'})
  assert (entries.folder(tmp_path) / 'dropped' / '1.json').exists()


def test_what_killed_writers_left_is_neither_data_nor_kept(tmp_path):
  writer = entries.create(tmp_path, entries.rows(10))
  shard = entries.folder(tmp_path) / 'dim6' / 'c' / '1' / '0'
  shard.mkdir(parents=True)
  for name in ('0.__lock', '0_0123abcd.__lock', '../../../rows.__lock'):
    (shard / name).write_bytes(b'x' * 10_000)
  reasons = entries.folder(tmp_path) / 'dropped'
  reasons.mkdir()
  (reasons / '1.json.__lock').write_bytes(b'x' * 10_000)
  assert writer.remaining_units() == [0, 1, 2]
  entries.write(writer, {5: 'silent'})
  assert (reasons / '1.json').read_text() == '{"5": "silent"}'
  assert not [*entries.folder(tmp_path).rglob('*.__lock')]
  assert len((shard / '0').read_bytes()) < 1000
