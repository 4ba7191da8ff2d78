"""Intervals of the scores of a tile: over new sentences, at this n.

Linear CKA has the delete-one jackknife in closed form, from the products that
give its scores. Any other measure is scored again without a third of the
sentences, the same ones for every cell, again and again. Drawing sentences
with replacement is not offered: a sentence and its copy would count as a pair
that are alike.
"""

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxrep.similarity import chance, tiles
from jaxrep.similarity.cells import Cells
from jaxrep.similarity.measure import Calibration, Measure
from jaxrep.stats import influence, intervals

_BYTES = 2**28  # of the influences made at once
_spread = jax.jit(influence.spread)
_subsets = jax.jit(intervals.subsets, static_argnames='rounds')


def describe(measure: Measure, calibration: Calibration) -> str:
  """How the interval is found, for the definition."""
  whole = '95 % interval of the expected score at this n, over new sentences'
  if measure.jackknife and calibration.intervals:
    return f'{whole}: delete-one jackknife'
  if not measure.jackknife and calibration.replicates:
    subsets = _rounds(calibration) * intervals.GROUPS
    return f'{whole}: from {subsets} subsets of two thirds of the sentences'
  return ''


def interval(
  cells: Cells, values: Float[np.ndarray, ' cell'], calibration: Calibration
) -> tuple[Float[np.ndarray, ' cell'], Float[np.ndarray, ' cell']]:
  """Ends of the interval of each cell; NaN where none was asked for."""
  if cells.rule.jackknife and calibration.intervals:
    return _jackknife(cells, values)
  if not cells.rule.jackknife and calibration.replicates:
    drawn = on_subsets(cells, calibration)
    error = intervals.subset_error(drawn, cells.blocks.units)
    degrees = intervals.subset_degrees(len(drawn))
    return intervals.interval(values, error, degrees)
  nothing = np.full(len(values), np.nan)
  return nothing, nothing


def on_subsets(
  cells: Cells, calibration: Calibration
) -> Float[np.ndarray, 'rounds groups cell']:
  """Scores without each group of sentences in turn, the same for all cells."""
  blocks = cells.blocks
  rounds = _rounds(calibration)
  key, every = jax.random.key(calibration.seed), np.ones(blocks.n, bool)
  subsets = _subsets(key, every, rounds, blocks.clusters)
  return np.array(
    [
      [cells.without(mask)[0] for mask in masks]
      for masks in np.asarray(subsets)
    ]
  )


def _rounds(calibration: Calibration) -> int:
  """Rounds of subsets that hold as many replicates as asked for, or more."""
  return -(-calibration.replicates // intervals.GROUPS)


def _jackknife(
  cells: Cells, values: Float[np.ndarray, ' cell']
) -> tuple[Float[np.ndarray, ' cell'], Float[np.ndarray, ' cell']]:
  """A few rows of the map at a time: each sentence's influence is in memory."""
  first, second = cells.sides
  mean, sd, _ = chance.exact_map(cells)
  count = len(second.factors.k)
  some = max(1, _BYTES // (4 * tiles.padded(cells.blocks.n) * count))
  parts = [
    _errors(
      first.factors.rows[start : start + some],
      second.factors.rows,
      tiles.valid_rows(cells.blocks.n),
      mean[start : start + some].astype(np.float32),
      sd[start : start + some].astype(np.float32),
      cells.blocks.padded_clusters,
    )
    for start in range(0, len(first.factors.k), some)
  ]
  picked = (cells.items.a, cells.items.b)
  error, degrees, by_chance = (
    np.concatenate(part)[picked].astype(np.float64)
    for part in zip(*jax.device_get(parts), strict=True)
  )
  if cells.blocks.clusters is not None:
    return intervals.interval(values, error, degrees)
  return intervals.interval_above_chance(
    values, error, degrees, mean[picked], by_chance
  )


def influences(cells: Cells) -> Float[np.ndarray, 'n cell']:
  """Of each sentence on each cell; the norm over sentences is the error."""
  first, second = cells.sides
  mean, sd, _ = chance.exact_map(cells)
  found = _spread(
    first.factors.rows,
    second.factors.rows,
    tiles.valid_rows(cells.blocks.n),
    mean.astype(np.float32),
    sd.astype(np.float32),
    cells.blocks.padded_clusters,
  )
  return np.asarray(found.influence)[:, cells.items.a, cells.items.b]


@jax.jit
def _errors(
  a: Float[Array, 'm n n'],
  b: Float[Array, 'l n n'],
  valid: Bool[Array, ' n'],
  mean: Float[Array, 'm l'],
  sd: Float[Array, 'm l'],
  clusters: Array | None,
) -> tuple[Array, Array, Array]:
  found = influence.spread(a, b, valid, mean, sd, clusters)
  return found.error, found.degrees, found.chance_error
