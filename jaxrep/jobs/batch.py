"""What is compared on the same sentences, and by which layers."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from jaxrep.data.parallel import Group, Pair, Side
from jaxrep.jobs.sides import Held, States


class Place(NamedTuple):
  """Where in a model a representation is taken."""

  side: Side
  tap: str


class Cell(NamedTuple):
  """Two representations; `matching` if one is the other's counterpart."""

  a: Place
  b: Place
  matching: bool


@dataclasses.dataclass(frozen=True)
class Batch:
  """Cells on common sentences, and the states of their places on these.

  `states` are by `title` of the place; `again` are those of another recording,
  where there is one.
  """

  model: str
  ids: tuple[str, ...]
  cells: tuple[Cell, ...]
  states: States
  again: States

  @property
  def maps(self) -> list[Pair]:
    """The pair of sides of each cell: a map is all its layers by layers."""
    return [(cell.a.side, cell.b.side) for cell in self.cells]

  def title(self, place: Place) -> str:
    return '/'.join((self.model, *place.side, place.tap))

  def pairs(self, cells: Iterable[Cell]) -> Int[np.ndarray, 'cell 2']:
    """Positions in `states` of both sides of each cell."""
    position = {title: i for i, title in enumerate(self.states)}
    ends = [
      [position[self.title(place)] for place in (cell.a, cell.b)]
      for cell in cells
    ]
    return np.array(ends, int).reshape(-1, 2)


def make(
  model: str,
  sides: Mapping[Side, Held],
  group: Group,
  cells: Iterable[Cell],
) -> Batch:
  """The cells of a group of pairs, with what they compare."""
  empty = Batch(model, group.ids, tuple(cells), {}, {})
  for side in dict.fromkeys(itertools.chain.from_iterable(group.pairs)):
    held = sides[side]
    rows = held.rows(group.ids)
    for kept, states in (
      (empty.states, held.states),
      (empty.again, held.again),
    ):
      for tap, x in (states or {}).items():
        some = x[rows]
        some.flags.writeable = False  # several measures name it by its contents
        kept[empty.title(Place(side, tap))] = some
  return empty


def cells_of(
  pair: Pair,
  taps: tuple[Sequence[str], Sequence[str]],
  counterparts: Mapping[str, str],
  layers: Literal['all', 'within', 'matching'],
) -> list[Cell]:
  """The pairs of layers that a pair of sides is compared by.

  Args:
    pair: two sides, or one with itself; text in front.
    taps: of both.
    counterparts: speech tap to the text tap that it is compared with.
    layers: every layer with every layer, or with its counterpart, or the
      former within a language and the latter between two.
  """
  (language_a, kind_a), (language_b, kind_b) = pair
  matching = [(tap, tap) for tap in taps[0]]
  if kind_a != kind_b:
    matching = [(text, speech) for speech, text in counterparts.items()]
  # The encoder of one language may have fewer layers than that of another.
  there = [set(names) for names in taps]
  matching = [(a, b) for a, b in matching if a in there[0] and b in there[1]]
  chosen: Iterable[tuple[str, str]] = itertools.product(*taps)
  between = language_a != language_b
  if layers == 'matching' or (layers == 'within' and between):
    chosen = matching
  elif pair[0] == pair[1]:
    chosen = itertools.combinations_with_replacement(taps[0], 2)
  same = set(matching)
  return [
    Cell(Place(pair[0], a), Place(pair[1], b), (a, b) in same)
    for a, b in chosen
  ]
