"""The floor of each cell, its spread, and how surely a value is above it.

Three routes: exact moments over all pairings (scores that are inner products
of sentence-by-sentence matrices); a law of random subspaces with what it
misses learnt from random pairings of some cells (SVCCA); random pairings of
every cell (the rest).
"""

from typing import NamedTuple

import numpy as np
from absl import logging
from jaxtyping import Float, Int

from jaxrep.similarity import tiles
from jaxrep.similarity.blocks import Block
from jaxrep.similarity.cells import Cells
from jaxrep.similarity.measure import Measure, Null
from jaxrep.stats import tails, wachter

_FEWEST = 19  # random pairings that can make a p of 0.05
_EACH = 8  # cells that share a random pairing when a floor is learnt
_OUTSIDE = 0.02  # share of cells that may lie 3 standard errors off


class Chance(NamedTuple):
  """By cell: mean and sd over random pairings, and p of a value as large.

  `height` is the value as it is compared with `maxima`, the largest of a
  family under each joint pairing: both standardised alike. NaN where something
  was not asked for.
  """

  mean: Float[np.ndarray, ' cell']
  sd: Float[np.ndarray, ' cell']
  p: Float[np.ndarray, ' cell']
  height: Float[np.ndarray, ' cell']
  maxima: Float[np.ndarray, 'draw family']


def describe(measure: Measure, permutations: int, joint: int) -> str:
  """How floor and p are found, for the definition."""
  floor = _describe_floor(measure, permutations)
  if measure.paired and joint >= _FEWEST:
    floor += f'; p: counted over {joint} random pairings of all cells at once'
  elif measure.null is not None:
    floor += (
      '; p: Pearson type III law of the exact moments, approximate where few '
      'sentences lie far out'
    )
  elif measure.nuclear:
    floor += "; p: Student's t, bent as Pearson type III for few components"
  elif measure.paired and permutations >= _FEWEST:
    floor += f'; p: counted over {permutations} random pairings'
  return floor


def _describe_floor(measure: Measure, permutations: int) -> str:
  if not measure.paired:
    return 'no floor: the pairing of the sentences does not enter'
  if measure.null is not None:
    return 'floor: exact mean over all pairings of the sentences'
  if measure.nuclear:
    return (
      f'floor: Wachter law plus what {permutations} random pairings of up to '
      f'{_EACH} cells each add to it, pooled by how unevenly sentences weigh'
    )
  if measure.law is not None:
    return 'floor: exact mean over all pairings of the sentences'
  return f'floor: mean over {permutations} random pairings of the sentences'


def find(
  cells: Cells,
  values: Float[np.ndarray, ' cell'],
  permutations: int,
  joint: int,
  families: Int[np.ndarray, ' cell'],
) -> Chance:
  """What chance gives in each cell.

  Args:
    cells: of one tile.
    values: their scores.
    permutations: random pairings for a floor that is not exact.
    joint: random pairings of all cells at once, for family-wise p.
    families: the map, numbered from 0, that a cell belongs to.
  """
  rule, count = cells.rule, len(values)
  nothing = np.full(count, np.nan)
  none = np.full((0, int(families.max()) + 1), -np.inf)
  if not rule.paired:
    return Chance(nothing, nothing, nothing, nothing, none)
  if rule.null is not None:
    mean, sd, skewness = _exact(cells)
    p = tails.upper_tail(values, mean, sd, skewness)
  elif rule.nuclear:
    mean, sd, p = _learnt(cells, values, permutations)
  else:
    return _sampled(cells, values, permutations, joint, families)
  maxima, above = [none], np.zeros(count)
  for drawn in cells.nulls(joint):
    maxima.append(_maxima(drawn, mean, sd, families))
    above += np.sum(drawn >= values, axis=0)
  if joint >= _FEWEST:
    p = (1 + above) / (1 + joint)
  height = standardise(values, mean, sd)
  return Chance(mean, sd, p, height, np.concatenate(maxima))


def exact_map(cells: Cells) -> Null:
  """Exact moments of every member of one block with every other's, [m, l]."""
  summaries = (block.summary for block in cells.sides)
  moments = tiles.exact_null(cells.rule, *summaries, cells.blocks.n)
  return Null(*(np.asarray(moment, np.float64) for moment in moments))


def _exact(cells: Cells) -> Null:
  items = cells.items
  null = Null(*(moment[items.a, items.b] for moment in exact_map(cells)))
  scale = cells.scale(items)
  return null._replace(mean=null.mean * scale, sd=null.sd * scale)


