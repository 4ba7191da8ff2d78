"""Are two matrices over the same languages associated? Mantel's test.

The n(n-1)/2 pairs of n languages are not independent: a language that is unlike
all others makes n-1 of them large at once. A p-value that counts pairs as
observations is therefore too small; relabelling whole languages is not fooled
(Mantel 1967, Cancer Research 27:209; Krackhardt 1988, Social Networks 10:359).
"""

import itertools
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special, stats

from jaxrep.types import InputError

EXACT = 7  # languages whose 5,040 relabellings are all counted
_BYTES = 2**25  # of the relabelled pairs held at once
_TIE = 1e-9  # correlations closer than this are one

Matrix = Float[np.ndarray, 'language language']


class Association(NamedTuple):
  """What `mantel` finds.

  `r` is the correlation over the pairs of languages that are defined in both
  matrices, `pairs` their number. `p` is the share of relabellings with a
  correlation at least as large, `p_two_sided` with one at least as far from 0;
  `p_naive` is two-sided and takes the pairs for independent observations, which
  they are not. `relabellings` were counted, `exact` if these are all there are.
  """

  r: float
  p: float
  p_two_sided: float
  p_naive: float
  pairs: int
  relabellings: int
  exact: bool


def mantel(
  x: Matrix,
  y: Matrix,
  kind: Literal['pearson', 'spearman'] = 'pearson',
  draws: int = 9999,
  seed: int = 0,
) -> Association:
  """Tests the association of two symmetric matrices over the same languages.

  Only the upper triangles count; NaN is an undefined pair. The holes of `y`
  move with its languages: under each relabelling the correlation is that over
  the pairs which are then defined in both, and a relabelling without one
  counts as at least as large. For Spearman's correlation the defined pairs of
  each matrix are ranked once.

  Args:
    x: a value for each pair of languages.
    y: another one; its languages are relabelled.
    kind: of correlation.
    draws: random relabellings where there are more than `EXACT` languages;
      p is then (1 + those that count) / (1 + draws), so never 0.
    seed: of the draws.

  Returns:
    NaN for `r` and every p where fewer than three pairs are defined in both
    matrices, or all those of one have one value.

  Raises:
    InputError: a matrix is not symmetric.
  """
  for matrix in (x, y):
    if not np.allclose(matrix, matrix.T, equal_nan=True):
      raise InputError('A matrix over pairs of languages must be symmetric.')
  count = len(x)
  upper = np.triu_indices(count, 1)
  sides = [_standardised(side[upper], kind) for side in (x, y)]
  exact = count <= EXACT
  found = np.concatenate(
    [
      _correlations(*sides, _relabelled(orders, upper))
      for orders in _orders(count, None if exact else draws, seed)
    ]
  )
  r = float(found[0])  # that of the labels as they are
  pairs = int(np.sum(~np.isnan(sides[0] + sides[1])))
  if math.isnan(r):
    return Association(r, r, r, r, pairs, found.size, exact)
  undefined = np.isnan(found)
  return Association(
    r,
    float(np.mean(undefined | (found >= r - _TIE))),
    float(np.mean(undefined | (np.abs(found) >= abs(r) - _TIE))),
    naive(r, pairs),
    pairs,
    found.size - (0 if exact else 1),
    exact,
  )


def naive(r: float, pairs: int) -> float:
  """Two-sided p of a correlation as if its pairs were independent."""
  freedom = pairs - 2
  if freedom < 1:
    return math.nan
  t = abs(r) * math.sqrt(freedom / max(1 - r * r, 1e-300))
  return float(2 * special.stdtr(freedom, -t))


def _standardised(
  values: Float[np.ndarray, ' pair'], kind: str
) -> Float[np.ndarray, ' pair']:
  """Mean 0 and spread 1 over the defined pairs: sums of squares keep digits."""
  defined = ~np.isnan(values)
  if kind == 'spearman':
    values = values.copy()
    values[defined] = stats.rankdata(values[defined])
  if not defined.any():
    return values
  centred = values - values[defined].mean()
  largest = np.abs(centred[defined]).max()
  # Rounding of the mean is not a spread.
  noise = 1e-12 * np.abs(values[defined]).max()
  return centred / largest if largest > noise else 0 * centred


def _orders(
  count: int, draws: int | None, seed: int
) -> Iterator[Int[np.ndarray, 'order language']]:
  """The labels as they are, then others: all there are, or random ones."""
  some = max(1, _BYTES // (8 * max(1, count * (count - 1) // 2)))
  if draws is None:
    yield np.array(list(itertools.permutations(range(count))), int)
    return
  yield np.arange(count)[None]
  random = np.random.default_rng(seed)
  for start in range(0, draws, some):
    rows = np.tile(np.arange(count), (min(some, draws - start), 1))
    yield random.permuted(rows, axis=1)


def _relabelled(
  orders: Int[np.ndarray, 'order language'],
  upper: tuple[np.ndarray, np.ndarray],
) -> Int[np.ndarray, 'order pair']:
  """Which pair comes to stand in each pair's place."""
  count = orders.shape[1]
  number = np.zeros((count, count), int)
  number[upper] = np.arange(len(upper[0]))
  number += number.T
  return number[orders[:, upper[0]], orders[:, upper[1]]]


def _correlations(
  x: Float[np.ndarray, ' pair'],
  y: Float[np.ndarray, ' pair'],
  moved: Int[np.ndarray, 'order pair'],
) -> Float[np.ndarray, ' order']:
  """Pearson's r under each relabelling of y, over what both define."""
  there_x, there_y = ~np.isnan(x), ~np.isnan(y)
  x, y = np.where(there_x, x, 0), np.where(there_y, y, 0)
  shared, y = there_y[moved].astype(float), y[moved]
  here = there_x.astype(float)
  n = shared @ here
  safe = np.maximum(n, 1)
  mean_x, mean_y = shared @ x / safe, y @ here / safe
  product = y @ x - n * mean_x * mean_y
  var_x = shared @ x**2 - n * mean_x**2
  var_y = y**2 @ here - n * mean_y**2
  return _ratio(product, var_x, var_y, n >= 3)


def _ratio(
  product: Float[np.ndarray, ' order'],
  var_x: Float[np.ndarray, ' order'],
  var_y: Float[np.ndarray, ' order'],
  enough: Bool[np.ndarray, ' order'],
) -> Float[np.ndarray, ' order']:
  fine = enough & (var_x > 1e-12) & (var_y > 1e-12)
  r = product / np.sqrt(np.where(fine, var_x * var_y, 1))
  return np.where(fine, np.clip(r, -1, 1), np.nan)
