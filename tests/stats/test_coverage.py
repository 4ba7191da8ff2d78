"""95 % intervals hold the truth in 93 % of simulated sets or more: `-m slow`.

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


@pytest.mark.parametrize(
  ('design', 'variance', 'k'),
  [
    ({'n': 150, 'p': 64}, 0.9, 10),
    ({'n': 150, 'p': 64}, 0.9, None),
    ({'n': 200, 'p': 24, 'decay': 0.0, 'shared': 0.5, 'latent': 3}, 0.9, 3),
    ({'n': 350, 'p': 24, 'decay': 0.0, 'shared': 0.5, 'latent': 3}, 0.5, None),
  ],
)
def test_svcca_is_on_the_safe_side(simulation, design, variance, k):
  """At most as far as a variance that is counted twice puts it."""
  found = simulation.svcca(
    simulation.Design(**design), variance, k, 400, 1000, rounds=(8,)
  )
  assert found['8 rounds'].covered >= 0.93
  assert 0.93 <= found['8 rounds'].error_ratio <= 2**0.5


def test_bug_23_rows_with_replacement_miss_the_truth(simulation):
  found = simulation.bootstrap(simulation.Design(), True, 20, 50)
  assert found.covered < 0.1