def _learnt(
  cells: Cells, values: Float[np.ndarray, ' cell'], permutations: int
) -> tuple[Float[np.ndarray, ' cell'], ...]:
  """From random pairings of some cells, each with a pairing of its own."""
  prior = _prior(cells)
  count = permutations * min(len(values), _EACH)
  drawn = np.arange(count) * len(values) // count
  scale = np.broadcast_to(cells.scale(cells.items), values.shape)
  at_random = cells.under(drawn, np.arange(count)) / scale[drawn]
  before = wachter.Chance(*(field[drawn] for field in prior))
  floor = wachter.pooled(at_random, before, prior)
  _warn(at_random, drawn, floor)
  p = tails.student(
    *(values / scale, floor.mean, floor.sd, floor.dof, floor.error)
  )
  p = tails.bent(p, wachter.skewness(cells.items.k_a, cells.items.k_b))
  return floor.mean * scale, floor.sd * scale, p


def _warn(
  scores: Float[np.ndarray, ' draw'],
  drawn: Int[np.ndarray, ' draw'],
  floor: wachter.Floor,
) -> None:
  """Says so if more cells than expected lie far from their floors."""
  counts = np.bincount(drawn, minlength=len(floor.mean))
  sums = np.bincount(drawn, scores, minlength=len(floor.mean))
  off = wachter.disagrees(sums / np.maximum(counts, 1), counts, floor)
  if off.sum() > 1 + _OUTSIDE * np.sum(counts > 0):
    logging.warning(
      'The floors of %d of %d cells differ from their own random pairings by '
      'more than 3 standard errors: give more --permutations.',
      off.sum(),
      np.sum(counts > 0),
    )


def _prior(cells: Cells) -> wachter.Chance:
  """What dimensions and unevenness say of each cell."""
  items = cells.items
  sides = zip(
    cells.sides, (items.a, items.b), (items.k_a, items.k_b), strict=True
  )
  uneven = [_uneven(block, *places, cells.blocks.n) for block, *places in sides]
  return wachter.chance(items.k_a, items.k_b, cells.blocks.n, *uneven)


def _uneven(
  block: Block,
  places: Int[np.ndarray, ' cell'],
  k: Int[np.ndarray, ' cell'],
  n: int,
) -> wachter.Uneven:
  """How unequally sentences carry one side of each cell."""
  sides, back = np.unique(np.stack([places, k]), axis=1, return_inverse=True)
  shares = tiles.leverages(block.factors, *sides)
  shares = np.asarray(shares, np.float64)[:, :n]
  uneven = wachter.unevenness(shares, sides[1])
  return wachter.Uneven(*(field[back.reshape(-1)] for field in uneven))


def _sampled(
  cells: Cells,
  values: Float[np.ndarray, ' cell'],
  permutations: int,
  joint: int,
  families: Int[np.ndarray, ' cell'],
) -> Chance:
  """From random pairings of every cell; the mean from the law if exact."""
  count = max(joint, permutations)
  law = None
  if cells.rule.law is not None:
    law = cells.rule.law(cells.items.k_a, cells.items.k_b, cells.blocks.n)
    count = count if count >= _FEWEST else 0
  drawn = np.concatenate([np.empty((0, len(values))), *cells.nulls(count)])
  mean = (
    drawn.mean(axis=0) if law is None else np.broadcast_to(law, values.shape)
  )
  sd = np.full(len(values), np.nan)
  if count > 1:
    sd = drawn.std(axis=0, ddof=1)
  p = np.full(len(values), np.nan)
  if count >= _FEWEST:
    p = tails.monte_carlo(values, drawn.T)
  # The value is one more draw if chance made it: standardised by draws that it
  # is not among, it would stand out among those that are.
  every = np.concatenate([values[None], drawn[:joint]])
  middle, spread = every.mean(axis=0), every.std(axis=0)
  height = standardise(values, middle, spread)
  maxima = _maxima(drawn[:joint], middle, spread, families)
  return Chance(mean, sd, p, height, maxima)


def _maxima(
  drawn: Float[np.ndarray, 'draw cell'],
  mean: Float[np.ndarray, ' cell'],
  sd: Float[np.ndarray, ' cell'],
  families: Int[np.ndarray, ' cell'],
) -> Float[np.ndarray, 'draw family']:
  """The largest standardised value of each family under each pairing."""
  z = np.nan_to_num(standardise(drawn, mean, sd), nan=-np.inf)
  found = np.full((len(drawn), int(families.max()) + 1), -np.inf)
  for family in np.unique(families):
    found[:, family] = z[:, families == family].max(axis=1)
  return found


def standardise(
  values: Float[np.ndarray, '*draw cell'],
  mean: Float[np.ndarray, ' cell'],
  sd: Float[np.ndarray, ' cell'],
) -> Float[np.ndarray, '*draw cell']:
  """Standard deviations above the mean; NaN where every pairing is alike."""
  return (values - mean) / np.where(sd > 0, sd, np.nan)
