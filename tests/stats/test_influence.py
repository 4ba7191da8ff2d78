"""Influences against brute force in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity import alignment
from jaxrep.stats import influence
from tests.similarity import oracle

FACTORS = {
  'cka': (alignment.factor, oracle.cka),
  'cka_debiased': (alignment.factor_debiased, oracle.cka_debiased),
}

SPREAD = jax.jit(influence.spread)
INFLUENCES = jax.jit(influence.influences)


def matrices(x, y, factor, n=None):
  """Rows of both factors, [1, n, n] each, and which of them count."""
  n = n or len(x)
  valid = jnp.arange(n) < len(x)
  padded = [np.full((n, s.shape[1]), np.nan, np.float32) for s in (x, y)]
  for full, side in zip(padded, (x, y), strict=True):
    full[: len(x)] = side
  rows = jax.jit(factor)
  return *(rows(jnp.asarray(s), valid).rows[None] for s in padded), valid


def left_out(score, x, y, groups):
  """(g-1)/g times what each group moves the score, minus its mean."""
  without = [
    score(np.delete(x, group, axis=0), np.delete(y, group, axis=0))
    for group in groups
  ]
  change = score(x, y) - np.array(without)
  return (len(groups) - 1) / len(groups) * (change - change.mean())


def spread(x, y, name, clusters=None, n=None, chance_sd=0.0):
  a, b, valid = matrices(x, y, FACTORS[name][0], n)
  zero = jnp.zeros((1, 1))
  return SPREAD(a, b, valid, zero, zero + chance_sd, clusters)


@pytest.mark.parametrize('name', FACTORS)
def test_influences_are_those_of_the_brute_force_jackknife(name):
  factor, score = FACTORS[name]
  x, y = oracle.related(30, 20, 40)
  x[3] *= 3  # one sentence that matters
  found = INFLUENCES(*matrices(x, y, factor))[:, 0, 0]
  expected = left_out(score, x, y, np.arange(30)[:, None])
  scale = np.abs(expected).max()
  np.testing.assert_allclose(found, expected, atol=1e-4 * scale)


def test_influences_of_clusters_are_those_of_leaving_them_out():
  sizes = np.tile([2, 3], 12)
  clusters = np.repeat(np.arange(24), sizes)
  x, y = (side[clusters] for side in oracle.related(24, 20, 40))
  rng = np.random.default_rng(1)
  x, y = (
    np.float32(side + rng.normal(size=side.shape) * side.std() / 2)
    for side in (x, y)
  )
  ids = jnp.asarray(clusters)
  groups = [np.flatnonzero(clusters == i) for i in range(24)]
  for factor, score in FACTORS.values():
    a, b, valid = matrices(x, y, factor)
    found = INFLUENCES(a, b, valid, ids)[:, 0, 0]
    expected = left_out(score, x, y, groups)
    # Centring anew is of the order of a cluster's share of the sentences.
    difference = np.linalg.norm(found[:24] - expected)
    assert difference < 0.05 * np.linalg.norm(expected)
    assert not np.any(found[24:])


def test_pairs_of_sentences_are_counted_once():
  x, y = oracle.related(30, 20, 40, decay=0)
  gram = [oracle._hollow_gram(side) for side in (x, y)]
  a, b = (centred(g) / np.linalg.norm(centred(g)) for g in gram)
  value = np.sum(a * b)
  twofold = 2 * np.sum(centred(a * b - value / 2 * (a**2 + b**2)) ** 2)
  moved = left_out(oracle.cka_debiased, x, y, np.arange(30)[:, None])
  jackknife = np.sum(moved**2) * 30 / 29
  assert 0.2 < twofold / jackknife < 0.45  # else the test shows nothing
  found = spread(x, y, 'cka_debiased').error[0, 0]
  np.testing.assert_allclose(found**2, jackknife - twofold, rtol=1e-3)


def centred(matrix):
  """U-centred: the oracle's route is least squares on row effects."""
  n = len(matrix)
  first, second = np.triu_indices(n, 1)
  design = np.zeros((len(first), n))
  design[np.arange(len(first)), first] = 1
  design[np.arange(len(first)), second] = 1
  entries = matrix[first, second]
  effects = np.linalg.lstsq(design, entries, rcond=None)[0]
  rest = np.zeros((n, n))
  rest[first, second] = entries - design @ effects
  return rest + rest.T


def test_clusters_of_one_sentence_are_sentences():
  x, y = oracle.related(30, 20, 40)
  alone = spread(x, y, 'cka_debiased')
  clustered = spread(x, y, 'cka_debiased', jnp.arange(30)[::-1])
  np.testing.assert_allclose(clustered.error, alone.error, rtol=1e-4)
  np.testing.assert_allclose(
    clustered.influence[::-1], alone.influence, atol=1e-6
  )


