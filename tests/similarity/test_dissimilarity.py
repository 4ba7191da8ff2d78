"""RSA against float64, with ties, near duplicates and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from jaxrep.similarity import dissimilarity
from jaxrep.similarity.dissimilarity import RSA, RSA_COSINE
from tests.similarity import oracle_rows

EXACT = 1e-5
MEASURES = [(RSA, oracle_rows.rsa), (RSA_COSINE, oracle_rows.rsa_cosine)]
both = pytest.mark.parametrize(
  'measure, truth', MEASURES, ids=['rsa', 'cosine']
)


@both
@pytest.mark.parametrize('regime', oracle_rows.REGIMES)
def test_agrees_with_float64(regime, measure, truth):
  x, y = oracle_rows.REGIMES[regime]
  found = oracle_rows.score(measure, x, y)
  assert found == pytest.approx(truth(x, y), abs=EXACT)


@both
def test_changes_only_under_what_it_should(measure, truth):
  oracle_rows.check_changes(measure, oracle_rows.OF_EACH_SIDE)


def test_bug_17_a_constant_vector_changes_nothing():
  x, y = oracle_rows.sides(60, 128, 40)
  shift = 3 * np.random.default_rng(0).normal(size=128)
  by_correlation = [
    pdist(side, 'correlation') for side in (oracle_rows.wide(x), x + shift)
  ]
  assert np.corrcoef(*by_correlation)[0, 1] < 0.95
  base = oracle_rows.score(RSA, x, y)
  assert oracle_rows.score(RSA, x + shift, y) == pytest.approx(base, abs=EXACT)


@both
def test_itself_is_one(measure, truth):
  for x, _ in oracle_rows.REGIMES.values():
    assert oracle_rows.score(measure, x, x) == pytest.approx(1, abs=EXACT)


def classes(count, n=64, seed=0):
  """Labels as random vectors, not one-hot: the distances have few values."""
  prototypes = np.random.default_rng(seed).normal(size=(count, 40))
  return prototypes[np.arange(n) * count // n].astype(np.float32)


def test_nested_classes_by_hand():
  # n = 8 in 2 and in 4 classes: of 28 distances 16 and 24 are not 0. Both are
  # large in 16, none in 4. Phi: (16 * 4 - 0 * 8) / sqrt(16 * 12 * 24 * 4).
  two, four = (np.eye(c)[np.arange(8) * c // 8] for c in (2, 4))
  expected = 64 / np.sqrt(16 * 12 * 24 * 4)
  assert oracle_rows.score(RSA, two, four) == pytest.approx(expected, abs=EXACT)
  # Cosine: 16 common of 16 and 24.
  found = oracle_rows.score(RSA_COSINE, two, four)
  assert found == pytest.approx(16 / np.sqrt(16 * 24), abs=EXACT)


@pytest.mark.parametrize('unit', [1, 0.1, 3e-5])
@pytest.mark.parametrize('offset', [0, 0.7, 30])
def test_ties_are_those_of_exact_arithmetic(unit, offset):
  one_hot = (np.eye(8)[np.arange(64) % 8] * unit + offset * unit).astype('f')
  rng = np.random.default_rng(0)
  signs = rng.choice([-1, 1], (64, 40)) * np.float32(unit)
  for x in (one_hot, signs, classes(4) * np.float32(unit)):
    for y in (classes(8, seed=1), oracle_rows.sides(64)[1]):
      truth = oracle_rows.rsa(x, y)
      assert oracle_rows.score(RSA, x, y) == pytest.approx(truth, abs=EXACT)


def test_the_same_terms_in_another_order_tie():
  # Each row holds the same numbers elsewhere: equal sums but for rounding.
  terms = np.random.default_rng(0).normal(size=23)
  x = np.zeros((24, 24 * 23))
  for i in range(24):
    x[i, 23 * i : 23 * (i + 1)] = np.random.default_rng(i).permutation(terms)
  x[0] = 0
  y = oracle_rows.sides(24)[1]
  truth = oracle_rows.rsa(x, y)
  assert oracle_rows.score(RSA, x, y) == pytest.approx(truth, abs=EXACT)


def test_equally_far_apart_has_no_value():
  assert not oracle_rows.factor(RSA, 3 * np.eye(12)).defined
  assert oracle_rows.factor(RSA_COSINE, 3 * np.eye(12)).defined
  assert not oracle_rows.factor(RSA_COSINE, np.full((12, 9), 0.1)).defined


@pytest.mark.parametrize('offset', [0, 100])
def test_tiny_distances_keep_their_digits(offset):
  # Pairs of near duplicates: in a Gram matrix their distances are rounding.
  rng = np.random.default_rng(0)
  apart = 10.0 ** rng.uniform(-3, -1, (30, 1))
  x = np.repeat(rng.normal(size=(30, 37)) + offset, 2, axis=0)
  x[1::2] += apart * rng.normal(size=(30, 37))
  x = x.astype(np.float32)
  found = dissimilarity.squared_distances(jnp.asarray(x))
  truth = squareform(pdist(oracle_rows.wide(x), 'sqeuclidean'))
  np.testing.assert_allclose(found, truth, rtol=1e-6)


def test_centred_ranks_are_those_of_scipy():
  rng = np.random.default_rng(0)
  values = rng.integers(0, 40, 200).astype(np.float32)
  valid = rng.random(200) < 0.7
  found = dissimilarity.centred_ranks(jnp.asarray(values), jnp.asarray(valid))
  ranks = rankdata(values[valid])
  np.testing.assert_array_equal(found[valid], ranks - ranks.mean())
  assert not np.asarray(found)[~valid].any()


def test_ties_are_within_rounding_but_no_dense_stretch():
  rng = np.random.default_rng(0)
  noise = 1 + 2e-7 * rng.uniform(-1, 1, 2000)
  levels = (rng.integers(1, 40, 2000) * noise).astype(np.float32)
  dense = np.linspace(1, 1.0001, 2000, dtype=np.float32)
  every = jnp.ones(2000, bool)
  for values, expected in ((levels, np.round(levels)), (dense, dense)):
    ranks = dissimilarity.centred_ranks(jnp.asarray(values), every, 1e-6)
    np.testing.assert_array_equal(ranks, rankdata(expected) - 1000.5)


@both
@pytest.mark.parametrize('scale', [1e-25, 1e25])
def test_any_float32_scale_will_do(scale, measure, truth):
  x, y = oracle_rows.sides()
  found = oracle_rows.score(measure, x * np.float32(scale), y)
  assert found == pytest.approx(truth(x, y), abs=EXACT)


@both
def test_mask_is_subset(measure, truth):
  oracle_rows.check_mask_is_subset(measure)


@both
def test_vmapped_is_alone(measure, truth):
  oracle_rows.check_vmapped_is_alone(measure)


def test_null_is_that_of_all_720_pairings():
  values = oracle_rows.check_exact_null(RSA, oracle_rows.rsa)
  assert values.mean() == pytest.approx(0, abs=1e-12)
  oracle_rows.check_exact_null(RSA_COSINE, oracle_rows.rsa_cosine)
