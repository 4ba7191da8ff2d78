"""Published variants of SVCCA against the rules of their sources."""

import numpy as np
import pytest

from jaxrep.similarity import published
from jaxrep.similarity.canonical import SVCCA
from jaxrep.similarity.measure import Parameters
from tests.similarity import oracle, oracle_cca

EXACT = 1e-5
GOOGLE, ANATOME = published.SVCCA_GOOGLE, published.SVCCA_ANATOME
NETREP = published.SVCCA_NETREP
TRUTHS = {GOOGLE: oracle_cca.google, NETREP: oracle_cca.netrep}


@pytest.mark.parametrize('measure', TRUTHS)
@pytest.mark.parametrize('cut', [{'variance': 0.99}, {'k': 9}])
def test_agrees_with_float64(measure, cut):
  def truth(x, y):
    return TRUTHS[measure](x, y, **cut)

  oracle_cca.check_regimes(measure, truth, **cut)


@pytest.mark.parametrize('variance', [0.99, 0.7])
@pytest.mark.parametrize('shape', [(90, 60, 40), (60, 60, 60), (60, 128, 60)])
def test_anatome_agrees_with_float64(shape, variance):
  x, y = oracle.related(*shape)
  for pair in ((x, y), (x + np.float32(3), y)):
    found = oracle_cca.score(ANATOME, *pair, variance=variance)
    truth = oracle_cca.anatome(*pair, variance)
    assert found == pytest.approx(truth, abs=EXACT)


def test_bug_10_google_drops_trailing_coefficients():
  # 0.9 + 0.5 + 0.1 hold 98 % of the sum; the last counts in the mean only.
  u, v = oracle.bases(96, [0.9, 0.5, 0.1, 0.02])
  assert oracle_cca.score(GOOGLE, u, v, k=4) == pytest.approx(0.5, abs=1e-6)
  assert oracle_cca.score(SVCCA, u, v, k=4) == pytest.approx(0.38, abs=1e-6)
  u, v = oracle.bases(96, [0.9, 0.5, 0.1, 0.05])
  found = oracle_cca.score(GOOGLE, u, v, k=4)
  assert found == pytest.approx(0.3875, abs=1e-6)


def test_bug_11_anatome_changes_with_an_offset():
  x, y = oracle.related(90, 60, 40)
  truth = oracle_cca.score(ANATOME, x, y)
  for offset, least in ((3, 0.001), (1000, 0.02)):
    moved = oracle_cca.score(ANATOME, x + np.float32(offset), y)
    assert abs(moved - truth) > least
  assert not ANATOME.centred


def test_anatome_keeps_one_component_fewer_and_none_of_one():
  u, _ = oracle.bases(96, [0.0] * 4)
  x = u * [4, 3, 2, 1]  # cumulative 0.4, 0.7, 0.9, 1
  kept = [
    int(oracle_cca.factor(ANATOME, x, variance=share).k)
    for share in (0.45, 0.75, 0.95, 1.0)
  ]
  assert kept == [1, 2, 3, 3]
  assert not oracle_cca.factor(ANATOME, u[:, :1], variance=0.99).defined


def test_netrep_divides_by_the_geometric_mean():
  u, v = oracle.bases(96, [0.8] * 8)
  found = oracle_cca.score(NETREP, u, v[:, :2], variance=1.0)
  assert found == pytest.approx(2 * 0.8 / 4, abs=1e-6)
  assert oracle_cca.score(NETREP, v[:, :2], u, variance=1.0) == pytest.approx(
    found, abs=1e-6
  )


@pytest.mark.parametrize('measure', [GOOGLE, NETREP, ANATOME])
def test_identical_is_one_and_orthogonal_is_zero(measure):
  u, v = oracle.bases(96, [0.0] * 30)
  assert oracle_cca.score(measure, u, u) == pytest.approx(1, abs=2e-6)
  assert oracle_cca.score(measure, u, v) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('measure', [GOOGLE, NETREP, ANATOME])
def test_changes_only_under_what_it_should(measure):
  unchanged = oracle_cca.OF_ALL
  if measure is ANATOME:
    unchanged = unchanged - {'shift'}
  oracle_cca.check_changes(measure, unchanged, changed=1e-3)


@pytest.mark.parametrize('measure', [GOOGLE, NETREP, ANATOME])
def test_sentences(measure):
  oracle_cca.check_sentence_order(measure)
  oracle_cca.check_reordered_factors(measure)
  oracle_cca.check_mask_is_subset(measure)
  oracle_cca.check_vmapped_is_alone(measure)


def test_the_definition_stands_with_the_number():
  parameters = Parameters(0.9)
  assert '98 % of their sum' in GOOGLE.describe(parameters)
  assert 'sqrt(k_a k_b)' in NETREP.describe(parameters)
  assert 'stays below 0.9 of the whole' in ANATOME.describe(parameters)
