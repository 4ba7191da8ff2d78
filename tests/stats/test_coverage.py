"""95 % intervals hold the truth in 93 to 97 % of simulated sets: `-m slow`.

The designs are those of `benchmarks/coverage.py`, which has more of them.
"""

import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def simulation(monkeypatch):
  monkeypatch.syspath_prepend(ROOT)
  return importlib.import_module('benchmarks.coverage')


@pytest.mark.parametrize('debiased', [False, True])
@pytest.mark.parametrize(
  'design',
  [
    *({'decay': decay} for decay in (0.0, 1.0)),
    {'decay': 1.0, 'shared': 0.0},
    {'decay': 1.7, 'shared': 0.0},
    {'tails': 0.3},
    {'clustered': True},
  ],
)
def test_cka(simulation, design, debiased):
  found = simulation.cka(simulation.Design(**design), debiased, 1000)
  assert 0.93 <= found['value'].covered <= 0.97
  assert found['contrast'].covered >= 0.93


@pytest.mark.parametrize('debiased', [False, True])
def test_cka_of_few_dimensions_may_cover_more(simulation, debiased):
  design = simulation.Design(decay=1.7)
  found = simulation.cka(design, debiased, 1000)
  assert 0.93 <= found['value'].covered <= 0.98
  assert found['contrast'].covered >= 0.93


@pytest.mark.parametrize('k', [10, None])
def test_svcca(simulation, k):
  design = simulation.Design(n=150, p=64)
  found = simulation.svcca(design, 0.9, k, 400, 1000, rounds=(16,))
  assert 0.93 <= found['16 rounds'].covered <= 0.97


def test_bug_23_rows_with_replacement_miss_the_truth(simulation):
  found = simulation.bootstrap(simulation.Design(), True, 20, 50)
  assert found.covered < 0.1
