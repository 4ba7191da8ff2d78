"""How alike a side can be: the same text, by another recording.

A recording is its text and noise: a voice, a room, a speed. Noise that is new
in every recording weakens a correlation with something else by the square root
of the correlation r between two recordings of the same sentences (Spearman,
"The proof and measurement of association between two things", 1904). So a cell
can at most reach

    ceiling = sqrt(r_a r_b)

where r is of the same measure at the same sentences and components; a text
repeats itself, r = 1. It holds for measures that act as correlations do: not
for retrieval, nor for what moves with an offset. value / ceiling is the value
without that noise only where the floor is near 0: chance is in both.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxrep.jobs.batch import Batch, Cell, Place
from jaxrep.similarity.measure import Measure

_AGAIN = ', recorded again'


class Key(NamedTuple):
  """A place against itself by another recording, at so many components.

  The cuts are those of the cell, the smaller in front; 0 where the measure
  makes its own.
  """

  place: Place
  small: int
  large: int


class Repeat(NamedTuple):
  """The score of a `Key`, and the components that it was made of."""

  value: float
  small: int
  large: int


def describe(rule: Measure) -> str:
  """What a ceiling is, for the definition; empty if there is none."""
  if not _allowed(rule):
    return ''
  return (
    'ceiling: sqrt(r_a r_b), where r is the score of one recording of the '
    'sentences against another at the n and k of the cell, 1 for text'
  )


def find(
  batch: Batch,
  scores: Any,
  rule: Measure,
  fixed_k: bool,
  score: Callable[..., Any],
) -> Float[np.ndarray, ' cell']:
  """The ceiling of each cell; NaN where it has none.

  None has a side with itself, speech without other recordings, a repetition
  that scores below 0, and a measure whose number of components cannot be held
  at that of the cell. Where each cell needs repetitions of its own, layers
  with their counterparts alone have one.

  Args:
    batch: the cells.
    scores: of the cells, a PairScores.
    rule: the measure.
    fixed_k: whether all cells are made of equally many components.
    score: `(arrays, pairs, cuts=…) -> PairScores` under the measure.
  """
  ceilings = np.full(len(batch.cells), np.nan)
  if not _allowed(rule):
    return ceilings
  own = rule.nuclear and not fixed_k
  asked = _asked(batch, scores.status == 'ok', own)
  keys = {
    i: _keys(batch, i, scores, own) for i in np.flatnonzero(asked).tolist()
  }
  keys = {i: some for i, some in keys.items() if _there(batch, some)}
  wanted = dict.fromkeys(key for some in keys.values() for key in some)
  repeats = _repeat(batch, list(wanted), score)
  for i, some in keys.items():
    size = _sizes(scores, i)
    r = [repeats[key] for key in some]
    if all(one[1:] == size and one.value >= 0 for one in r):
      ceilings[i] = np.sqrt(np.prod([one.value for one in r]))
  return ceilings


def _allowed(rule: Measure) -> bool:
  return rule.symmetric and rule.paired and rule.centred


def _asked(
  batch: Batch, defined: Bool[np.ndarray, ' cell'], own: bool
) -> Bool[np.ndarray, ' cell']:
  """Cells of two sides that repeat themselves."""

  def repeats(place: Place) -> bool:
    return _is_text(place) or batch.title(place) in batch.again

  cells = [
    (cell.matching or not own)
    and cell.a.side != cell.b.side
    and repeats(cell.a)
    and repeats(cell.b)
    for cell in batch.cells
  ]
  return np.array(cells, bool) & defined


def _keys(batch: Batch, i: int, scores: Any, own: bool) -> list[Key]:
  cell: Cell = batch.cells[i]
  cuts = _sizes(scores, i) if own else (0, 0)
  return [Key(one, *cuts) for one in (cell.a, cell.b) if not _is_text(one)]


def _there(batch: Batch, keys: list[Key]) -> bool:
  """Whether each place can have as many components as its cuts ask for."""
  widths = (batch.states[batch.title(key.place)].shape[1] for key in keys)
  most = (min(len(batch.ids) - 1, width) for width in widths)
  return all(key.large <= size for key, size in zip(keys, most, strict=True))


def _sizes(scores: Any, i: int) -> tuple[int, int]:
  small, large = sorted((int(scores.k_a[i]), int(scores.k_b[i])))
  return small, large


def _is_text(place: Place) -> bool:
  return place.side[1] == 'text'


def _repeat(
  batch: Batch, keys: list[Key], score: Callable[..., Any]
) -> dict[Key, Repeat]:
  """Each key's score; NaN where it has none."""
  if not keys:
    return {}
  titles = list(dict.fromkeys(batch.title(key.place) for key in keys))
  arrays = {title: batch.states[title] for title in titles}
  arrays |= {title + _AGAIN: batch.again[title] for title in titles}
  position = {title: i for i, title in enumerate(titles)}
  first = np.array([position[batch.title(key.place)] for key in keys])
  cuts = np.array([key[1:] for key in keys])
  pairs = np.stack([first, first + len(titles)], axis=1)
  found = score(arrays, pairs, cuts=cuts if cuts.any() else None)
  return {
    key: Repeat(found.value[i], *_sizes(found, i)) for i, key in enumerate(keys)
  }
