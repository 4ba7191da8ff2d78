"""Exact moments of sum_ij A_ij B_p(i)p(j) over all pairings p of n sentences.

A matrix splits into parts that no pairing mixes: the mean of its diagonal and
of its other entries, vectors of row effects (`effects`, which sum to zero),
and what remains (`rest`: zero diagonal, zero row sums; a symmetric and, of a
directed matrix, an antisymmetric part). Each moment is then a sum of products
(form of A) x (form of B) / constant, with one such product for each way in
which the parts combine to something that no pairing changes (Schur's lemma):
the forms of a matrix are a short vector, made once. For matrices of norm 1 the
first two are the RV coefficient's (Kazi-Aoual et al., "Refined approximations
to permutation tests for multivariate inference", CSDA 1995). No term cancels
another, so float32 keeps its digits.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Moments = tuple[
  Float[Array, '*batch'], Float[Array, '*batch'], Float[Array, '*batch']
]
# A variance below this, at norm 1, is that of float32's rounding of the score.
_ROUNDING = (8 * 2.0**-23) ** 2
_BLOCK = 128  # smaller products save nothing more
Summaries = Float[Array | np.ndarray, '*#batch q']
Count = Int[Array, '*#batch'] | int


def summarise(
  matrix: Float[Array, 'n n'], valid: Bool[Array, ' n']
) -> Float[Array, ' q']:
  """What `null` needs of a symmetric matrix, zero in rows that do not count.

  Args:
    matrix: [n, n], symmetric; the best scale is a Frobenius norm of 1.
    valid: the sentences that count.
  """
  n = jnp.sum(valid, dtype=matrix.dtype)
  means, effects, rest = _split(matrix, valid, n)
  return jnp.concatenate([means, *_forms(effects, rest)])


def null(
  first: Summaries,
  second: Summaries,
  n: Count,
) -> Moments:
  """Mean, sd and skewness over all n! pairings, exactly; n of 3 or more.

  Summaries broadcast. The skewness is 0 where the sd is 0: every pairing
  gives the mean.
  """
  return _null(first, second, n, 2)


def summarise_directed(
  matrix: Float[Array, 'n n'], valid: Bool[Array, ' n']
) -> Float[Array, ' q']:
  """What `null_directed` needs of any matrix; arguments as of `summarise`."""
  n = jnp.sum(valid, dtype=matrix.dtype)
  means, effects, rest = _split((matrix + matrix.T) / 2, valid, n)
  turn = (matrix - matrix.T) / 2
  u = jnp.sum(turn, axis=1) / n
  turn = jnp.where(valid[:, None] & valid, turn - u[:, None] + u, 0)
  effects = jnp.concatenate([effects, jnp.sqrt(2 * n) * u[None]])
  return jnp.concatenate(
    [means, *_forms(effects, rest), *_turn_forms(effects, rest, turn)]
  )


def null_directed(
  first: Summaries,
  second: Summaries,
  n: Count,
) -> Moments:
  """As `null`, of any matrices."""
  return _null(first, second, n, 3)


def _split(
  matrix: Float[Array, 'n n'], valid: Bool[Array, ' n'], n: Float[Array, '']
) -> tuple[Float[Array, '2'], Float[Array, '2 n'], Float[Array, 'n n']]:
  """Means, effects and rest of a symmetric matrix, scaled to keep its norm."""
  diagonal = jnp.diagonal(matrix)
  sums = jnp.sum(matrix, axis=1, where=~jnp.eye(valid.size, dtype=bool))
  mean = jnp.sum(sums) / (n * (n - 1))
  middle = jnp.sum(diagonal) / n
  row = jnp.where(valid, sums - (n - 1) * mean, 0) / (n - 2)
  own = jnp.where(valid, diagonal - middle, 0)
  pairs = valid[:, None] & valid & ~jnp.eye(valid.size, dtype=bool)
  rest = jnp.where(pairs, matrix - (mean + row[:, None] + row), 0)
  means = jnp.stack([jnp.sqrt(n * (n - 1)) * mean, jnp.sqrt(n) * middle])
  return means, jnp.stack([jnp.sqrt(2 * (n - 2)) * row, own]), rest


def _forms(
  effects: Float[Array, 'c n'], rest: Float[Array, 'n n']
) -> list[Float[Array, ' _']]:
  """Forms of second and third degree that no reordering changes."""
  square = jnp.square(rest)
  exactly = {'precision': 'highest'}
  return [
    jnp.einsum('ci,di->cd', effects, effects, **exactly).ravel(),
    jnp.einsum('ci,di,ei->cde', *[effects] * 3, **exactly).ravel(),
    jnp.einsum('ci,ij,dj->cd', effects, rest, effects, **exactly).ravel(),
    jnp.sum(effects * jnp.sum(square, axis=1), axis=1),
    jnp.stack(
      [
        jnp.sum(square),
        jnp.sum(square * rest),
        _triangles(rest),
      ]
    ),
  ]


def _turn_forms(
  effects: Float[Array, 'c n'],
  rest: Float[Array, 'n n'],
  turn: Float[Array, 'n n'],
) -> list[Float[Array, ' _']]:
  """As `_forms`, those in which the antisymmetric part enters."""
  exactly = {'precision': 'highest'}
  square = jnp.square(turn)
  return [
    jnp.einsum('ci,ij,dj->cd', effects, turn, effects, **exactly).ravel(),
    jnp.sum(effects * jnp.sum(rest * turn, axis=1), axis=1),
    jnp.sum(effects * jnp.sum(square, axis=1), axis=1),
    jnp.stack(
      [
        jnp.sum(square),
        jnp.sum(rest * square),
        -jnp.sum(_paths(rest, turn) * turn),
      ]
    ),
  ]


def _triangles(matrix: Float[Array, 'n n']) -> Float[Array, '']:
  """Trace of the third power of a symmetric matrix.

  By halves, [[p, q], [q', s]]: 3/8 of the multiplications of the whole.
  """
  n = matrix.shape[0]
  if n <= _BLOCK:
    return jnp.sum(_paths(matrix, matrix) * matrix)
  p, q = matrix[: n // 2, : n // 2], matrix[: n // 2, n // 2 :]
  s = matrix[n // 2 :, n // 2 :]
  across = jnp.sum((_paths(p, q) + _paths(q, s)) * q)
  return _triangles(p) + _triangles(s) + 3 * across


def _paths(
  a: Float[Array, 'm n'], b: Float[Array, 'n k']
) -> Float[Array, 'm k']:
  """a @ b in bfloat16, right to the 3 digits that a skewness needs."""
  return jnp.matmul(
    a.astype(jnp.bfloat16),
    b.astype(jnp.bfloat16),
    preferred_element_type=jnp.float32,
  )


def _null(
  first: Summaries,
  second: Summaries,
  n: Count,
  c: int,
) -> Moments:
  """`null`, or with c = 3 vectors of effects `null_directed`."""
  n = jnp.asarray(n, jnp.float32)  # its cube is beyond int32
  sizes = [2, c**2, c**3, c**2, c, 1, 2]
  sizes += [c**2, c, c, 1, 2] if c == 3 else []
  ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
  a, b = (jnp.split(side, ends, axis=-1) for side in (first, second))
  inner = [jnp.sum(x * y, axis=-1) for x, y in zip(a, b, strict=True)]
  mean, two, three, bent, own, norm, _ = inner[:7]
  even = n * (n - 3) / 2  # dimensions of the symmetric rest
  variance = two / (n - 1) + _over(norm, even)
  third = (
    three * n / ((n - 1) * (n - 2))
    + _over(3 * bent, even)
    + _over(12 * (n - 2) * own, (n - 1) * (n - 3) * (n - 4))
    + _third_of_rest(a[6], b[6], n)
  )
  if c == 3:
    bent, both, own, norm, _ = inner[7:]
    odd = (n - 1) * (n - 2) / 2  # dimensions of the antisymmetric part
    variance += norm / odd
    third += (
      3 * bent / odd
      + _over(6 * n * (n - 2) * both, even * odd)
      + _over(6 * n * own, odd * (n - 3))
      + 3 * _third_of_turn(a[-1], b[-1], n)
    )
  noise = _ROUNDING * _squared_norm(a) * _squared_norm(b)
  variance = jnp.where(variance > noise, variance, 0)
  return mean, jnp.sqrt(variance), _over(third, variance**1.5)


def _squared_norm(
  parts: list[Float[Array, '*batch _']],
) -> Float[Array, '*batch']:
  """Of a matrix, up to its antisymmetric part."""
  c = int(parts[1].shape[-1] ** 0.5)
  own = jnp.sum(parts[1][..., :: c + 1], axis=-1)
  return jnp.sum(parts[0] ** 2, axis=-1) + own + parts[5][..., 0]


def _kernel(n: Float[Array, '*#batch']) -> tuple[Float[Array, '*batch'], ...]:
  """Entries of the projection on `rest`, between two places (i,j), (k,l).

  For two places that are the same, that share one index, that share none:
  rows of the projection sum to zero, and its trace is n(n-3)/2.
  """
  same = (n - 3) / (2 * (n - 1))
  return same, -same / (n - 2), 1 / ((n - 1) * (n - 2))


def _third_of_rest(
  first: Float[Array, '*#batch 2'],
  second: Float[Array, '*#batch 2'],
  n: Float[Array, '*#batch'],
) -> Float[Array, '*batch']:
  """Mean of (rest_a . rest_b)^3 from sums of cubes and of triangles.

  Sums over all pairs of places or of triangles, by how many indices they
  share. Below n = 6 there is one form, not two.
  """
  a, b, c = _kernel(n)
  cubes = 2 * a**3 + 4 * (n - 2) * b**3 + (n - 2) * (n - 3) * c**3
  mixed = 6 * a * b**2 + 6 * (n - 3) * b**2 * c + (n - 3) * (n - 4) * c**3
  triangles = (
    (a**3 + 3 * a * b**2 + 2 * b**3)
    + (n - 3) * (3 * a * (b**2 + c**2) + 6 * b**2 * (b + c))
    + (n - 3) * (n - 4) * (3 * b**2 * c + 6 * b * c**2)
    + (n - 3) * (n - 4) * (n - 5) * c**3
  )
  products = cubes, (n - 2) * mixed, (n - 2) * triangles
  return _combine(first, second, products, n < 6) / (n * (n - 1))


def _third_of_turn(
  first: Float[Array, '*#batch 2'],
  second: Float[Array, '*#batch 2'],
  n: Float[Array, '*#batch'],
) -> Float[Array, '*batch']:
  """Mean of (rest_a . rest_b) (turn_a . turn_b)^2, likewise.

  The projection on antisymmetric parts has entries e of a place with itself,
  f of two that start or end together, -f of two that follow one another.
  Below n = 5 there is one form.
  """
  a, b, c = _kernel(n)
  e, f = (n - 2) / (2 * n), -1 / (2 * n)
  cubes = 2 * a * e**2 + 4 * (n - 2) * b * f**2
  mixed = 2 * (a * f**2 - 2 * b * e * f - (n - 3) * c * f**2)
  triangles = (
    (a * e**2 + a * f**2 - 2 * b * e * f + 2 * b * f**2)
    + (n - 3) * (a * f**2 + 2 * b * e * f - 2 * b * f**2 + 2 * c * f**2)
    + (n - 3) * (n - 4) * c * f**2
  )
  products = cubes, (n - 2) * mixed, (n - 2) * triangles
  return _combine(first, second, products, n < 5) / (n * (n - 1))


def _combine(
  first: Float[Array, '*#batch 2'],
  second: Float[Array, '*#batch 2'],
  products: tuple[Any, Any, Any],
  single: Any,
) -> Float[Array, '*batch']:
  """first' inverse([[p, q], [q, r]]) second; first[0] second[0] / p if single.

  p, q and r are the forms' own products over an orthonormal basis.
  """
  p, q, r = products
  x, y = (jnp.moveaxis(side, -1, 0) for side in (first, second))
  both = r * x[0] * y[0] - q * (x[0] * y[1] + x[1] * y[0]) + p * x[1] * y[1]
  return jnp.where(single, _over(x[0] * y[0], p), _over(both, p * r - q * q))


def _over(
  top: Float[Array, '*#batch'], bottom: Float[Array, '*#batch']
) -> Float[Array, '*batch']:
  """The ratio, 0 where the bottom is 0."""
  return jnp.where(bottom == 0, 0, top / jnp.where(bottom == 0, 1, bottom))
