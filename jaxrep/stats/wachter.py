"""The mean canonical correlation of randomly paired subspaces, on the host.

Canonical correlations are the cosines between two subspaces, of k_a and k_b
dimensions in R^(n-1) once the rows are centred. For subspaces that are random
their squares follow the law of Wachter ("The limiting empirical measure of
multiple discriminant ratios", Ann. Stat. 1980); with smaller share a and larger
share b of the n - 1 dimensions its density is, between the ends m -+ h,

  sqrt(h^2 - (x - m)^2) / (2 pi a x (1 - x)),
  m = a + b - 2ab, h = 2 sqrt(ab(1 - a)(1 - b)),

and where a + b > 1 a share of the squares is 1. The law is too high where
some sentences carry much of both subspaces (their leverage, the squared row
norm of an orthonormal basis): those pair off at random. To second order that
moves the mean of x^2 alone, and with it the part of sqrt(x) that the second
Chebyshev polynomial on the two ends holds. How much of this is there is
learned from few random pairings, pooled over a map. Spread and first
correction for finite n of a sum over real eigenvalues are also those of its
Chebyshev series (Johansson 1998; Bai and Silverstein, Ann. Prob. 2004).
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

Dimensions = Int[np.ndarray, '*#cell'] | int
Cells = Float[np.ndarray, '*cell']

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_ANGLES = np.pi * (_NODES + 1) / 2
_DEGREES = np.arange(1, 17)
_EVEN = np.pi * (np.arange(64) + 0.5) / 64
_CHEBYSHEV = 2 / 64 * np.cos(_EVEN[:, None] * _DEGREES)

_FEW, _MANY = 5, 20  # dimensions beyond which there is no skewness to speak of
_DRAWS = 20_000  # for a skewness that is right to 0.02

# Both corrections are taken as they are where no draw says otherwise; in
# simulated maps their coefficients were within this of 1.
_SPREAD = 0.3
_PRIOR_DRAWS = 4  # that the predicted sd counts for


class Uneven(NamedTuple):
  """Of the leverages of one representation.

  Attributes:
    spread: their variance over the most there can be, 0 to 1.
    reach: how far from the mean the leverages are that make this variance.
  """

  spread: Cells
  reach: Cells


class Chance(NamedTuple):
  """What is known of a cell before any draw.

  Attributes:
    law: the mean canonical correlation of random subspaces.
    edge: what a finite n adds to it.
    shift: what uneven rows add to it, to second order.
    sd: of one pairing's mean canonical correlation.
  """

  law: Cells
  edge: Cells
  shift: Cells
  sd: Cells


class Floor(NamedTuple):
  """A floor learned from draws pooled over a map.

  Attributes:
    mean: expected score of a random pairing.
    error: standard error of that mean.
    sd: of one random pairing's score.
    dof: degrees of freedom of `sd`.
  """

  mean: Cells
  error: Cells
  sd: Cells
  dof: int


def mean_cosine(k_a: Dimensions, k_b: Dimensions, n: Dimensions) -> Cells:
  """Mean of min(k_a, k_b) cosines under the law; k of 1 to n - 1."""
  a, b, middle, half = _law(k_a, k_b, n)
  square = middle[..., None] + half[..., None] * np.cos(_ANGLES)
  root = np.sqrt(np.maximum(square, 0))
  # x = 1 - (1 - x) takes the atom and the pole at 1 out of the integral.
  inner = np.sin(_ANGLES) ** 2 / np.where(root > 0, root * (1 + root), 1)
  return b + half**2 / (4 * a) * (inner @ _WEIGHTS)


def unevenness(
  leverages: Float[np.ndarray, '*cell n'], k: Dimensions
) -> Uneven:
  """How unequally the sentences carry a basis.

  Args:
    leverages: squared norms of the n valid rows of an orthonormal basis; they
      sum to k.
    k: dimensions of the basis.
  """
  n = leverages.shape[-1]
  most = k * (1 - np.asarray(k) / (n - 1))
  away = np.abs(leverages - np.asarray(k)[..., None] / n)
  square, cube = (np.sum(away**power, axis=-1) for power in (2, 3))
  spread = np.where(most > 0, square / np.where(most > 0, most, 1), 0.0)
  return Uneven(spread, cube / np.where(square > 0, square, 1))


def chance(
  k_a: Dimensions,
  k_b: Dimensions,
  n: Dimensions,
  uneven_a: Uneven,
  uneven_b: Uneven,
) -> Chance:
  """What the dimensions and the unevenness of both sides say of a cell."""
  a, b, middle, half = _law(k_a, k_b, n)
  square = middle[..., None] + half[..., None] * np.cos(_EVEN)
  root = np.sqrt(np.maximum(square, 0))
  series = root @ _CHEBYSHEV
  ends = np.sqrt(middle + half) + np.sqrt(np.maximum(middle - half, 0))
  both = uneven_a.spread * uneven_b.spread * a * b * (1 - a) * (1 - b)
  k, moves = np.minimum(k_a, k_b), half > 0
  scale = np.where(moves, half, 1)
  # One sentence that adds as much as this ratio of the series' two slopes
  # lowers the mean by less than a square would.
  bend = scale * series[..., 0] / np.maximum(-2 * series[..., 1], 1e-9)
  far = uneven_a.reach * uneven_b.reach / np.where(moves, bend, 1)
  even = series**2 @ _DEGREES / 2
  uneven = n * both * np.square(series[..., 0] / scale)
  return Chance(
    law=mean_cosine(k_a, k_b, n),
    edge=np.where(moves, ends / 2 - root.mean(axis=-1), 0) / (2 * k),
    shift=2 * series[..., 1] / scale**2 * both / a / (1 + far),
    sd=np.where(moves, np.sqrt(even + uneven), 0) / k,
  )


def pooled(
  values: Float[np.ndarray, ' draw'], draws: Chance, cells: Chance
) -> Floor:
  """Floors of all cells from scores of random pairings of some of them.

  Residuals from the law are fitted by c_0 edge + c_1 shift, by least squares
  with weights 1 / sd^2; both coefficients are drawn to 1, and are 1 where there
  are no draws. Cells whose score is the same
  for every pairing (sd 0) say nothing and are left as the law has them.

  Args:
    values: scores, each of a pairing drawn independently of the others: a
      pairing that serves many cells would make `error` too small.
    draws: what is known of the cell that each was drawn from.
    cells: of the cells wanted.
  """
  used = draws.sd > 0
  sd = draws.sd[used]
  rows = np.stack([draws.edge, draws.shift], axis=-1)[used] / sd[:, None]
  residuals = (values - draws.law)[used] / sd
  precision = rows.T @ rows + np.eye(2) / _SPREAD**2
  covariance = np.linalg.inv(precision)
  fitted = covariance @ (rows.T @ residuals + 1 / _SPREAD**2)
  left = np.square(residuals - rows @ fitted).sum()
  factor = np.sqrt((_PRIOR_DRAWS + left) / (_PRIOR_DRAWS + len(sd)))
  wanted = np.stack([cells.edge, cells.shift], axis=-1)
  spread = np.einsum('...i,ij,...j->...', wanted, covariance, wanted)
  return Floor(
    cells.law + wanted @ fitted,
    factor * np.sqrt(spread),
    factor * cells.sd,
    _PRIOR_DRAWS + len(sd) - len(fitted),
  )


def disagrees(
  means: Float[np.ndarray, '*cell'],
  counts: Int[np.ndarray, '*cell'],
  floor: Floor,
) -> Bool[np.ndarray, '*cell']:
  """Where a cell's own draws lie > 3 standard errors from the pooled floor.

  False where a cell has no draws; `means` may be NaN there.
  """
  error = np.hypot(floor.sd / np.sqrt(np.maximum(counts, 1)), floor.error)
  return (counts > 0) & (np.abs(means - floor.mean) > 3 * error)


def skewness(k_a: Dimensions, k_b: Dimensions) -> Cells:
  """Of the mean cosine of random subspaces: 1 for two lines, 0 for many.

  Of few dimensions in many, cosines are the singular values of a matrix of
  normal numbers, here of its triangular factor (Bartlett 1933).
  """
  few, many = np.minimum(k_a, k_b), np.maximum(k_a, k_b)
  found = np.zeros(few.shape)
  near = (few <= _FEW) & (many <= _MANY)
  sizes, back = np.unique(
    np.stack([few[near], many[near]]), axis=1, return_inverse=True
  )
  each = [_skewness(*size) for size in sizes.T.tolist()]
  found[near] = np.array(each, float)[back.reshape(-1)]
  return found


@functools.cache
def _skewness(few: int, many: int) -> float:
  rng = np.random.default_rng(0)
  factors = np.tril(rng.standard_normal((_DRAWS, few, few)), -1)
  degrees = many - np.arange(few)
  rows = np.arange(few)
  factors[:, rows, rows] = np.sqrt(rng.chisquare(degrees, (_DRAWS, few)))
  sums = np.linalg.svd(factors, compute_uv=False).sum(axis=1)
  return float(stats.skew(sums))


def _law(
  k_a: Dimensions, k_b: Dimensions, n: Dimensions
) -> tuple[Cells, Cells, Cells, Cells]:
  """Smaller and larger share, middle and half width of the squares."""
  space = np.asarray(n) - 1
  a, b = np.minimum(k_a, k_b) / space, np.maximum(k_a, k_b) / space
  middle = a + b - 2 * a * b
  return a, b, middle, 2 * np.sqrt(a * b * (1 - a) * (1 - b))
