"""Scores of pairs on parts of their sentences, for statistics of many pairs.

What is computed from the scores of several pairs (a mean, a difference) has an
interval of its own, since the pairs share sentences. It comes from its values
on subsets of the sentences that are the same for all pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxrep.similarity import blocks, pairs, tiles
from jaxrep.similarity.blocks import Blocks
from jaxrep.similarity.cells import Cells
from jaxrep.similarity.measure import Calibration, Parameters


class PartScores(NamedTuple):
  """Scores at each cut of a list of pairs, and on parts of the sentences.

  `floor` and `k` are those of all sentences; `status` is 'ok' or why a pair has
  no value at a cut. NaN where there is none.
  """

  value: Float[np.ndarray, 'cut pair']
  floor: Float[np.ndarray, 'cut pair']
  k: Int[np.ndarray, 'cut pair']
  status: Shaped[np.ndarray, 'cut pair']
  on_parts: Float[np.ndarray, 'part cut pair']


def score_parts(
  representations: Mapping[str, Any],
  wanted: Int[np.ndarray, 'pair 2'],
  measure: str,
  parameters: Parameters,
  calibration: Calibration,
  parts: Bool[np.ndarray, 'part n'],
  cuts: Sequence[int] = (0,),
) -> PartScores:
  """Scores pairs on all sentences, and again on each part of them.

  Args:
    representations: as of `pairs.score_pairs`.
    wanted: positions in `representations`.
    measure: a name in `jaxrep.similarity.MEASURES`.
    parameters: of the measure.
    calibration: for the floor; no intervals are made.
    parts: the sentences of each part.
    cuts: components that both sides keep, 0 for the measure's own choice;
      others only of svcca and its variants.
  """
  rule = pairs.measure_named(measure)
  whole = [
    pairs.score_pairs(
      *(representations, wanted, measure, parameters, calibration),
      cuts=np.full(wanted.shape, cut) if cut else None,
    )
    for cut in cuts
  ]
  status = np.stack([one.status for one in whole])
  fine = np.flatnonzero((status == 'ok').any(axis=0))
  on_parts = np.full((len(parts), len(cuts), len(wanted)), np.nan)
  if fine.size:
    arguments = rule.arguments(parameters)
    arrays = {name: np.asarray(x) for name, x in representations.items()}
    made = Blocks(rule, arguments, arrays, None)
    for chosen, cells in _tiles(made, wanted[fine], calibration.seed):
      on_parts[:, :, fine[chosen]] = [
        cells.without(part, cuts) for part in parts
      ]
  return PartScores(
    np.stack([one.value for one in whole]),
    np.stack([one.floor for one in whole]),
    np.stack([one.k for one in whole]),
    status,
    np.where(status == 'ok', on_parts, np.nan),
  )


def _tiles(
  made: Blocks, wanted: Int[np.ndarray, 'pair 2'], seed: int
) -> list[tuple[Int[np.ndarray, ' some'], Cells]]:
  """Which pairs are in which tile."""
  tile, inside = np.divmod(wanted, blocks.SIZE)
  found = []
  for rows, columns in np.unique(tile, axis=0).tolist():
    chosen = np.flatnonzero((tile == (rows, columns)).all(axis=1))
    a, b = inside[chosen].T
    same = np.zeros(len(chosen), int)
    items = tiles.Items(a, b, same, same, same + tiles.AS_THEY_ARE)
    found.append((chosen, Cells(made, rows, columns, items, seed)))
  return found
