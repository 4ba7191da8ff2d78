"""What a finding is computed from: cells of a model, weighed by unit."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from scipy import sparse

Pair = tuple[str, str]  # of a text tap and a speech tap


class Place(NamedTuple):
  """Where a representation is taken."""

  language: str
  modality: str
  tap: str


Cell = tuple[Place, Place]
Weights = Mapping[Cell, float]


class Layout(NamedTuple):
  """What of a model is compared.

  `layers` are the text and speech taps that are compared with each other, in
  the order of the speech encoder, where all languages have them; `adaptor` the
  two pairs before and after the length adaptor, if they are among them.
  `classes` and `hours` of training are of the languages that have one.
  """

  languages: tuple[str, ...]
  classes: Mapping[str, str]
  layers: tuple[Pair, ...]
  adaptor: tuple[Pair, Pair] | None
  hours: Mapping[str, float] = MappingProxyType({})

  def of_class(self, *names: str) -> tuple[str, ...]:
    return tuple(
      one for one in self.languages if self.classes.get(one) in names
    )


class Statistic(NamedTuple):
  """A mean over units, or the mean over some less that over others.

  A unit is a language or, with `of_pairs`, several ('eng hin'); `weights` say
  how much each cell counts in its value. `sides` is 1 for the units that
  are counted, and -1 for those of a second group that the first is compared
  with.
  """

  units: tuple[str, ...]
  weights: tuple[Weights, ...]
  sides: tuple[int, ...]
  of_pairs: bool = False

  @property
  def cells(self) -> tuple[Cell, ...]:
    return tuple(dict.fromkeys(itertools.chain.from_iterable(self.weights)))

  def matrix(self, cells: Sequence[Cell]) -> sparse.csr_array:
    """The weight of each of `cells` in each unit [unit, cell].

    A unit has few of them: of a pair of 102 languages 8 in 30,000.
    """
    place = {cell: i for i, cell in enumerate(cells)}
    entries = [
      (weight, row, place[cell])
      for row, weights in enumerate(self.weights)
      for cell, weight in weights.items()
      if weight
    ]
    weights, rows, columns = np.array(entries).reshape(-1, 3).T
    at = rows.astype(int), columns.astype(int)
    return sparse.csr_array((weights, at), (len(self.units), len(cells)))


AGAIN = 'again'
"""In the place of 'speech': other recordings of the same sentences."""


def repeat(place: Place) -> Cell:
  """Speech against other recordings of its sentences."""
  return place, place._replace(modality=AGAIN)


def spoken(language: str, pair: Pair) -> Cell:
  """A language's text against its speech."""
  text, speech = pair
  return Place(language, 'text', text), Place(language, 'speech', speech)


def translated(a: str, b: str, modality: str, tap: str) -> Cell:
  """Two languages in one modality."""
  return Place(a, modality, tap), Place(b, modality, tap)


def mean(units: Mapping[str, Weights], of_pairs: bool = False) -> Statistic:
  """The mean over all units."""
  sides = (1,) * len(units)
  return Statistic(tuple(units), tuple(units.values()), sides, of_pairs)


def difference(
  units: Mapping[str, Weights], first: Iterable[str], second: Iterable[str]
) -> Statistic:
  """The mean over some units less that over others."""
  sides = dict.fromkeys(first, 1) | dict.fromkeys(second, -1)
  weights = tuple(units[name] for name in sides)
  return Statistic(tuple(sides), weights, tuple(sides.values()))
