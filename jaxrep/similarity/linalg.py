"""Linear algebra in float32 that is right to about 1e-6.

Every function sets the precision of its products, also of those inside a
decomposition: accelerators multiply float32 in fewer bits unless told. What is
fastest and right differs between backends; `routes` says what is taken.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrep.similarity import newton_schulz

_STRETCH = 256  # terms of a sum in float32 that cost it few digits
_exactly = functools.partial(jax.default_matmul_precision, 'highest')


def routes(platform: str) -> str:
  """How bases and sums of singular values are found there, for the log."""
  bases = 'SVD' if platform == 'tpu' else 'float64 Gram matrices'
  sums = 'LAPACK' if platform == 'cpu' else 'Newton-Schulz iterations'
  return f'bases from {bases}, sums of singular values by {sums}'


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
  """Left singular vectors and singular values, largest first.

  r = p if p <= n / 2; else r = n: a complete basis, whose last vectors have
  singular values 0 if p < n. Where float64 is at hand the vectors are those of
  the Gram matrix, which then loses nothing that float32 input holds; in
  float32 it would lose half of the digits, so a TPU takes an SVD.
  """
  with _exactly():
    return jax.lax.platform_dependent(
      x, tpu=_left_by_svd, default=_left_by_gram
    )


@jax.custom_batching.custom_vmap
def _left_by_gram(
  x: Float[Array, '*lead n p'],
) -> tuple[Float[Array, '*lead n r'], Float[Array, '*lead r']]:
  """Batched as it is written, lest vmap leave what allows float64.

  Both sides of a product are one array and none is its transpose: what XLA
  computes twice it may round in two ways, and that gives no Gram matrix.
  """
  n, p = x.shape[-2:]
  with jax.enable_x64(True):
    wide = x.astype(jnp.float64)
    if p > n / 2:
      products = jnp.einsum('...np,...mp->...nm', wide, wide)
      values, u = jnp.linalg.eigh(products, symmetrize_input=False)
      values, u = values[..., ::-1], u[..., ::-1]
      s = jnp.sqrt(jnp.maximum(values, 0))
    else:
      products = jnp.einsum('...np,...nq->...pq', wide, wide)
      values, v = jnp.linalg.eigh(products, symmetrize_input=False)
      s = jnp.sqrt(jnp.maximum(values[..., ::-1], 0))
      smallest = jnp.finfo(jnp.float32).tiny
      u = wide @ v[..., ::-1] / jnp.maximum(s, smallest)[..., None, :]
    return u.astype(x.dtype), s.astype(x.dtype)


_left_by_gram.def_vmap(
  lambda size, batched, x: (_left_by_gram(x), (True, True))
)


def _left_by_svd(
  x: Float[Array, 'n p'],
) -> tuple[Float[Array, 'n r'], Float[Array, ' r']]:
  """A wide x is first rotated to a square one, which keeps its left side."""
  n, p = x.shape
  if n < p:
    x = jnp.linalg.qr(x.T, mode='r').T
  elif p > n / 2:
    x = jnp.pad(x, ((0, 0), (0, n - p)))
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


def product(
  x: Float[Array, 'm n'], y: Float[Array, 'n l']
) -> Float[Array, 'm l']:
  """x y."""
  with _exactly():
    return x @ y


def long_product(
  x: Float[Array, 'm n'], y: Float[Array, 'l n']
) -> Float[Array, 'm l']:
  """x y', summed in stretches so that long sums keep their digits."""
  length = _stretch(x.shape[1])
  missing = -x.shape[1] % length
  x, y = (jnp.pad(side, ((0, 0), (0, missing))) for side in (x, y))

  def part(start: Int[Array, '']) -> Float[Array, 'm l']:
    left, right = (
      jax.lax.dynamic_slice_in_dim(side, start, length, 1) for side in (x, y)
    )
    return product(left, right.T)

  starts = jnp.arange(0, x.shape[1], length)
  return jnp.sum(jax.lax.map(part, starts), axis=0)


def long_inner(
  x: Float[Array, 'n m'], y: Float[Array, 'n m']
) -> Float[Array, '']:
  """Inner product of two matrices as vectors, a `long_product`."""
  return long_product(x.reshape(1, -1), y.reshape(1, -1))[0, 0]


def _stretch(terms: int) -> int:
  """The longest stretch that divides a sum, if it is not too short."""
  for length in range(min(terms, 2 * _STRETCH), _STRETCH // 4, -1):
    if terms % length == 0:
      return length
  return _STRETCH


def nuclear_norm(matrix: Float[Array, 'k l']) -> Float[Array, '']:
  """Sum of singular values that lie in [0, 1], as it comes: never clamped.

  LAPACK's values on a CPU, where they are cheapest; elsewhere matrix products
  alone, since a batched SVD is slow there and gathers what is sharded.
  """
  with _exactly():
    return jax.lax.platform_dependent(
      matrix, cpu=_sum_of_values, default=newton_schulz.nuclear_norm
    )


def _sum_of_values(matrix: Float[Array, 'k l']) -> Float[Array, '']:
  return jnp.sum(jnp.linalg.svd(matrix, compute_uv=False))
