"""Whether one pair of representations is more alike than another one."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxrep.similarity import inputs, pairs, spread, tiles
from jaxrep.similarity.blocks import Blocks
from jaxrep.similarity.cells import Cells
from jaxrep.similarity.measure import Calibration, Parameters
from jaxrep.stats import influence, intervals
from jaxrep.types import InputError

_degrees = jax.jit(influence.degrees)
_BESIDE = ('cka_debiased', 'svcca_heldout')
_CALIBRATION = Calibration(replicates=96)


@dataclasses.dataclass(frozen=True)
class Contrast:
  """A difference between two cells under one measure.

  `difference` is first - second, `ci_low` to `ci_high` its 95 % interval over
  new sentences, paired over them, and `p` is two-sided. `n` and `k` are the
  same on all four sides; k is None for a measure that keeps no components, or
  all that each side has.
  """

  measure: str
  first: float
  second: float
  difference: float
  ci_low: float
  ci_high: float
  p: float
  n: int
  k: int | None


def contrast(
  first: tuple[Any, Any],
  second: tuple[Any, Any],
  measure: str = 'svcca',
  k: int | None = None,
  *,
  calibration: Calibration = _CALIBRATION,
) -> tuple[Contrast, ...]:
  """Compares (x, y) with another (x, y) of the same sentences.

  Chance and bias depend on n and k, so these must be the same on all four
  sides. The difference stands only if debiased CKA and held-out SVCCA, which
  chance does not raise, agree with it: they are given after the measure.

  Args:
    first: x [n, p] and y [n, q], rows aligned.
    second: the same of the other cell; the same sentences in the same order.
    measure: a name in `jaxrep.similarity.MEASURES`.
    k: components kept on each side; needed if the measure keeps any.
    calibration: `replicates` and `seed` count.

  Raises:
    InputError: the cells cannot be compared; says why.
  """
  sides = dict(zip('abcd', (*first, *second), strict=True))
  arrays = {name: inputs.as_array(name, x) for name, x in sides.items()}
  sizes = [len(x) for x in arrays.values()]
  if len(set(sizes)) > 1:
    raise InputError(
      f'The cells have n={sizes[:2]} and n={sizes[2:]} sentences: chance and '
      'bias depend on n. Compare them on the sentences that all four share.'
    )
  if not calibration.replicates:
    raise InputError(
      'A contrast needs subsets of the sentences: give Calibration(replicates='
      '96) or another number.'
    )
  names = dict.fromkeys((measure, *_BESIDE))
  return tuple(_one(arrays, name, k, calibration) for name in names)


def _one(
  arrays: dict[str, np.ndarray],
  measure: str,
  k: int | None,
  calibration: Calibration,
) -> Contrast:
  rule, parameters = pairs.measure_named(measure), Parameters(k=k)
  arguments = rule.arguments(parameters)
  if 'k' in arguments and k is None:
    raise InputError(
      f'{measure} keeps components, and chance depends on how many: give k, '
      'the same for both cells.'
    )
  reasons = [
    inputs.reason(*side, measure, rule, None) for side in arrays.items()
  ]
  made = Blocks(rule, arguments, arrays, None)
  if not any(reasons):
    reasons = made.take(0).reasons
  for reason in filter(None, reasons):
    raise InputError(f'{measure} has no value: {reason}.')
  sides = made.take(0).k
  kept = [sorted(sides[:2].tolist()), sorted(sides[2:].tolist())]
  if kept[0] != kept[1]:
    raise InputError(
      f'{measure} keeps k={kept[0]} and k={kept[1]} components of the two '
      'cells, and chance depends on how many: compare sides of equal rank.'
    )
  a, b = np.array([0, 2]), np.array([1, 3])
  as_they_are = np.full(2, tiles.AS_THEY_ARE)
  items = tiles.Items(a, b, sides[a], sides[b], as_they_are)
  cells = Cells(made, 0, 0, items, calibration.seed)
  values = cells.values()
  error, degrees = _error(cells, calibration)
  found = intervals.contrast(values[:1], values[1:], error, degrees)
  return Contrast(
    measure,
    *(float(value) for value in values),
    *(part.item() for part in found),
    cells.blocks.n,
    int(sides[0]) or None if len(set(sides.tolist())) == 1 else None,
  )


def _error(
  cells: Cells, calibration: Calibration
) -> tuple[Float[np.ndarray, ' 1'], float]:
  """Standard error of the difference of two cells, and its degrees."""
  if not cells.rule.jackknife:
    drawn = spread.on_subsets(cells, calibration)
    away = drawn[..., :1] - drawn[..., 1:]
    error = intervals.subset_error(away, cells.blocks.units)
    return error, intervals.subset_degrees(len(drawn))
  moved = spread.influences(cells)
  away = moved[:, 0] - moved[:, 1]
  present = tiles.valid_rows(cells.blocks.n)
  degrees = _degrees(away, present)
  return np.linalg.norm(away, keepdims=True).astype(float), float(degrees)
