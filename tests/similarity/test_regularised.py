"""Ridge CCA and mean squared CCA against float64 and closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity.measure import Parameters
from jaxrep.similarity.regularised import CCA, MEAN_SQUARED_CCA
from tests.similarity import oracle, oracle_cca

EXACT = 1e-5
SQUARED = ({'variance': 0.99}, {'variance': 0.7}, {'k': 9})


@pytest.mark.parametrize('ridge', [1e-3, 0.1, 10.0])
def test_ridge_agrees_with_float64(ridge):
  def truth(x, y):
    return oracle_cca.ridge_cca(x, y, ridge)

  oracle_cca.check_regimes(CCA, truth, ridge=ridge)


@pytest.mark.parametrize('cut', SQUARED)
def test_mean_squared_agrees_with_float64(cut):
  def truth(x, y):
    return oracle_cca.mean_squared_cca(x, y, **cut)

  oracle_cca.check_regimes(MEAN_SQUARED_CCA, truth, **cut)


def test_without_a_ridge_it_is_the_mean_correlation():
  for shape in ((90, 60, 40), (90, 40, 60)):
    x, y = oracle.related(*shape)
    found = oracle_cca.score(CCA, x, y, ridge=0.0)
    assert found == pytest.approx(oracle_cca.ridge_cca(x, y, 0), abs=EXACT)


@pytest.mark.parametrize('measure', [CCA, MEAN_SQUARED_CCA])
def test_one_outlier_leaves_the_digits_that_float32_has(measure):
  # The other rows are 1e-3 of the largest entry.
  x, y = oracle_cca.outlier()
  truth = {
    CCA: oracle_cca.ridge_cca(x, y),
    MEAN_SQUARED_CCA: oracle_cca.mean_squared_cca(x, y, k=12),
  }[measure]
  found = oracle_cca.score(measure, x, y, k=12)
  assert found == pytest.approx(truth, abs=1e-4)


@pytest.mark.parametrize('q', [12, 128])
def test_bug_14_without_a_ridge_n_below_p_scores_1(q):
  x, y = oracle.related(60, 128, q)
  order = np.random.default_rng(0).permutation(60)
  for other in (y, y[order]):
    found = oracle_cca.score(CCA, x, other, ridge=0.0)
    assert found == pytest.approx(1, abs=EXACT)
  apart = [
    oracle_cca.score(CCA, x, other, ridge=1.0) for other in (y, y[order])
  ]
  assert apart[0] - apart[1] > 0.02
  assert apart[0] < 0.9


def test_bug_9_degenerate_input_needs_no_noise():
  x, y = oracle_cca.regimes()['rank deficient']
  factors = oracle_cca.factor(CCA, x, ridge=0.0)
  assert factors.k == 10
  found = [oracle_cca.score(CCA, x, y, ridge=0.0) for _ in range(2)]
  truth = oracle_cca.correlations(x, y, variance=1.0).mean()
  assert found == [pytest.approx(truth, abs=EXACT)] * 2


def test_no_correlation_exceeds_what_the_ridge_allows():
  # Equal variances on one side, one large one on the other: dividing by the
  # smaller effective number of components would give more than 1.
  basis = oracle.bases(96, [0.0] * 8)[0]
  steep = basis * np.logspace(0, -3, 8)
  for ridge in (0.1, 1.0, 30.0):
    assert oracle_cca.score(CCA, basis, steep, ridge=ridge) <= 1 + 1e-6
    found = oracle_cca.score(CCA, steep, steep, ridge=ridge)
    assert found == pytest.approx(1, abs=1e-6)
  # Aligned in order of variance: as alike as the two spectra let them be.
  aligned = oracle_cca.score(CCA, basis, steep, ridge=1.0)
  assert aligned == pytest.approx(1, abs=1e-6)
  turned = steep @ oracle.rotation(8)
  assert oracle_cca.score(CCA, basis @ oracle.rotation(8, 1), turned) < 1 + 1e-6


def test_known_values():
  u, v = oracle.bases(96, [0.9, 0.5, 0.1, 0.0])
  assert oracle_cca.score(CCA, u, v, ridge=0.0) == pytest.approx(
    0.375, abs=1e-6
  )
  # Equal variances shrink each correlation as much as the largest allowed.
  assert oracle_cca.score(CCA, u, v, ridge=0.5) == pytest.approx(
    0.375, abs=1e-6
  )
  # Variances 4 and 1, their mean 2.5, ridge 0.4: weights 4 / 5 and 1 / 2.
  pair = u[:, :2] * [2, 1], v[:, :2] * [2, 1]
  truth = (0.9 * 0.8 + 0.5 * 0.5) / (0.8 + 0.5)
  assert oracle_cca.score(CCA, *pair, ridge=0.4) == pytest.approx(
    truth, abs=1e-6
  )
  squared = oracle_cca.score(MEAN_SQUARED_CCA, u, v, k=4)
  assert squared == pytest.approx((0.81 + 0.25 + 0.01) / 4, abs=1e-6)
  fewer = oracle_cca.score(MEAN_SQUARED_CCA, u, v[:, :2], variance=1.0)
  assert fewer == pytest.approx((0.81 + 0.25) / 2, abs=1e-6)


@pytest.mark.parametrize('measure', [CCA, MEAN_SQUARED_CCA])
def test_identical_is_one_and_orthogonal_is_zero(measure):
  u, v = oracle.bases(96, [0.0] * 30)
  assert oracle_cca.score(measure, u, u, k=30) == pytest.approx(1, abs=2e-6)
  assert oracle_cca.score(measure, u, v, k=30) == pytest.approx(0, abs=1e-6)
  x, _ = oracle.related(90, 128, 60)
  assert oracle_cca.score(measure, x, x) == pytest.approx(1, abs=2e-6)


def test_added_noise_in_closed_form():
  # x and x plus noise of as many times its variance: squared correlation 1/2.
  n, rng = 2_000, np.random.default_rng(0)
  x = rng.normal(size=(n, 5))
  found = oracle_cca.score(
    MEAN_SQUARED_CCA, x, x + rng.normal(size=x.shape), k=5
  )
  assert found == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
  'measure, parameters, more',
  [
    (CCA, {'ridge': 0.1}, ()),
    (CCA, {'ridge': 0.0}, ('linear map',)),
    (MEAN_SQUARED_CCA, {}, ()),
    (MEAN_SQUARED_CCA, {'variance': 1.0}, ('linear map',)),
  ],
)
def test_changes_only_under_what_it_should(measure, parameters, more):
  unchanged = oracle_cca.OF_ALL | set(more)
  oracle_cca.check_changes(measure, unchanged, **parameters)


@pytest.mark.parametrize('measure', [CCA, MEAN_SQUARED_CCA])
def test_sentences(measure):
  oracle_cca.check_sentence_order(measure)
  oracle_cca.check_reordered_factors(measure)
  oracle_cca.check_mask_is_subset(measure)
  oracle_cca.check_vmapped_is_alone(measure)


@pytest.mark.parametrize('measure', [CCA, MEAN_SQUARED_CCA])
def test_nothing_that_differs_is_undefined(measure):
  assert not oracle_cca.factor(measure, np.ones((20, 4))).defined
  assert not np.isnan(oracle_cca.factor(measure, np.ones((20, 4))).rows).any()


def test_exact_mean_over_all_pairings():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 3))
  fx, fy = (
    oracle_cca.factor(MEAN_SQUARED_CCA, s, variance=1.0) for s in (x, y)
  )
  orders = jnp.asarray(list(itertools.permutations(range(6))))

  @jax.jit
  def under(order):
    moved = fy.rows[order][:, order]
    return MEAN_SQUARED_CCA.score(fx, fy._replace(rows=moved))

  values = np.asarray(jax.lax.map(under, orders), np.float64)
  law = 2 * 3 / (5 * 2)  # k_a k_b / ((n - 1) min(k_a, k_b))
  assert values.mean() == pytest.approx(law, abs=1e-6)
  everyone = jnp.ones(6, bool)
  summaries = [MEAN_SQUARED_CCA.summary(f.rows, everyone) for f in (fx, fy)]
  mean, sd, _ = MEAN_SQUARED_CCA.null(*summaries, 6)
  scale = MEAN_SQUARED_CCA.scale(2, 3)
  assert mean * scale == pytest.approx(law, abs=1e-6)
  assert sd * scale == pytest.approx(values.std(), abs=1e-6)


def test_score_is_the_scaled_inner_product():
  x, y = oracle.related(90, 60, 40)
  fx, fy = (oracle_cca.factor(MEAN_SQUARED_CCA, s) for s in (x, y))
  assert int(fx.k) != int(fy.k)
  product = float(jnp.sum(fx.rows * fy.rows))
  found = product * MEAN_SQUARED_CCA.scale(fx.k, fy.k)
  assert found == pytest.approx(float(MEAN_SQUARED_CCA.score(fx, fy)), abs=1e-6)


def test_the_definition_stands_with_the_number():
  assert 'ridge 0.3 x' in CCA.describe(Parameters(ridge=0.3))
  assert '0.9 of the variance' in MEAN_SQUARED_CCA.describe(Parameters(0.9))
  assert 'first 7 principal' in MEAN_SQUARED_CCA.describe(Parameters(k=7))
