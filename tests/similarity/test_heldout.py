"""Held-out SVCCA against float64, closed forms and unrelated data."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity import heldout
from jaxrep.similarity.canonical import SVCCA
from jaxrep.similarity.heldout import SVCCA_HELDOUT
from jaxrep.similarity.measure import Parameters
from tests.similarity import oracle, oracle_cca

EXACT = 2e-5  # directions of half the sentences are less certain than all's


def fits(n, splits):
  return np.asarray(heldout.splits_of(jnp.ones(n, bool), splits))


def score(x, y, splits=4, **parameters):
  return oracle_cca.score(SVCCA_HELDOUT, x, y, splits=splits, **parameters)


@pytest.mark.parametrize(
  'cut', [{'variance': 0.99}, {'variance': 0.4}, {'k': 9}]
)
def test_agrees_with_float64(cut):
  def truth(x, y):
    return oracle_cca.heldout(x, y, fits(len(x), 2), **cut)

  oracle_cca.check_regimes(SVCCA_HELDOUT, truth, EXACT, splits=2, **cut)


def test_splits_are_halves_each_fitted_once():
  for n in (60, 61):
    own = fits(n, 5)
    assert own.shape == (10, n)
    assert np.all(own[:5] ^ own[5:])
    assert np.all(own[:5].sum(axis=1) == n // 2)
    assert len(np.unique(own, axis=0)) == 10
    together = (own[:5, :, None] & own[:5, None]).sum(axis=0)
    assert together[~np.eye(n, dtype=bool)].max() <= 5
    share = own[:5].mean(axis=0)
    assert 0 < share.mean() < 1
    assert share.std() > 0.1


def test_every_pair_of_sentences_is_parted_as_often_as_chance():
  own = fits(40, 400)[:400].astype(float)
  together = own.T @ own + (1 - own).T @ (1 - own)
  share = together[~np.eye(40, dtype=bool)] / 400
  # 19 of the 39 others share a sentence's half; each of 1,560 within 5 s.d.
  assert share.mean() == pytest.approx(19 / 39, abs=1e-6)
  assert np.abs(share - 19 / 39).max() < 5 * np.sqrt(0.25 / 400)


def test_padding_moves_no_sentence():
  valid = np.random.default_rng(0).random(60) < 0.6
  own = np.asarray(heldout.splits_of(jnp.asarray(valid), 3))
  assert not own[:, ~valid].any()
  np.testing.assert_array_equal(own[:, valid], fits(valid.sum(), 3))


@pytest.mark.parametrize('spectrum', [0.0, 0.25])
def test_unrelated_data_score_0_where_in_sample_svcca_says_0_9(spectrum):
  rng, scores, inside = np.random.default_rng(0), [], []
  for _ in range(12):
    x, y = (oracle.decaying(120, 160, spectrum, rng) for _ in 'xy')
    scores.append(score(x, y, splits=2))
    inside.append(oracle_cca.score(SVCCA, x, y))
  assert np.mean(inside) > 0.88
  error = np.std(scores, ddof=1) / np.sqrt(len(scores))
  assert error < 0.02
  assert abs(np.mean(scores)) < 2 * error


def test_mean_over_all_pairings_is_0():
  rng = np.random.default_rng(1)
  x, y = (jnp.asarray(rng.normal(size=(6, 2)), jnp.float32) for _ in 'xy')
  parameters = {'left_out': 0.5, 'splits': 1, 'k': 0}
  everyone = jnp.ones(6, bool)

  @jax.jit
  def under(order):
    first, second = (
      SVCCA_HELDOUT.factor(side, everyone, **parameters)
      for side in (x, y[order])
    )
    return SVCCA_HELDOUT.score(first, second)

  orders = jnp.asarray(list(itertools.permutations(range(6))))
  values = np.asarray(jax.lax.map(under, orders), np.float64)
  assert values.std() > 0.1
  assert values.mean() == pytest.approx(0, abs=1e-6)
  law = SVCCA_HELDOUT.law(np.array([3, 4]), np.array([2, 4]), 60)
  np.testing.assert_array_equal(law, [0, 0])


def test_identical_is_one():
  for shape in ((90, 60, 40), (60, 128, 60)):
    x = oracle.related(*shape)[0]
    assert score(x, x) == pytest.approx(1, abs=2e-6)
  assert score(x, -3 * x + 1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize('rho, k', [(0.5, 20), (0.8, 20), (0.8, 4)])
def test_planted_correlations_shrink_as_they_must(rho, k):
  # With h fitted sentences and k equal correlations, the rotation is off by
  # antisymmetric errors of variance (1 - rho^2) / (2 h rho^2) in each entry
  # and the two whitenings differ by symmetric ones of (1 - rho^2) / (2 h), so
  # the expected score is rho (1 - (1 - rho^2) ((k - 1) / rho^2 + k + 1) / 4h).
  n, rng, values = 1000, np.random.default_rng(0), []
  for _ in range(8):
    x, noise = rng.normal(size=(2, n, k))
    y = rho * x + np.sqrt(1 - rho**2) * noise
    values.append(score(x @ oracle.rotation(k), 3 * y, k=k))
  loss = (1 - rho**2) * ((k - 1) / rho**2 + k + 1) / (2 * n)
  error = np.std(values, ddof=1) / np.sqrt(len(values))
  assert error < 0.005
  assert np.mean(values) == pytest.approx(rho * (1 - loss), abs=3 * error)
  if k == 20:
    assert rho - np.mean(values) > 3 * error


def test_a_side_may_have_fewer_components():
  x, y = oracle.related(90, 60, 40)
  thin = y[:, :2]
  truth = oracle_cca.heldout(x, thin, fits(90, 4))
  assert score(x, thin) == pytest.approx(truth, abs=EXACT)
  assert score(thin, x) == pytest.approx(truth, abs=EXACT)
  assert oracle_cca.factor(SVCCA_HELDOUT, thin, splits=4).k == 2


def test_at_most_one_component_for_ten_fitted_sentences():
  x, _ = oracle.related(90, 60, 40)
  assert oracle_cca.factor(SVCCA_HELDOUT, x, splits=4).k == 4
  assert oracle_cca.factor(SVCCA_HELDOUT, x, splits=4, k=9).k == 9
  assert oracle_cca.factor(SVCCA_HELDOUT, x[:, :3], splits=4, k=9).k == 3


def test_changes_only_under_what_it_should():
  oracle_cca.check_changes(
    SVCCA_HELDOUT, oracle_cca.OF_ALL, exact=EXACT, splits=2
  )


def test_the_places_of_the_sentences_matter():
  x, y = oracle.related(90, 60, 40)
  order = np.random.default_rng(0).permutation(90)
  assert abs(score(x[order], y[order]) - score(x, y)) > 1e-3
  assert SVCCA_HELDOUT.fixed_rows


def test_mask_is_subset():
  oracle_cca.check_mask_is_subset(SVCCA_HELDOUT, EXACT, splits=2)


def test_vmapped_is_alone():
  oracle_cca.check_vmapped_is_alone(SVCCA_HELDOUT, splits=2)


def test_a_half_that_does_not_differ_is_undefined():
  # Without its outlier a half has nothing to fit.
  x, _ = oracle.related(60, 60, 60)
  alike = np.zeros_like(x)
  alike[3] = x[3]
  for side in (alike, np.ones_like(x), alike + np.float32(0.1)):
    factors = oracle_cca.factor(SVCCA_HELDOUT, side, splits=2)
    assert not factors.defined
    assert np.isfinite(jax.jit(SVCCA_HELDOUT.score)(factors, factors))


def test_the_definition_stands_with_the_number():
  definition = SVCCA_HELDOUT.describe(Parameters(splits=5))
  assert '5 random splits' in definition
  assert 'at most one for 10 sentences' in definition
  assert 'at most' not in SVCCA_HELDOUT.describe(Parameters(k=5))
