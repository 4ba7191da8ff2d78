"""Linear algebra in float32 that is right to about 1e-6.

Every function sets the precision of its products, also of those inside a
decomposition: accelerators multiply float32 in fewer bits unless told.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_exactly = functools.partial(jax.default_matmul_precision, 'highest')


def centre(
  x: Float[Array, 'n p'], valid: Bool[Array, ' n']
) -> Float[Array, 'n p']:
  """Valid rows minus their mean, the largest entry scaled to 1; others zero.

  The mean goes in steps: first its leading bits, so that nothing is rounded
  where the offset is large, then what remains of it. A compiler may fuse
  x - sum * (1 / n) in one place and not in another, which would leave an error
  of the size of the offset's last digits. Scaling keeps fourth powers of any
  float32 input in range.
  """
  valid = valid[:, None]
  for bits in (12, 12, 23):
    mean = jnp.sum(x, axis=0, where=valid) / jnp.sum(valid)
    x = jnp.where(valid, x - jax.lax.reduce_precision(mean, 8, bits), 0)
  largest = jnp.max(jnp.abs(x))
  return x / jnp.where(largest > 0, largest, 1)


def left_singular(
  x: Float[Array, 'n p'],
) -> tuple[Float[Array, 'n r'], Float[Array, ' r']]:
  """Left singular vectors and singular values, r = min(n, p).

  By SVD, not by the eigenvectors of x x': in float32 those lose half of the
  digits of the smaller directions. A wide x is first rotated to a square one,
  which leaves the left side as it is.
  """
  n, p = x.shape
  with _exactly():
    if n < p:
      x = jnp.linalg.qr(x.T, mode='r').T
    u, s, _ = jnp.linalg.svd(x, full_matrices=False)
  return u, s


def rank(
  s: Float[Array, ' r'], n: Int[Array, ''] | int, p: int
) -> Int[Array, '']:
  """Singular values above the rounding errors of an n x p matrix."""
  cut = jnp.finfo(s.dtype).eps * jnp.maximum(n, p) * s[0]
  return jnp.sum(s > cut)


def gram(x: Float[Array, 'n p']) -> Float[Array, 'n n']:
  """Inner products of the rows."""
  with _exactly():
    return x @ x.T


def cross(
  x: Float[Array, 'n k'], y: Float[Array, 'n l']
) -> Float[Array, 'k l']:
  """Inner products of the columns."""
  with _exactly():
    return x.T @ y


def nuclear_norm(matrix: Float[Array, 'k l']) -> Float[Array, '']:
  """Sum of the singular values, as it comes: never clamped."""
  with _exactly():
    return jnp.sum(jnp.linalg.svd(matrix, compute_uv=False))
