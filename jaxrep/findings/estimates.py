"""A statistic's value, interval and effect size, from the scores of cells."""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse, special

from jaxrep.findings.cells import Cell, Statistic
from jaxrep.findings.scores import Scores
from jaxrep.findings.verdicts import Interval
from jaxrep.stats import intervals

FEWEST_RANDOM = 12
"""Languages of a group, for an interval over languages as drawn at random."""
_ROUNDING = 1e-9
"""Of the numbers that are added up: less than that share of them is nothing."""


class Estimate(NamedTuple):
  """`interval` is of 95 %, over new sentences with the languages fixed.

  `p` is two-sided. `effect` is the mean over units in their standard
  deviations (of a difference of groups: in the pooled one), `over_languages`
  the interval over languages drawn at random; None where there are too few
  units, and the latter also where units are pairs of languages, which are not
  independent.
  """

  value: float
  interval: Interval
  p: float
  effect: float | None
  over_languages: Interval | None


class Estimates(NamedTuple):
  """Before and after calibration; `units` of them have all their cells.

  These are of so many `languages`.
  """

  raw: Estimate
  calibrated: Estimate
  units: int
  languages: int


def estimate(
  statistic: Statistic, cells: tuple[Cell, ...], scores: Scores
) -> Estimates | str:
  """The statistic under a measure, or why there is none.

  A unit that lacks a cell is left out.

  Args:
    statistic: what is computed.
    cells: those of `scores`.
    scores: of all cells of the statistic, and of others.
  """
  weights = statistic.matrix(cells)
  there = np.isfinite(scores.raw) & np.isfinite(scores.calibrated)
  for parts in (scores.raw_on_subsets, scores.calibrated_on_subsets):
    there &= np.isfinite(parts).all(axis=(0, 1))
  whole = abs(weights) @ ~there == 0
  sides = np.array(statistic.sides)
  if any(not whole[sides == side].any() for side in set(statistic.sides)):
    missing = np.flatnonzero((abs(weights).sum(axis=0) > 0) & ~there)
    return next(
      (scores.reasons[i] for i in missing if scores.reasons[i]),
      'without some of the sentences a score has no value',
    )
  weights, sides = weights[whole][:, there], sides[whole]
  raw, calibrated = (
    _estimate(
      *(weights, sides, statistic.of_pairs),
      *(value[there], parts[..., there], scores.n),
    )
    for value, parts in (
      (scores.raw, scores.raw_on_subsets),
      (scores.calibrated, scores.calibrated_on_subsets),
    )
  )
  kept = itertools.compress(statistic.units, whole.tolist())
  languages = {one for unit in kept for one in unit.split()}
  return Estimates(raw, calibrated, len(sides), len(languages))


def _estimate(
  weights: sparse.csr_array,
  sides: Int[np.ndarray, ' unit'],
  of_pairs: bool,
  value: Float[np.ndarray, ' cell'],
  on_subsets: Float[np.ndarray, 'round group cell'],
  n: int,
) -> Estimate:
  units = weights @ value
  share = _shares(sides)
  total = share @ weights
  rounding = _ROUNDING * float(np.abs(total) @ np.abs(value))
  found, moved = float(share @ units), on_subsets @ total[:, None]
  if abs(found) < rounding and np.all(np.abs(moved) < rounding):
    found, moved = 0.0, np.zeros_like(moved)
  error = intervals.subset_error(moved, n).item()
  degrees = intervals.subset_degrees(len(on_subsets))
  # Without any error what is not 0 is surely not.
  t = -abs(found) / error if error > 0 else -np.inf if found else 0.0
  p = 2 * special.stdtr(degrees, t)
  groups = [units[sides == side] for side in sorted(set(sides.tolist()))]
  return Estimate(
    found,
    _interval(found, error, degrees),
    float(p),
    _effect(found, groups),
    None if of_pairs else _over_languages(found, groups),
  )


def _interval(found: float, error: float, degrees: float) -> Interval:
  ends = intervals.interval(np.array([found]), np.array([error]), degrees)
  return Interval(*(end.item() for end in ends))


def _shares(sides: Int[np.ndarray, ' unit']) -> Float[np.ndarray, ' unit']:
  """What each unit counts: a mean, or a difference of two."""
  counts = {side: np.sum(sides == side) for side in set(sides.tolist())}
  return np.array([side / counts[side] for side in sides.tolist()], float)


def _effect(
  found: float, groups: list[Float[np.ndarray, ' _']]
) -> float | None:
  """Cohen's d of a mean, or of a difference of two groups."""
  degrees = sum(len(group) - 1 for group in groups)
  if degrees < 1:
    return None
  squares = sum(float(np.sum((g - g.mean()) ** 2)) for g in groups)
  spread = (squares / degrees) ** 0.5
  return found / spread if spread > 0 else None


def _over_languages(
  found: float, groups: list[Float[np.ndarray, ' _']]
) -> Interval | None:
  """Student's, or Welch's of two groups, if each has languages enough."""
  if any(len(group) < FEWEST_RANDOM for group in groups):
    return None
  parts = [float(np.var(group, ddof=1)) / len(group) for group in groups]
  error = sum(parts) ** 0.5
  if not error:  # languages that are all alike tell of no others
    return None
  degrees = sum(parts) ** 2 / sum(
    part**2 / (len(group) - 1)
    for part, group in zip(parts, groups, strict=True)
  )
  return _interval(found, error, degrees)
