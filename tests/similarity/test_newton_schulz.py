"""Newton-Schulz against float64 SVDs, on spectra of every kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity import newton_schulz

EXACT = 1e-6  # of the mean singular value
# Shapes and how many of each: 10,000 matrices.
SHAPES = {
  (4, 4): 2000,
  (7, 5): 2000,
  (12, 12): 2000,
  (16, 30): 1500,
  (33, 20): 1000,
  (48, 48): 800,
  (64, 64): 620,
  (140, 140): 60,
  (350, 350): 20,
}


def random(rng, shape):
  return rng.random(shape)


def one_value(rng, shape):
  return np.broadcast_to(10 ** rng.uniform(-7, 0, (shape[0], 1)), shape)


def ones(rng, shape):
  return np.ones(shape)


def ones_and_zeros(rng, shape):
  return (rng.random(shape) < 0.5).astype(float)


def rank_one(rng, shape):
  return np.eye(1, shape[1]) * rng.random((shape[0], 1))


def nine_decades(rng, shape):
  return 10 ** rng.uniform(-9, 0, shape)


def cluster_near_zero(rng, shape):
  return np.where(rng.random(shape) < 0.2, 0.7, 3e-6 * rng.random(shape))


def cluster_near_one(rng, shape):
  return 1 + 1e-6 * rng.normal(size=shape)


def above_one(rng, shape):
  return 1 + 1e-3 * rng.random(shape)


SPECTRA = (
  *(random, one_value, ones, ones_and_zeros, rank_one, nine_decades),
  *(cluster_near_zero, cluster_near_one, above_one),
)


def orthonormal(rng, count, n, k):
  return np.linalg.qr(rng.normal(size=(count, n, k)))[0]


def with_spectrum(rng, s, rows, columns):
  """Matrices whose singular values are the rows of s."""
  count, r = s.shape
  left, right = (orthonormal(rng, count, n, r) for n in (rows, columns))
  return (left * s[:, None]) @ right.mT


def subspaces(rng, count, a, b):
  """U'V of random subspaces, half of which must share directions."""
  n = max(a, b) + 2 if count % 2 else a + b + 3
  return orthonormal(rng, count, n, a).mT @ orthonormal(rng, count, n, b)


def matrices(rows, columns, count, seed):
  rng, each = np.random.default_rng(seed), count // 10
  made = [
    with_spectrum(rng, spectrum(rng, (each, min(rows, columns))), rows, columns)
    for spectrum in SPECTRA
  ]
  made.append(subspaces(rng, count - each * len(made), rows, columns))
  made = np.concatenate(made).astype(np.float32)
  padded = rng.random(count) < 0.2
  made[padded, rows // 2 :] = 0
  made[padded, :, columns // 3 :] = 0
  return made


@pytest.mark.parametrize('shape', SHAPES)
def test_mean_singular_value_of_random_and_degenerate_matrices(shape):
  batch = matrices(*shape, SHAPES[shape], seed=sum(shape))
  assert len(batch) == SHAPES[shape]
  truth = np.linalg.svd(batch.astype(np.float64), compute_uv=False).mean(-1)
  found = jax.jit(jax.vmap(newton_schulz.nuclear_norm))(batch) / min(shape)
  np.testing.assert_allclose(found, truth, atol=EXACT, rtol=0)


def test_there_are_ten_thousand():
  assert sum(SHAPES.values()) == 10_000


def test_no_singular_value_is_worse_than_the_bound():
  # Where a step is steepest lie the values that rounding moves most.
  s = np.concatenate(
    [np.logspace(-9, 0, 200_001), np.linspace(0, 1.01, 200_001)]
  )
  s = s.astype(np.float32)
  one = jax.vmap(newton_schulz.nuclear_norm)
  found = np.asarray(jax.jit(one)(s[:, None, None]), np.float64)
  assert np.abs(found - s).max() < 6e-7
  exact = s.astype(np.float64)
  for a, b, c in newton_schulz.STEPS:
    exact = exact * (a + b * exact**2 + c * exact**4)
  assert np.abs(s * (1 - exact)).max() < 3e-7
  assert np.abs(1 - exact[s > 4e-6]).max() < 2e-7


def test_each_step_is_the_best_approximation_on_its_interval():
  # Chebyshev: the error of the best one has its greatest size at as many
  # points as there are coefficients and one more, with alternating signs.
  least, high = 10**-5.5, 1.01
  for a, b, c in newton_schulz.STEPS[:-1]:
    x = np.linspace(max(least, 0.06 * high), high, 400_001)
    error = x * (a + b * x**2 + c * x**4) - 1
    turns = np.flatnonzero(np.diff(np.sign(np.diff(error)))) + 1
    extremes = error[[0, *turns, -1]]
    assert len(extremes) == 4
    # The coefficients are written to six decimals.
    np.testing.assert_allclose(
      extremes, extremes[0] * np.array([1, -1, 1, -1]), rtol=0.02
    )
    # No large value may come near 0: float32 would lose its direction.
    assert 1 + error.min() > 0.2 * (1 + error.max())
    least *= a + b * least**2 + c * least**4
    least, high = min(least, 1 + error.min()), 1.003 * (1 + extremes[1])


@pytest.mark.parametrize('shape', [(9, 9), (12, 5), (5, 12)])
def test_polar_factor(shape):
  rng = np.random.default_rng(0)
  s = np.full((1, min(shape)), 0.3)
  s[0, :5] = 1, 0.6, 0.6, 1e-2, 1e-4
  matrix = with_spectrum(rng, s, *shape)[0]
  u, _, vt = np.linalg.svd(matrix, full_matrices=False)
  truth = u @ vt
  # A float32 matrix holds the directions of 1e-4 to 6e-8 / 1e-4.
  found = jax.jit(newton_schulz.polar)(matrix.astype(np.float32))
  np.testing.assert_allclose(found, truth, atol=2e-3)
  strong = (found - truth) @ vt[:3].T
  np.testing.assert_allclose(strong, 0, atol=2e-6)


def test_padding_stays_zero_and_changes_nothing():
  matrix = subspaces(np.random.default_rng(0), 2, 8, 6)[0].astype(np.float32)
  alone = newton_schulz.polar(jnp.asarray(matrix))
  padded = newton_schulz.polar(jnp.pad(matrix, ((0, 5), (0, 9))))
  np.testing.assert_allclose(padded[:8, :6], alone, atol=1e-6)
  assert not np.any(padded[8:])
  assert not np.any(padded[:, 6:])
  assert not np.any(newton_schulz.polar(jnp.zeros((4, 3))))


@pytest.mark.parametrize('decades', [0, 2, 5])
def test_a_scaled_matrix_loses_what_the_bound_is_loose(decades):
  # The error of a singular value is absolute: 3e-7 of the bound.
  rng, k = np.random.default_rng(0), 60
  s = np.logspace(0, -decades, k)[None]
  matrix = 30 * with_spectrum(rng, s, k, k)[0].astype(np.float32)
  truth = np.linalg.norm(matrix.astype(np.float64), 'nuc')
  bound = np.linalg.norm(matrix)
  found = bound * newton_schulz.nuclear_norm(jnp.asarray(matrix / bound))
  assert abs(found - truth) / k < 4e-7 * bound
