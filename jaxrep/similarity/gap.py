"""What centring hides: the gap between the clouds of two sides.

Liang et al., "Mind the Gap: Understanding the Modality Gap in Multi-modal
Contrastive Representation Learning", NeurIPS 2022: text and image fill two
narrow cones apart from each other. Three numbers of it: how far the centroids
are apart, how the lengths compare, and whether the cosine of a sentence with
its counterpart exceeds that with the others at all. On rows of length 1 the
centroid distance is theirs (sec. 2.1). All three stay as they are if both
sides are scaled alike; the cosine gap, if each row is.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrep.similarity import alignment, dissimilarity, neighbours
from jaxrep.similarity.measure import Factors, Measure


def mean_in_parts(
  x: Float[Array, 'n p'], valid: Bool[Array, ' n']
) -> Float[Array, '3 p']:
  """The mean row as a sum of three: its leading bits, the next, the rest.

  So that the difference of two means far from zero keeps its digits.
  """
  parts = []
  for bits in (12, 12, 23):
    mean = jnp.sum(x, axis=0, where=valid[:, None]) / jnp.sum(valid)
    parts.append(jax.lax.reduce_precision(mean, 8, bits))
    x -= parts[-1]
  return jnp.stack(parts)


def factor_centroid(
  x: Float[Array, 'n p'], valid: Bool[Array, ' n']
) -> Factors:
  """The mean row and the root mean squared length, over 2^exponent."""
  x, exponent = dissimilarity.scaled(x, valid)
  length = jnp.sqrt(jnp.sum(jnp.square(x)) / jnp.sum(valid))
  return _lengths(x, length, exponent, mean_in_parts(x, valid))


def score_centroid(fx: Factors, fy: Factors) -> Float[Array, '']:
  """||mean_x - mean_y|| / sqrt((mean ||x||^2 + mean ||y||^2) / 2)."""
  (x, mean_x), (y, mean_y) = _common_unit(fx, fy)
  distance = jnp.linalg.norm(jnp.sum(mean_x - mean_y, axis=0))
  return distance / jnp.sqrt((jnp.square(x) + jnp.square(y)) / 2)


def factor_norm(x: Float[Array, 'n p'], valid: Bool[Array, ' n']) -> Factors:
  """The mean length of a row, over 2^exponent."""
  x, exponent = dissimilarity.scaled(x, valid)
  length = jnp.sum(jnp.linalg.norm(x, axis=1)) / jnp.sum(valid)
  return _lengths(x, length, exponent)


def score_norm(fx: Factors, fy: Factors) -> Float[Array, '']:
  """The smaller mean length over the larger."""
  (x,), (y,) = _common_unit(fx, fy)
  return jnp.minimum(x, y) / jnp.maximum(x, y)


def _lengths(
  x: Float[Array, 'n p'],
  length: Float[Array, ''],
  exponent: Int[Array, ''],
  *more: Float[Array, '...'],
) -> Factors:
  """Factors without rows, since the pairing does not enter."""
  none = jnp.zeros((len(x), 0), x.dtype)
  return Factors(
    none, jnp.zeros((), int), length > 0, (exponent, length, *more)
  )


def _common_unit(fx: Factors, fy: Factors) -> list[list[Float[Array, '...']]]:
  """Lengths of both sides over the same power of two: squares stay in range."""
  unit = jnp.maximum(fx.rest[0], fy.rest[0])
  return [
    [jnp.ldexp(length, side.rest[0] - unit) for length in side.rest[1:]]
    for side in (fx, fy)
  ]


def factor_cosine(x: Float[Array, 'n p'], valid: Bool[Array, ' n']) -> Factors:
  """Rows [n, p] at length 1, then centred, over sqrt(n - 1).

  With M the sum of the n matched cosines and T that of all n^2, the gap is
  M / n - (T - M) / (n (n - 1)) = (M - T / n) / (n - 1), and M - T / n is the
  inner product of the centred rows.
  """
  rows, defined = neighbours.directions(x, valid)
  for part in mean_in_parts(rows, valid):
    rows -= part
  rows = jnp.where(valid[:, None], rows, 0) / jnp.sqrt(jnp.sum(valid) - 1)
  return Factors(rows, jnp.zeros((), int), defined)


CENTROID_DISTANCE = Measure(
  factor=factor_centroid,
  score=score_centroid,
  describe=lambda _: (
    'centroid distance: between the mean rows of both sides, over the root '
    'mean square of the lengths of all rows, nothing centred; 0 is no gap, '
    '2 the most'
  ),
  undefined='all features are zero',
  same_width=True,
  centred=False,
  paired=False,
)
NORM_RATIO = Measure(
  factor=factor_norm,
  score=score_norm,
  describe=lambda _: (
    'norm ratio: the smaller mean length of a row over the larger, nothing '
    'centred; 1 is no gap'
  ),
  undefined='all features are zero',
  centred=False,
  paired=False,
)
COSINE_GAP = Measure(
  factor=factor_cosine,
  score=alignment.score,
  describe=lambda _: (
    'cosine gap: mean cosine of sentences with their counterparts less that '
    'with all others, nothing centred; 0 is chance'
  ),
  undefined='a sentence is a vector of zeros, which has no direction',
  inner=True,
  same_width=True,
  centred=False,
  law=lambda k_a, k_b, n: np.zeros(np.shape(k_a)),
)
