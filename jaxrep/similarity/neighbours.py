"""Similarity of neighbourhoods: the share of common nearest neighbours.

Huh et al., "The Platonic Representation Hypothesis", ICML 2024, eq. 11: each
sentence's k nearest others on one side and on the other, and the share of them
that is common. Near is by cosine, as there; the features are centred on the
sentences compared first, since a common offset makes all cosines alike.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrep.similarity import alignment, linalg
from jaxrep.similarity.measure import Factors, Measure, Parameters
from jaxrep.stats import moments

# Of an inner product, relative to the lengths of what is multiplied.
ROUNDING = 4 * float(jnp.finfo(jnp.float32).eps)


def directions(
  x: Float[Array, 'n p'],
  valid: Bool[Array, ' n'],
  noise: float = 0.0,
) -> tuple[Float[Array, 'n p'], Bool[Array, '']]:
  """Valid rows at length 1, the others zero; and whether all have a direction.

  None has a row that is zero, or below `noise` of the largest.
  """
  x = jnp.where(valid[:, None], x, 0)
  size = jnp.max(jnp.abs(x), axis=1)
  x /= jnp.where(size > 0, size, 1)[:, None]
  norm = jnp.linalg.norm(x, axis=1)
  x /= jnp.where(norm > 0, norm, 1)[:, None]
  return x, jnp.all((size > noise * jnp.max(size)) | ~valid)


def centred_directions(
  x: Float[Array, 'n p'], valid: Bool[Array, ' n']
) -> tuple[Float[Array, 'n p'], Bool[Array, '']]:
  """Directions from the mean of the sentences; none has one that lies on it."""
  noise = 8 * float(jnp.finfo(x.dtype).eps)
  return directions(linalg.centre(x, valid), valid, noise)


def likeness(
  queries: Float[Array, 'n p'],
  targets: Float[Array, 'm p'],
  valid: Bool[Array, ' m'],
) -> tuple[Float[Array, 'n m'], Float[Array, ' m']]:
  """Cosines of directions, but for a constant of each query.

  And, for each target, how far rounding may move them. The mean of the targets
  adds the same to all cosines of a query: without it their order keeps its
  digits where all point the same way.
  """
  mean = jnp.sum(targets, axis=0) / jnp.sum(valid)
  targets = jnp.where(valid[:, None], targets - mean, 0)
  rounding = ROUNDING * jnp.linalg.norm(targets, axis=1)
  return linalg.cross(queries.T, targets.T), rounding


def largest(
  values: Float[Array, 'm n'], k: Int[Array, ''] | int
) -> tuple[Float[Array, ' m'], Float[Array, ' m']]:
  """Of each row the k-th largest value, and the sum of the k largest.

  Takes the maximum k times, equal ones at once: for few neighbours a twentieth
  of the price of sorting, and k may be traced.
  """

  def take(_, state):
    values, left, kth, total = state
    top = jnp.max(values, axis=1)
    at_top = values == top[:, None]
    taken = jnp.minimum(jnp.sum(at_top, axis=1), left)
    kth = jnp.where(taken > 0, top, kth)
    total += jnp.where(taken > 0, taken * top, 0)
    return jnp.where(at_top, -jnp.inf, values), left - taken, kth, total

  none = jnp.zeros_like(values[:, 0])
  start = values, jnp.full(none.shape, k), none, none
  return jax.lax.fori_loop(0, k, take, start)[2:]


def adjacency(
  likeness: Float[Array, 'n n'],
  rounding: Float[Array, ' n'],
  valid: Bool[Array, ' n'],
  k: Int[Array, ''] | int,
) -> Float[Array, 'n n']:
  """1 where the column is among the k valid others most like the row.

  Sentences that tie for the last places share them evenly, so that each row
  sums to k and the order of the sentences cannot decide.
  """
  pairs = valid[:, None] & valid & ~jnp.eye(valid.size, dtype=bool)
  likeness = jnp.where(pairs, likeness, -jnp.inf)
  kth = largest(likeness, k)[0][:, None]
  above = likeness > kth + rounding
  tied = pairs & (jnp.abs(likeness - kth) <= rounding)
  left = k - jnp.sum(above, axis=1, keepdims=True)
  share = left / jnp.maximum(jnp.sum(tied, axis=1, keepdims=True), 1)
  return jnp.where(pairs, jnp.where(tied, share, above), 0)


def factor(
  x: Float[Array, 'n p'],
  valid: Bool[Array, ' n'],
  neighbours: Int[Array, ''] | int,
) -> Factors:
  """Nearest neighbours [n, n] / sqrt(n k); k is the number of neighbours."""
  n, k = jnp.sum(valid), jnp.asarray(neighbours)
  rows, defined = centred_directions(x, valid)
  nearest = adjacency(*likeness(rows, rows, valid), valid, k)
  return Factors(nearest / jnp.sqrt(n * k), k, defined & (n > k + 1))


def _describe(parameters: Parameters) -> str:
  return (
    f'mutual kNN: share of common sentences among the {parameters.neighbours} '
    'nearest of each, by cosine of features centred on the sentences compared; '
    'those that tie for the last places share them'
  )


MUTUAL_KNN = Measure(
  factor=factor,
  score=alignment.score,
  describe=_describe,
  undefined=(
    'a sentence lies at the mean of all, which has no direction, or there are '
    'fewer sentences than the neighbours asked for and 2'
  ),
  arguments=lambda parameters: {'neighbours': parameters.neighbours},
  inner=True,
  pairwise=True,
  directed=True,
  summary=moments.summarise_directed,
  null=moments.null_directed,
)
