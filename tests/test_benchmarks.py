"""The benchmarks run: their figures are read by people, not by tests."""

import importlib
import json
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def harness(monkeypatch):
  monkeypatch.syspath_prepend(ROOT)
  return importlib.import_module('benchmarks.harness')


def spin(seconds):
  end = time.process_time() + seconds
  while time.process_time() < end:
    pass


def hold(megabytes):
  return b'x' * (megabytes * 10**6)


def test_candidates_alternate_and_ratios_are_over_the_first(harness):
  calls = []

  def candidate(name, seconds):
    calls.append(name)
    spin(seconds)
    return name

  seen = []
  result = harness.compare(
    {
      'ours': lambda: candidate('ours', 0.01),
      'theirs': lambda: candidate('theirs', 0.03),
    },
    lambda *outputs: seen.append(outputs) or {'largest': 0.5},
    rounds=3,
    warm_up=1,
    pause=0,
  )
  assert seen == [('ours', 'theirs')]
  assert calls == ['ours', 'theirs'] * 5
  assert result.agreement == {'largest': 0.5}
  assert list(result.ratios) == ['theirs']
  cpu = result.ratios['theirs'].cpu
  assert 2 < cpu.min <= cpu.median <= cpu.max < 4
  assert result.timings['theirs'].cpu.min >= 0.03
  assert result.timings['theirs'].wall.min >= 0.03


def test_nothing_is_timed_if_outputs_differ(harness):
  calls = []

  def refuse(*outputs):
    raise AssertionError('differ')

  with pytest.raises(AssertionError, match='differ'):
    harness.compare({'ours': lambda: calls.append(1)}, refuse)
  assert calls == [1]


def test_peak_memory_is_that_of_the_work(harness):
  small, large = (harness.peak_memory(hold, n) for n in (1, 300))
  assert 250 < large - small < 350


def test_frontend_benchmark_writes_a_row(tmp_path):
  arguments = ['--seconds=1', '--batch=2', '--rounds=2']
  subprocess.run(
    [
      sys.executable,
      '-m',
      'benchmarks.frontend',
      f'--results={tmp_path}',
      *arguments,
    ],
    cwd=ROOT,
    check=True,
  )
  (line,) = (tmp_path / 'frontend.jsonl').read_text().splitlines()
  row = json.loads(line)
  assert row['case'] == {'seconds': 1.0, 'batch': 2, 'dtype': 'float32'}
  assert row['agreement']['relative'] < 1e-4
  assert row['ratios']['transformers']['cpu']['median'] > 0
  assert row['peak_memory_mb'].keys() == {'jaxrep', 'transformers'}
  assert row['machine']['jax'] and row['machine']['cores'] > 0
  assert str(ROOT) not in line
