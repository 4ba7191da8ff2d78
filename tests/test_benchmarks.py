"""The benchmarks run: their figures are read by people, not by tests."""

import importlib
import json
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from absl import app

from tests.similarity import oracle

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


def test_a_case_that_is_not_known_is_refused_by_name(harness):
  assert harness.chosen([], ['a', 'b']) == ['a', 'b']
  assert harness.chosen(['b'], ['a', 'b']) == ['b']
  with pytest.raises(app.UsageError, match='c: known are a, b'):
    harness.chosen(['b', 'c'], ['a', 'b'])


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


@pytest.mark.slow
def test_extraction_benchmark_writes_a_row(tmp_path):
  subprocess.run(
    [
      *(sys.executable, '-m', 'benchmarks.extraction'),
      *('--cases=nllb-200-600m text', '--layers=1', '--rounds=2'),
      *('--sentences=2', '--batch=1', f'--results={tmp_path}'),
    ],
    cwd=ROOT,
    check=True,
  )
  row = json.loads((tmp_path / 'extraction.jsonl').read_text())
  assert row['case']['model'] == 'nllb-200-600m'
  assert row['agreement']['taps'] == row['agreement']['listed'] == 2
  assert row['agreement']['worst_tap'] < 1e-5
  assert row['agreement']['worst_listed'] < 1e-5
  assert row['ratios'].keys() == {'best', 'eager'}
  assert row['ratios']['best']['cpu']['median'] > 0
  assert row['peak_memory_mb'].keys() == {'jaxrep', 'best', 'eager'}
  # Two operations a weight and token, and a little for attention.
  weights = 4 * 1024**2 + 2 * 1024 * 4096
  least = 2 * weights * row['case']['tokens'] / 1e9
  assert least < row['case']['gflop'] < 2 * least


@pytest.mark.slow
def test_single_layers_benchmark_writes_a_row(tmp_path):
  subprocess.run(
    [
      *(sys.executable, '-m', 'benchmarks.single_layers'),
      *('--cases=nllb-200-600m text', '--rounds=2', '--batch=1'),
      *('--tokens=5', f'--results={tmp_path}'),
    ],
    cwd=ROOT,
    check=True,
  )
  row = json.loads((tmp_path / 'single_layers.jsonl').read_text())
  shape = {'batch': 4, 'time': 5, 'width': 1024}
  assert row['case'] == {
    'network': 'nllb-200-600m text',
    'dtype': 'float32',
    **shape,
  }
  assert max(row['agreement'].values()) < 1e-5
  assert row['ratios'].keys() == {'best', 'eager'}


@pytest.fixture
def candidates(harness):
  return importlib.import_module('benchmarks.candidates')


@pytest.fixture
def peers(harness):
  return importlib.import_module('benchmarks.peers')


def test_what_is_timed_in_part_counts_for_the_whole(candidates):
  def fill(stack, _):
    spin(0.01)
    return np.zeros((len(stack), len(stack)))

  stack = [np.zeros((3, 2))] * 9
  some = candidates.part(fill, stack, 3)
  assert some.times == 45 / 9
  whole = candidates.Candidate(lambda: fill(stack, stack))
  result = candidates.compare(
    {'ours': whole, 'theirs': some}, np.zeros((9, 9)), 1e-5, rounds=2
  )
  assert result.agreement == {'ours': 0, 'theirs': 0}
  assert 4 < result.ratios['theirs'].cpu.median < 6
  assert result.timings['theirs'].cpu.min >= 0.05
  assert result.timings['ours'].cpu.max < 0.03


def test_only_our_own_error_stops_a_benchmark(candidates):
  truth, near, far = np.eye(4), np.eye(3) + 1e-7, np.eye(2) + 0.25
  names = ('ours', 'theirs')
  found = candidates.errors(names, truth, 1e-5, near, far)
  assert found == pytest.approx({'ours': 1e-7, 'theirs': 0.25})
  for wrong in (far, np.full((2, 2), np.nan)):
    with pytest.raises(AssertionError, match='ours is off by'):
      candidates.errors(names, truth, 1e-5, wrong, near)


def test_the_opponents_are_right(peers):
  stack = [
    *oracle.related(40, 30, 60),
    *oracle.related(40, 20, 45, seed=1),
  ]
  for function, truth in (
    (peers.numpy_cka, oracle.cka),
    (lambda some: peers.numpy_cka(some, debiased=True), oracle.cka_debiased),
    (peers.numpy_svcca, oracle.svcca),
    (
      lambda some: peers.each(peers.tutorial_svcca)(some, some),
      oracle.svcca,
    ),
  ):
    expected = peers.each(truth)(stack, stack)
    np.testing.assert_allclose(function(stack), expected, atol=1e-5)


def test_the_opponents_draw_pairings_and_sentences(peers):
  stack = [side.astype(float) for side in oracle.related(60, 20, 30)]
  for draws in (
    peers.numpy_cka_permutations(stack, 200),
    peers.numpy_svcca_permutations(stack, 20),
  ):
    values = draws[:, 0, 1]
    assert values.std() > 0
    order = np.random.default_rng(0).permutation(60)
    measure = 'svcca' if len(draws) == 20 else 'cka'
    first = oracle.MEASURES[measure](stack[0], stack[1][order])
    assert values[0] == pytest.approx(first, abs=1e-9)
  again = peers.numpy_cka_replicates(stack, 50)
  np.testing.assert_allclose(again[:, [0, 1], [0, 1]], 1)
  assert abs(again[:, 0, 1].mean() - oracle.cka_debiased(*stack)) < 0.1
  (less,) = peers.numpy_svcca_replicates(stack, 1, left_out=6)
  rows = np.random.default_rng(0).permutation(60)[6:]
  left = oracle.svcca(*(side[rows] for side in stack))
  assert less[0, 1] == pytest.approx(left, abs=1e-6)


def test_similarity_benchmark_writes_rows(tmp_path):
  arguments = ['--layers=4', '--sentences=40', '--width=24', '--rounds=1']
  subprocess.run(
    [
      *(sys.executable, '-m', 'benchmarks.similarity', '--case=cka'),
      *('--case=svcca-few', f'--results={tmp_path}', *arguments),
    ],
    cwd=ROOT,
    check=True,
  )
  lines = (tmp_path / 'similarity.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert [row['case']['measure'] for row in rows] == [
    *('cka', 'cka_debiased', 'svcca')
  ]
  for row in rows:
    sizes = {name: row['case'][name] for name in ('m', 'n', 'd')}
    assert sizes == {'m': 4, 'n': 40, 'd': 24}
    assert row['agreement']['jaxrep'] < 1e-5
    assert row['agreement']['numpy'] < 1e-5
    assert row['ratios']['numpy']['cpu']['median'] > 0
  assert rows[2]['case']['scaled']['tutorial'] == 2.5
