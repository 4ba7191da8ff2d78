"""PWCCA against float64, by hand, and where its definition is ambiguous."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity.measure import Parameters
from jaxrep.similarity.weighted import PWCCA
from tests.similarity import oracle, oracle_cca

EXACT = 1e-5


@pytest.mark.parametrize(
  'cut', [{'variance': 0.99}, {'variance': 0.7}, {'k': 9}]
)
def test_agrees_with_float64(cut):
  def truth(x, y):
    return oracle_cca.pwcca(x, y, **cut)

  oracle_cca.check_regimes(PWCCA, truth, **cut)


def test_one_outlier_leaves_the_digits_that_float32_has():
  x, y = oracle_cca.outlier()
  found = oracle_cca.score(PWCCA, x, y, k=12)
  assert found == pytest.approx(oracle_cca.pwcca(x, y, k=12), abs=1e-4)


def planted(stretch=(3, 1)):
  """Two features on two directions, with correlations 0.9 and 0.2."""
  u, v = oracle.bases(96, [0.9, 0.2, 0.0, 0.0])
  return u[:, :2] * stretch, v


def test_weights_are_of_the_side_with_fewer_components_by_hand():
  # Each variate of x is one feature, so alpha is 3 and 1.
  x, v = planted()
  truth = (3 * 0.9 + 1 * 0.2) / 4
  for y in (v[:, :3], 50 * v[:, :3], v):
    for pair in ((x, y), (y, x)):
      found = oracle_cca.score(PWCCA, *pair, variance=1.0)
      assert found == pytest.approx(truth, abs=1e-6)


def test_equally_many_components_give_the_mean_of_both_weightings():
  x, v = planted()
  y = v[:, :2] * [1, 4]
  truth = ((3 * 0.9 + 1 * 0.2) / 4 + (1 * 0.9 + 4 * 0.2) / 5) / 2
  for pair in ((x, y), (y, x)):
    found = oracle_cca.score(PWCCA, *pair, variance=1.0)
    assert found == pytest.approx(truth, abs=1e-6)


def test_what_is_not_kept_mixes_with_no_correlation_of_zero(monkeypatch):
  # An eigensolver may return any basis of an eigenspace.
  rng = np.random.default_rng(0)

  def mixing(matrix, **_):
    values, vectors = np.linalg.eigh(np.asarray(matrix, np.float64))
    for value in np.unique(np.round(values, 4)):
      same = np.abs(values - value) < 1e-4
      turn = np.linalg.qr(rng.normal(size=(same.sum(),) * 2))[0]
      vectors[:, same] = vectors[:, same] @ turn
    return jnp.asarray(values, 'float32'), jnp.asarray(vectors, 'float32')

  u, v = oracle.bases(96, [0.9, 0.0, 0.5])
  sides = u[:, :2] * [3, 1], v
  fx, fy = (oracle_cca.factor(PWCCA, s, variance=1.0) for s in sides)
  pad = ((0, 0), (0, 5))
  fx = fx._replace(
    rows=jnp.pad(fx.rows, pad), rest=(jnp.pad(fx.rest[0], pad[::-1]),)
  )
  monkeypatch.setattr(jnp.linalg, 'eigh', mixing)
  found = PWCCA.score(fx, fy)
  assert float(found) == pytest.approx(3 * 0.9 / 4, abs=1e-6)


def test_every_feature_counts():
  # Two features along the first variate, in opposite directions.
  x, v = planted((1, 1))
  x = x @ [[2, -2, 0], [0, 0, 1]]
  found = oracle_cca.score(PWCCA, x, v[:, :3], variance=0.999)
  assert found == pytest.approx((4 * 0.9 + 1 * 0.2) / 5, abs=1e-6)


def test_bug_8_a_wider_first_member_has_the_same_value():
  x, y = oracle.related(90, 60, 40)
  wide = oracle_cca.score(PWCCA, x, y, variance=0.99)
  assert wide == pytest.approx(oracle_cca.pwcca(x, y, 0.99), abs=EXACT)
  swapped = oracle_cca.score(PWCCA, y, x, variance=0.99)
  assert swapped == pytest.approx(wide, abs=1e-6)


def test_bug_8_an_offset_changes_nothing():
  x, y = oracle.related(90, 60, 40)
  truth = oracle_cca.score(PWCCA, x, y)
  for moved in ((x + np.float32(8), y), (x, y + np.float32(8))):
    assert oracle_cca.score(PWCCA, *moved) == pytest.approx(truth, abs=EXACT)


def test_identical_is_one_and_orthogonal_is_zero():
  u, v = oracle.bases(96, [0.0] * 30)
  assert oracle_cca.score(PWCCA, u, u, k=30) == pytest.approx(1, abs=2e-6)
  assert oracle_cca.score(PWCCA, u, v, k=30) == pytest.approx(0, abs=1e-6)
  x, _ = oracle.related(60, 128, 60)
  assert oracle_cca.score(PWCCA, x, x) == pytest.approx(1, abs=2e-6)


@pytest.mark.parametrize('rho', [1.0, 0.6])
def test_equal_correlations_leave_no_doubt(rho):
  u, v = oracle.bases(96, [rho] * 5)
  x, y = (side * np.arange(1, 6) @ oracle.rotation(5, 1) for side in (u, v))
  found = oracle_cca.score(PWCCA, x, y, variance=1.0)
  assert found == pytest.approx(rho, abs=1e-6)


def test_some_equal_correlations_leave_little_doubt():
  # Any basis of the three is canonical; the value differs by what their
  # weights add up to.
  rng, (u, v) = (
    np.random.default_rng(0),
    oracle.bases(96, [0.8] * 3 + [0.3] * 9),
  )
  features = rng.normal(size=(12, 40)) * np.arange(1, 13)[:, None] ** -0.5
  x, y = u @ features, v @ rng.normal(size=(12, 40))
  values = []
  for _ in range(20):
    turn = np.eye(12)
    turn[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn[3:, 3:] = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    weights = np.abs(turn.T @ features).sum(axis=1)
    values.append(np.average([0.8] * 3 + [0.3] * 9, weights=weights))
  assert np.ptp(values) < 0.02
  # Both weightings: the other side has no more spread than this one.
  fewer = np.concatenate([y, rng.normal(size=(96, 3))], axis=1)
  found = oracle_cca.score(PWCCA, x, fewer, variance=1.0)
  assert min(values) - 0.03 < found < max(values) + 0.03


def test_correlations_of_one_get_the_weights_of_a_random_basis():
  # k_a + k_b - (n - 1) = 21 correlations are 1, in any basis of their span.
  x, y = oracle.related(60, 60, 60, seed=1)
  k_a, k_b = 38, 42
  found = oracle_cca.score(
    PWCCA, x @ first_axes(x, k_a), y @ first_axes(y, k_b), variance=1.0
  )
  a, b = oracle_cca.components(x, k=k_a), oracle_cca.components(y, k=k_b)
  rho, h = oracle_cca.variates(a, b)
  features = oracle_cca.centred(x @ first_axes(x, k_a))
  ones = k_a + k_b - 59
  assert np.all(rho[:ones] > 1 - 1e-6)
  assert rho[ones] < 1 - 1e-4
  rng, values = np.random.default_rng(0), []
  span = np.linalg.qr(h[:, :ones])[0]
  rest = np.abs(h[:, ones:].T @ features).sum(axis=1)
  for _ in range(400):
    basis = span @ np.linalg.qr(rng.normal(size=(ones, ones)))[0]
    weights = np.concatenate([np.abs(basis.T @ features).sum(axis=1), rest])
    values.append(np.average(rho, weights=weights))
  error = np.std(values) / 20
  assert error < 1e-4
  assert found == pytest.approx(np.mean(values), abs=3 * error)


def first_axes(x, k):
  x = oracle_cca.centred(x)
  return np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :k]


@pytest.mark.parametrize('variance', [0.99, 1.0])
def test_changes_only_under_what_it_should(variance):
  # Its weights are sums over features, so that a rotation changes them.
  unchanged = oracle_cca.OF_ALL - {'rotation'}
  oracle_cca.check_changes(PWCCA, unchanged, changed=5e-4, variance=variance)


def test_sentences():
  oracle_cca.check_sentence_order(PWCCA)
  oracle_cca.check_reordered_factors(PWCCA)
  oracle_cca.check_mask_is_subset(PWCCA)
  oracle_cca.check_vmapped_is_alone(PWCCA)


def test_nothing_that_differs_is_undefined():
  factors = oracle_cca.factor(PWCCA, np.ones((20, 4)))
  assert not factors.defined
  assert np.isfinite(jax.jit(PWCCA.score)(factors, factors))


def test_the_definition_stands_with_the_number():
  definition = PWCCA.describe(Parameters(k=7))
  assert 'first 7 principal' in definition
  assert 'side with fewer components (mean of both if equal)' in definition
