"""From factors to scores: tiles of cells, one after the other."""

from typing import Any

import numpy as np
from absl import logging
from etils import epath
from jaxtyping import Float, Int, Shaped

from jaxrep.similarity import blocks as block_store
from jaxrep.similarity import chance, linalg, saved, spread, tiles
from jaxrep.similarity.blocks import Blocks
from jaxrep.similarity.cells import Cells
from jaxrep.similarity.measure import Calibration
from jaxrep.stats import permutation, tails

NUMBERS = (
  *('value', 'floor', 'floor_sd', 'calibrated', 'z', 'p', 'p_map'),
  *('ci_low', 'ci_high'),
)
_SATURATED = 1e-5  # a floor this close to 1 leaves nothing to compare

Columns = dict[str, np.ndarray]


def score(
  blocks: Blocks,
  rows: Int[np.ndarray, 'cell 5'],
  settings: tuple[Any, ...],
  folder: epath.PathLike | None,
) -> Columns:
  """NUMBERS, k_a, k_b and status of each row.

  Args:
    blocks: the representations, in the order of their places.
    rows: place_a, place_b, cut_a, cut_b (0 for the measure's own), map.
    settings: measure, parameters, calibration.
    folder: where finished tiles are kept, or None.
  """
  if blocks.rule.nuclear:
    where = tiles.platform(blocks.mesh)
    logging.log_first_n(logging.INFO, '%s: %s', 1, where, linalg.routes(where))
  first, second = (rows[:, :2] // block_store.SIZE).T
  number = first * len(blocks.arrays) + second
  order = np.argsort(number, kind='stable')
  _, starts = np.unique(number[order], return_index=True)
  columns, maxima = _empty(len(rows)), []
  for group in np.split(order, starts[1:]) if len(rows) else []:
    tile = _tile(blocks, rows[group], settings, folder)
    maxima.append(tile.pop('maxima'))
    for name, values in tile.items():
      columns[name][group] = values
  height = columns.pop('height')
  columns['p_map'] = _family_wise(height, rows[:, 4], maxima)
  return columns


def _tile(
  blocks: Blocks,
  rows: Int[np.ndarray, 'cell 5'],
  settings: tuple[Any, ...],
  folder: epath.PathLike | None,
) -> Columns:
  """A tile from disk if it is there, else computed and kept."""
  first, second = (rows[0, :2] // block_store.SIZE).tolist()
  pair = first, second
  if folder is None:
    return _compute(blocks, pair, rows, settings[-1])
  folder = epath.Path(folder)
  name = saved.digest(
    *settings, rows, *(blocks.digest(i) for i in sorted({*pair}))
  )
  found = saved.load(folder, name)
  # A shared file system may show a new file to one process before another;
  # all compute a tile, or none.
  if tiles.anywhere(found is None):
    found = _compute(blocks, pair, rows, settings[-1])
    if tiles.is_first():
      text = {'status': found['status'].astype(str)}
      saved.save(folder, name, found | text)
  else:
    # One object for each reason: text of fixed width would be long.
    reasons, which = np.unique(found['status'], return_inverse=True)
    found['status'] = reasons.astype(object)[which]
  return found


def _compute(
  blocks: Blocks,
  pair: tuple[int, int],
  rows: Int[np.ndarray, 'cell 5'],
  calibration: Calibration,
) -> Columns:
  first, second = (blocks.take(number) for number in pair)
  a, b = rows[:, 0] % block_store.SIZE, rows[:, 1] % block_store.SIZE
  status = np.where(first.reasons[a] == '', second.reasons[b], first.reasons[a])
  if rows[:, 2:4].any():
    ranks = (np.asarray(block.factors.rank) for block in (first, second))
    most = np.stack([r[i] for r, i in zip(ranks, (a, b), strict=True)], axis=1)
    status = np.where(status == '', _cuts(blocks, rows, most), status)
  if blocks.rule.same_width:
    status = np.where(status == '', _widths(blocks, rows), status)
  k_a = np.where(rows[:, 2] > 0, rows[:, 2], first.k[a])
  k_b = np.where(rows[:, 3] > 0, rows[:, 3], second.k[b])
  columns = {name: np.full(len(rows), np.nan) for name in (*NUMBERS, 'height')}
  maps = int(rows[:, 4].max()) + 1
  columns['maxima'] = np.full((calibration.joint, maps), -np.inf)
  fine = np.flatnonzero(status == '')
  if fine.size:
    as_they_are = np.full(len(rows), tiles.AS_THEY_ARE)
    items = tiles.Items(a, b, k_a, k_b, as_they_are).take(fine)
    cells = Cells(blocks, *pair, items, calibration.seed)
    found = _numbers(cells, rows[fine, 4], calibration)
    maxima = found.pop('maxima')
    columns['maxima'][: len(maxima), : maxima.shape[1]] = maxima
    for name, values in found.items():
      columns[name][fine] = values
    status[fine] = _status(cells, found['value'], found['floor'])
  for name in (*NUMBERS, 'height'):
    columns[name][status != 'ok'] = np.nan
  return columns | {'k_a': k_a, 'k_b': k_b, 'status': status}


def _cuts(
  blocks: Blocks,
  rows: Int[np.ndarray, 'cell 5'],
  most: Int[np.ndarray, 'cell 2'],
) -> Shaped[np.ndarray, ' cell']:
  """Why a side cannot have as many components as asked; empty if it can."""
  names, reasons = list(blocks.arrays), np.full(len(rows), '', object)
  for side in (1, 0):
    for i in np.flatnonzero(rows[:, 2 + side] > most[:, side]):
      numbers = int(most[i, side]), int(rows[i, 2 + side])
      reasons[i] = blocks.too_few(names[rows[i, side]], *numbers)
  return reasons


def _widths(
  blocks: Blocks, rows: Int[np.ndarray, 'cell 5']
) -> Shaped[np.ndarray, ' cell']:
  """Why two sides do not lie in one space; empty if they may."""
  width = np.array([x.shape[1] for x in blocks.arrays.values()])
  reasons = [
    '' if a == b else f'both sides must have one width, these have {a} and {b}'
    for a, b in width[rows[:, :2]].tolist()
  ]
  return np.array(reasons, object)


def _numbers(
  cells: Cells, maps: Int[np.ndarray, ' cell'], calibration: Calibration
) -> Columns:
  values = cells.values()
  null = chance.find(
    cells, values, calibration.permutations, calibration.joint, maps
  )
  low, high = spread.interval(cells, values, calibration)
  # A side is equal to itself in every sample: what is left is rounding.
  same = cells.same
  low[same] = high[same] = np.nan
  return {
    'value': values,
    'floor': null.mean,
    'floor_sd': null.sd,
    'calibrated': permutation.calibrate(values, null.mean),
    'z': chance.standardise(values, null.mean, null.sd),
    'p': null.p,
    'ci_low': low,
    'ci_high': high,
    'height': null.height,
    'maxima': null.maxima,
  }


def _status(
  cells: Cells,
  value: Float[np.ndarray, ' cell'],
  floor: Float[np.ndarray, ' cell'],
) -> Shaped[np.ndarray, ' cell']:
  """'ok', or why there is no value."""
  status = np.full(len(value), 'ok', object)
  if cells.rule.paired:
    finite = np.isfinite(value) & np.isfinite(floor)
    for i in np.flatnonzero(finite & (1 - floor < _SATURATED)):
      k_a, k_b = cells.items.k_a[i], cells.items.k_b[i]
      status[i] = (
        f'every pairing of the n={cells.blocks.n} sentences scores 1 '
        f'(k_a={k_a}, k_b={k_b}, floor 1): nothing can be told'
      )
  else:
    finite = np.isfinite(value)
  status[~finite] = 'the decomposition did not converge'
  return status


def _family_wise(
  height: Float[np.ndarray, ' cell'],
  maps: Int[np.ndarray, ' cell'],
  maxima: list[Float[np.ndarray, 'draw _']],
) -> Float[np.ndarray, ' cell']:
  """p that allows for the largest cell of each map, under the same pairings."""
  count = max((part.shape[1] for part in maxima), default=0)
  largest = np.full((len(maxima[0]) if maxima else 0, count), -np.inf)
  for part in maxima:
    known = largest[:, : part.shape[1]]
    np.maximum(known, part, out=known)
  p = np.full(len(height), np.nan)
  if len(largest):
    for number in range(count):
      mine = maps == number
      draws = np.broadcast_to(largest[:, number], (np.sum(mine), len(largest)))
      p[mine] = tails.monte_carlo(height[mine], draws)
  return p


def _empty(count: int) -> Columns:
  columns = {name: np.full(count, np.nan) for name in (*NUMBERS, 'height')}
  ends = {name: np.zeros(count, int) for name in ('k_a', 'k_b')}
  return {**columns, **ends, 'status': np.full(count, '', object)}