@pytest.mark.parametrize('clustered', [False, True])
def test_padding_changes_nothing(clustered):
  x, y = oracle.related(30, 20, 40)
  ids = jnp.arange(37) // 2 if clustered else None
  short = ids[:30] if clustered else None
  name = 'cka_debiased' if clustered else 'cka'
  alone = spread(x, y, name, short, chance_sd=0.05)
  padded = spread(x, y, name, ids, 37, chance_sd=0.05)
  for one, other in zip(alone[1:], padded[1:], strict=True):
    np.testing.assert_allclose(other, one, rtol=2e-4, atol=1e-6)
  moved = padded.influence[:30]
  np.testing.assert_allclose(moved, alone.influence, rtol=2e-4, atol=1e-6)
  assert not np.any(padded.influence[30:])


def test_the_norm_of_the_influences_is_the_error():
  x, y = oracle.related(30, 20, 40)
  for chance_sd in (0.0, 0.1):
    found = spread(x, y, 'cka', chance_sd=chance_sd)
    norm = np.linalg.norm(found.influence, axis=0)
    np.testing.assert_allclose(norm, found.error, rtol=1e-5)


def test_near_chance_the_error_is_at_least_that_of_chance():
  rng = np.random.default_rng(0)
  x, y = np.float32(rng.normal(size=(2, 30, 20)))
  chance_sd = 0.2
  value = oracle.cka_debiased(x, y)
  found = spread(x, y, 'cka_debiased', chance_sd=chance_sd)
  room = 1 - max(value, 0)
  assert found.error >= 0.999 * room * chance_sd
  same = spread(x, x, 'cka_debiased', chance_sd=chance_sd)
  assert same.error < 1e-3 * chance_sd


def test_chance_moves_with_the_sentences_too():
  x, y = oracle.related(30, 20, 40)
  a, b, valid = matrices(x, y, alignment.factor)
  sd = 0.01 * jnp.ones((1, 1))
  found = SPREAD(a, b, valid, jnp.array([[floor(x, y)]]), sd)
  moved = left_out(floor, x, y, np.arange(30)[:, None])
  own = np.sum(moved**2) * 30 / 29
  twofold = found.chance_error**2 - own
  again = SPREAD(a, b, valid, 0 * sd, sd).chance_error ** 2
  np.testing.assert_allclose(twofold, again, atol=1e-3 * own)
  assert own > 0.1 * again


def floor(x, y):
  """Mean of CKA over all pairings, by its definition."""
  grams = [s @ s.T for s in (side - side.mean(axis=0) for side in (x, y))]
  traces = [np.trace(gram) / np.linalg.norm(gram) for gram in grams]
  return np.prod(traces) / (len(x) - 1)


def test_no_influence_where_one_sentence_is_all_there_is():
  # What is left without it is lost in float32's rounding of the rest.
  whole, y = oracle.related(12, 5, 5)
  for rest in (0, *np.geomspace(1e-5, 1e-2, 12)):
    x = np.float32(rest * whole / np.abs(whole).max())
    x[4] = 1
    a, b, valid = matrices(x, y, alignment.factor)
    assert np.isnan(INFLUENCES(a, b, valid)[4, 0, 0])


def test_all_pairs_are_those_of_each_pair():
  sides = [*oracle.related(30, 20, 40), *oracle.related(30, 20, 40, seed=1)]
  rows = [matrices(s, s, alignment.factor)[0] for s in sides]
  valid = jnp.ones(30, bool)
  chance = jnp.asarray(np.random.default_rng(0).uniform(0, 0.2, (2, 2)))
  stacks = jnp.concatenate(rows[:2]), jnp.concatenate(rows[2:])
  together = SPREAD(*stacks, valid, chance, chance / 2)
  for i in range(2):
    for j in range(2):
      at = chance[i : i + 1, j : j + 1]
      alone = SPREAD(rows[i], rows[j + 2], valid, at, at / 2)
      for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(
          one[..., 0, 0], other[..., i, j], rtol=1e-3, atol=1e-6
        )


def test_degrees_of_freedom_fall_where_few_sentences_carry_the_error():
  n = 50
  even = np.where(np.arange(n) % 2, 1.0, -1.0)
  normal = np.random.default_rng(0).normal(size=n)
  kurtosis = n * np.sum(normal**4) / np.sum(normal**2) ** 2
  outlier = np.eye(n)[0] - 1 / n
  padded = np.zeros((n + 9, 3), np.float32)
  padded[:n] = np.stack([even, normal, outlier], axis=1)
  found = influence.degrees(jnp.asarray(padded), jnp.arange(n + 9) < n)
  expected = [n - 1, min(2 * n / (kurtosis - 1), n - 1), 2]
  np.testing.assert_allclose(found, expected, rtol=0.1)


def test_replicates_have_the_spread_of_the_influences_jointly():
  rng = np.random.default_rng(0)
  moved = np.float32(rng.normal(size=(30, 2, 2)))
  moved[:, 1, 1] = moved[:, 0, 0]
  key = jax.random.key(0)
  found = np.asarray(influence.replicates(jnp.asarray(moved), key, 20_000))
  covariance = np.cov(found.reshape(-1, 4).T)
  flat = moved.reshape(30, 4)
  np.testing.assert_allclose(covariance, flat.T @ flat, atol=1.5)
  np.testing.assert_array_equal(found[:, 1, 1], found[:, 0, 0])
