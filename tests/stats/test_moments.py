"""Moments over all pairings: enumerated, simulated, blind to padding."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.stats import moments

SYMMETRIC = jax.jit(moments.summarise), jax.jit(moments.null)
DIRECTED = (
  jax.jit(moments.summarise_directed),
  jax.jit(moments.null_directed),
)


def unit(matrix):
  return matrix / np.linalg.norm(matrix)


def heavy(rng, n, directed=False):
  matrix = rng.standard_t(3, (n, n))
  return unit(matrix if directed else matrix + matrix.T)


def centred_gram(x):
  x = x - x.mean(axis=0)
  return unit(x @ x.T)


def u_centred(x):
  n = len(x)
  gram = centred_gram(x)
  np.fill_diagonal(gram, 0)
  sums = gram.sum(axis=1)
  gram -= (sums[:, None] + sums) / (n - 2) - sums.sum() / ((n - 1) * (n - 2))
  np.fill_diagonal(gram, 0)
  return unit(gram)


def ranks(x):
  distance = np.square(x[:, None] - x).sum(axis=-1)
  pairs = np.triu_indices(len(x), 1)
  matrix = np.zeros(distance.shape)
  order = np.argsort(np.argsort(distance[pairs]))
  matrix[pairs] = order - order.mean()
  return unit(matrix + matrix.T)


def projector(x):
  basis = np.linalg.qr(x - x.mean(axis=0))[0]
  return unit(basis @ basis.T)


def neighbours(x, k=5):
  distance = np.square(x[:, None] - x).sum(axis=-1)
  np.fill_diagonal(distance, np.inf)
  near = np.argsort(distance, axis=1)[:, :k]
  matrix = np.zeros(distance.shape)
  np.put_along_axis(matrix, near, 1, axis=1)
  return unit(matrix)


def found(pair, kind, valid=None):
  summarise, null = kind
  n = len(pair[0])
  valid = np.ones(n, bool) if valid is None else valid
  sides = [
    summarise(jnp.asarray(side, jnp.float32), jnp.asarray(valid))
    for side in pair
  ]
  return np.array(null(*sides, int(valid.sum())), float)


def of_values(values):
  centred = values - values.mean()
  sd = values.std()
  return np.array([values.mean(), sd, (centred**3).mean() / sd**3])


def every_pairing(a, b):
  return of_values(
    np.array(
      [
        np.sum(a * b[np.ix_(order, order)])
        for order in itertools.permutations(range(len(a)))
      ]
    )
  )


@pytest.mark.parametrize('n', [3, 4, 5, 6, 7])
@pytest.mark.parametrize('kind', [SYMMETRIC, DIRECTED])
def test_moments_are_those_of_all_pairings(n, kind):
  rng = np.random.default_rng(n)
  pair = [heavy(rng, n, kind is DIRECTED) for _ in range(2)]
  expected = every_pairing(*pair)
  mean, sd, skewness = found(pair, kind)
  assert mean == pytest.approx(expected[0], abs=3e-7)
  assert sd == pytest.approx(expected[1], rel=3e-6)
  assert skewness == pytest.approx(expected[2], abs=5e-3)


@pytest.mark.parametrize('make', [centred_gram, u_centred, ranks, projector])
def test_moments_of_each_kind_of_matrix_at_six_sentences(make):
  rng = np.random.default_rng(1)
  pair = [make(rng.lognormal(size=(6, p))) for p in (3, 2)]
  expected = every_pairing(*pair)
  mean, sd, skewness = found(pair, SYMMETRIC)
  assert mean == pytest.approx(expected[0], abs=3e-7)
  assert sd == pytest.approx(expected[1], rel=1e-5)
  assert skewness == pytest.approx(expected[2], abs=5e-3)


def test_a_symmetric_matrix_is_a_directed_one():
  rng = np.random.default_rng(2)
  pair = [heavy(rng, 40) for _ in range(2)]
  np.testing.assert_allclose(
    found(pair, DIRECTED), found(pair, SYMMETRIC), rtol=1e-4, atol=1e-6
  )


@pytest.mark.parametrize(
  ('make', 'kind'),
  [
    *((make, SYMMETRIC) for make in (centred_gram, u_centred, ranks)),
    (projector, SYMMETRIC),
    (neighbours, DIRECTED),
  ],
)
def test_moments_agree_with_many_random_pairings(make, kind):
  rng = np.random.default_rng(3)
  scale = rng.lognormal(size=(60, 1))
  pair = [make(scale * rng.normal(size=(60, p))) for p in (12, 30)]
  count = 20_000
  orders = rng.permuted(np.tile(np.arange(60), (count, 1)), axis=1)
  values = np.array([np.sum(pair[0] * pair[1][o][:, o]) for o in orders])
  mean, sd, skewness = found(pair, kind)
  z = (values - mean) / sd
  powers = np.stack([z, z**2 - 1, z**3 - skewness])
  errors = powers.std(axis=1) / np.sqrt(count)
  assert np.all(np.abs(powers.mean(axis=1)) < 4 * errors)


def test_known_values_of_centred_grams():
  rng = np.random.default_rng(4)
  n = 30
  x, y = (rng.normal(size=(n, p)) for p in (40, 7))
  pair = [centred_gram(x), centred_gram(y)]
  mean = np.trace(pair[0]) * np.trace(pair[1]) / (n - 1)
  assert found(pair, SYMMETRIC)[0] == pytest.approx(mean, rel=1e-6)
  mean, sd, _ = found([u_centred(x), u_centred(y)], SYMMETRIC)
  assert mean == pytest.approx(0, abs=1e-7)
  assert sd == pytest.approx(np.sqrt(2 / (n * (n - 3))), rel=1e-6)


@pytest.mark.parametrize('kind', [SYMMETRIC, DIRECTED])
def test_padding_changes_nothing(kind):
  rng = np.random.default_rng(5)
  pair = [heavy(rng, 21, kind is DIRECTED) for _ in range(2)]
  valid = np.ones(34, bool)
  valid[rng.choice(34, 13, replace=False)] = False
  padded = np.zeros((2, 34, 34))
  padded[:, np.flatnonzero(valid)[:, None], np.flatnonzero(valid)] = pair
  np.testing.assert_allclose(
    found(padded, kind, valid), found(pair, kind), rtol=2e-3, atol=1e-6
  )


def test_all_pairs_at_once_are_the_pairs_alone():
  rng = np.random.default_rng(6)
  grams = np.stack([centred_gram(rng.normal(size=(25, 8))) for _ in range(3)])
  summaries = jax.jit(jax.vmap(moments.summarise, in_axes=(0, None)))(
    jnp.asarray(grams, jnp.float32), jnp.ones(25, bool)
  )
  whole = np.array(moments.null(summaries[:, None], summaries[None], 25))
  assert whole.shape == (3, 3, 3)
  for i, j in itertools.product(range(3), repeat=2):
    alone = found(grams[[i, j]], SYMMETRIC)
    np.testing.assert_allclose(whole[:, i, j], alone, rtol=2e-3, atol=1e-6)


def test_a_matrix_that_no_pairing_changes_has_no_spread():
  rng = np.random.default_rng(7)
  even = unit(np.eye(20) - 1 / 20)  # all sentences equally far apart
  other = heavy(rng, 20)
  order = rng.permutation(20)
  mean, sd, skewness = found([even, other], SYMMETRIC)
  assert (sd, skewness) == (0, 0)
  value = np.sum(even * other[np.ix_(order, order)])
  assert mean == pytest.approx(value, abs=1e-6)


def test_triangles_of_large_matrices_by_halves():
  rng = np.random.default_rng(8)
  matrix = centred_gram(rng.normal(size=(301, 5)))
  expected = np.trace(matrix @ matrix @ matrix)
  value = moments._triangles(jnp.asarray(matrix, jnp.float32))
  assert float(value) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize('n', [2_000, 100_000])
def test_one_direction_in_many_sentences_gives_a_chi_square(n):
  # rest = v v': the score is (v_a . v_b)^2, chi-square of one degree / n.
  summary = jnp.zeros(23).at[jnp.array([20, 22])].set(1)
  _, sd, skewness = SYMMETRIC[1](summary, summary, n)
  assert float(sd) == pytest.approx(np.sqrt(2) / n, rel=5 / n + 1e-5)
  assert float(skewness) == pytest.approx(np.sqrt(8), rel=20 / n + 1e-5)
