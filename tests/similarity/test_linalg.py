"""Products and decompositions in float32 against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity import linalg
from tests.similarity import oracle


@pytest.mark.parametrize('offset', [0, 1, 100])
@pytest.mark.parametrize('scale', [1e-6, 1, 1e6])
def test_centre_keeps_the_digits(offset, scale):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(400, 64)) + offset * rng.normal(size=64)
  x = (x * scale).astype(np.float32)
  centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
  centred /= np.abs(centred).max()
  found = linalg.centre(jnp.asarray(x), jnp.ones(400, bool))
  np.testing.assert_allclose(found, centred, rtol=0, atol=3e-7)


def test_centre_is_exact_in_any_fusion():
  # Multiply and subtract contracted to one rounding left 1e-3 of rms here.
  x = np.random.default_rng(0).normal(size=(90, 50)).astype(np.float32)
  x[:, 8] = 1e5

  def fused(x, valid):
    centred = linalg.centre(x, valid)
    return centred, jnp.linalg.svd(centred, compute_uv=False)

  centred, s = jax.jit(fused)(x, np.ones(90, bool))
  assert np.abs(centred[:, 8]).max() < 1e-8
  assert s[-1] < 1e-6


def test_centre_ignores_what_is_not_valid():
  x = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
  valid = np.arange(12) % 3 != 0
  x[~valid] = np.nan
  found = np.asarray(linalg.centre(jnp.asarray(x), jnp.asarray(valid)))
  alone = linalg.centre(jnp.asarray(x[valid]), jnp.ones(8, bool))
  np.testing.assert_allclose(found[valid], alone, atol=1e-7)
  assert not found[~valid].any()


@pytest.mark.parametrize('shape', [(96, 200), (96, 96), (200, 96)])
def test_left_singular_is_a_factor_of_x(shape):
  rng = np.random.default_rng(0)
  x = oracle.decaying(*shape, 0.7, rng).astype(np.float32)
  u, s = (
    np.asarray(a, np.float64) for a in linalg.left_singular(jnp.asarray(x))
  )
  exact = np.linalg.svd(x.astype(np.float64), compute_uv=False)
  np.testing.assert_allclose(s, exact, rtol=0, atol=2e-6 * exact[0])
  np.testing.assert_allclose(u.T @ u, np.eye(u.shape[1]), atol=3e-6)


def test_bug_21_the_basis_is_within_1e_5_of_float64():
  # The eigenvectors of the n x n Gram are 3e-2 off at the largest k.
  spectrum = np.logspace(0, -3, 120)
  x = oracle.rotation(120) * spectrum @ oracle.rotation(256)[:120]
  x = x.astype(np.float32)
  exact = np.linalg.svd(x.astype(np.float64), full_matrices=False)[0]
  found = np.asarray(linalg.left_singular(jnp.asarray(x))[0], np.float64)
  for k in (20, 50, 80, 115):
    basis = np.linalg.qr(found[:, :k])[0]
    cosines = np.linalg.svd(exact[:, :k].T @ basis, compute_uv=False)
    assert 1 - cosines.min() < 1e-5, k
    np.testing.assert_allclose(
      found[:, :k].T @ found[:, :k], np.eye(k), atol=3e-6
    )


def test_rank_is_relative_to_the_largest_singular_value():
  s = jnp.array([1e-3, 1e-5, 1e-11, 0])
  assert linalg.rank(s, 100, 64) == 2
  assert linalg.rank(1e9 * s, 100, 64) == 2
  assert linalg.rank(0 * s, 100, 64) == 0


@pytest.mark.parametrize(
  'matrix',
  [
    pytest.param(np.eye(90), id='all ones'),
    pytest.param(np.diag([1.0] * 60 + [0.0] * 30), id='ones and zeros'),
    pytest.param(np.zeros((40, 40)), id='zero'),
    pytest.param(np.diag(np.logspace(0, -9, 64)), id='nine decades'),
    pytest.param(np.outer(np.ones(50), np.ones(30)) / 40, id='rank one'),
    pytest.param(
      oracle.rotation(150)[:100, :100], id='bug 20: repeated ones within'
    ),
  ],
)
def test_nuclear_norm_is_the_sum_of_singular_values(matrix):
  left, right = (oracle.rotation(size, size) for size in matrix.shape)
  mixed = jnp.asarray(left @ matrix @ right, np.float32)
  found = linalg.nuclear_norm(mixed) / min(matrix.shape)
  exact = np.linalg.svd(matrix, compute_uv=False).mean()
  np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
  'function',
  [
    linalg.gram,
    linalg.left_singular,
    linalg.nuclear_norm,
    lambda x: linalg.cross(x, x),
  ],
  ids=['gram', 'left_singular', 'nuclear_norm', 'cross'],
)
def test_no_product_on_an_accelerator_is_left_at_a_lower_precision(function):
  x = jax.ShapeDtypeStruct((48, 64), np.float32)
  with jax.default_matmul_precision('bfloat16'):
    program = jax.jit(function).trace(x).lower(lowering_platforms=('tpu',))
  products = [
    line for line in program.as_text().splitlines() if 'dot_general' in line
  ]
  assert products
  assert all('HIGHEST' in line for line in products)


def test_the_log_says_what_each_backend_does():
  assert 'float64 Gram' in linalg.routes('cpu')
  assert 'LAPACK' in linalg.routes('cpu')
  assert 'Newton-Schulz' in linalg.routes('gpu')
  assert linalg.routes('tpu').startswith('bases from SVD')


@pytest.mark.parametrize('terms', [7, 1024, 4099, 90_000])
def test_long_sums_keep_their_digits(terms):
  rng = np.random.default_rng(0)
  # Equal terms are the worst: each is rounded the same way.
  x, y = np.full((3, terms), 0.1), rng.random((2, terms))
  y[1] = 0.1
  found = jax.jit(linalg.long_product)(
    jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
  )
  np.testing.assert_allclose(found, x @ y.T, rtol=2e-6)
