"""Representational similarity analysis (RSA; Kriegeskorte et al. 2008).

Which sentences are far apart on one side, which on the other? The
dissimilarity is the squared Euclidean distance: it knows no origin, while the
correlation distance over features changes with a constant vector. Distances
come from differences of rows, not from a Gram matrix: so those of near
duplicates keep their digits, and equal distances are equal in float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxrep.similarity import alignment
from jaxrep.similarity.measure import Factors, Measure
from jaxrep.stats import moments

# Features per step: as many as a CPU adds up in its registers.
_STEP = 8
# Sums of the same terms in another order differ by less.
_TIE = 8 * float(jnp.finfo(jnp.float32).eps)


def scaled(
  x: Float[Array, 'n p'], valid: Bool[Array, ' n']
) -> tuple[Float[Array, 'n p'], Int[Array, '']]:
  """x / 2^e with its largest entry in [1/2, 1), exactly, and e.

  Invalid rows are zero. Squares of any float32 input are then in range.
  """
  x = jnp.where(valid[:, None], x, 0)
  _, exponent = jnp.frexp(jnp.max(jnp.abs(x)))
  return jnp.ldexp(x, -exponent), exponent


def squared_distances(x: Float[Array, 'n p']) -> Float[Array, 'n n']:
  """Squared Euclidean distances between the rows, to 1e-6 of each."""
  n, p = x.shape
  features = jnp.pad(x, ((0, 0), (0, -p % _STEP))).T.reshape(-1, _STEP, n)

  def add(total, few):
    return total + sum(jnp.square(f[:, None] - f) for f in few), None

  return jax.lax.scan(add, jnp.zeros((n, n), x.dtype), features)[0]


def centred_ranks(
  values: Float[Array, ' m'],
  valid: Bool[Array, ' m'],
  tie: float = 0.0,
) -> Float[Array, ' m']:
  """Ranks of the valid values, none negative, less their mean; others zero.

  Ties share their average rank. Values tie that differ by rounding alone: a
  chain of them, each within the share `tie` of the one before, unless the
  chain is wider than four such steps and so no tie but a dense stretch. Only
  values are sorted, as integers: on CPU a fifteenth of the price of sorting
  their places with them.
  """
  keys = jax.lax.bitcast_convert_type(values, jnp.uint32)
  keys = jnp.where(valid, keys, jnp.uint32(2**32 - 1))
  order = jnp.sort(keys)
  ordered = jax.lax.bitcast_convert_type(order, values.dtype)
  before = jnp.roll(ordered, 1)
  equal = _ends(ordered != before)
  first, last = _ends(~(ordered <= before * (1 + tie)))
  narrow = ordered[last] <= ordered[first] * (1 + 4 * tie)
  first, last = (
    jnp.where(narrow, *ends) for ends in zip((first, last), equal, strict=True)
  )
  ranks = (first + last + 1 - jnp.sum(valid)).astype(values.dtype) / 2
  return jnp.where(valid, ranks[jnp.searchsorted(order, keys)], 0)


def _ends(starts: Bool[Array, ' m']) -> tuple[Int[Array, ' m'], ...]:
  """First and last place of the run that each place is in."""
  starts = starts.at[0].set(True)
  places = jnp.arange(starts.size)
  first = jax.lax.cummax(jnp.where(starts, places, 0))
  stops = jnp.roll(starts, -1)
  last = jnp.where(stops, places, starts.size - 1)
  return first, jax.lax.cummin(last, reverse=True)


def _triangle(
  x: Float[Array, 'n p'], valid: Bool[Array, ' n']
) -> tuple[Float[Array, ' pair'], Bool[Array, ' pair']]:
  """Distances above the diagonal, and which of them are of valid rows."""
  above = np.triu_indices(len(x), 1)
  distances = squared_distances(scaled(x, valid)[0])[above]
  return distances, valid[above[0]] & valid[above[1]]


def _unit(values: Float[Array, ' pair'], n: int) -> Factors:
  """The hollow symmetric matrix [n, n] of the values at Frobenius norm 1."""
  values /= jnp.maximum(jnp.max(jnp.abs(values)), jnp.finfo(values.dtype).tiny)
  norm = jnp.sqrt(2 * jnp.sum(jnp.square(values)))
  values = jnp.append(values / jnp.where(norm > 0, norm, 1), 0)
  return Factors(values[_places(n)], jnp.zeros((), int), norm > 0)


def _places(n: int) -> Shaped[np.ndarray, 'n n']:
  """Where each entry is in the upper triangle; the diagonal after its end."""
  count = n * (n - 1) // 2
  places = np.full((n, n), count, np.int32)
  places[np.triu_indices(n, 1)] = np.arange(count)
  return np.minimum(places, places.T)


def factor(x: Float[Array, 'n p'], valid: Bool[Array, ' n']) -> Factors:
  """Centred ranks of the distances, [n, n] of Frobenius norm 1."""
  distances, inside = _triangle(x, valid)
  return _unit(centred_ranks(distances, inside, _TIE), len(x))


def factor_cosine(x: Float[Array, 'n p'], valid: Bool[Array, ' n']) -> Factors:
  """Distances [n, n] of Frobenius norm 1."""
  distances, inside = _triangle(x, valid)
  return _unit(jnp.where(inside, distances, 0), len(x))


RSA = Measure(
  factor=factor,
  score=alignment.score,
  describe=lambda _: (
    'RSA: Spearman correlation, ties at their average rank, of the squared '
    'Euclidean distances between sentences'
  ),
  undefined='the sentences are equally far apart',
  inner=True,
  pairwise=True,
  summary=moments.summarise,
  null=moments.null,
)
RSA_COSINE = RSA._replace(
  factor=factor_cosine,
  describe=lambda _: (
    'RSA: cosine, nothing subtracted, of the squared Euclidean distances '
    'between sentences'
  ),
  undefined='the sentences do not differ',
)
