"""Figure specifications: what is shown, whoever draws it.

An analysis gives a `Figure` of `Lines`, `Heatmap`, `Dots`, `Trees` or `Points`;
`interactive` draws it in the page, `printed` as PDF and PNG. The three class
colours keep apart under the common kinds of colour blindness (ΔE ≥ 30 in
simulation), and marker shapes repeat what colours say. None is an undefined
value and stays a gap.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

Value = float | None
Ticks = tuple[tuple[int | float, str], ...]  # place on the axis, label
Band = tuple[float, Value, Value]  # x, low, high
LineRole = Literal['mean', 'member', 'floor', 'floor_dotted', 'ceiling']
Scale = Literal['sequential', 'diverging']
Role = LineRole | Literal['band', 'hollow', 'filled', 'tick', 'bar']

INK, GREY, GAP, BAND = '#1b1b1f', '#75757d', '#b9b9c0', '#e3e3e8'
CLASS_STYLE = {  # colour, marker
  'high': ('#004488', 'circle'),
  'medium': ('#1B9E9E', 'square'),
  'low': ('#D95F02', 'diamond'),
  'unclassified': ('#AA4499', 'cross'),
}
MODALITY_STYLE = {'text': (INK, 'circle'), 'speech': ('#AA4499', 'square')}
SCALES = {
  'sequential': (
    *('#440154', '#472d7b', '#3b528b', '#2c728e', '#21918c'),
    *('#28ae80', '#5ec962', '#addc30', '#fde725'),
  ),
  'diverging': ('#542788', '#998ec3', '#f7f7f7', '#f1a340', '#b35806'),
}


@dataclasses.dataclass(frozen=True)
class Stroke:
  """How a role looks: sizes in points, `marker` 0 for a bare line."""

  width: float
  marker: float
  opacity: float
  dash: Literal['solid', 'dash', 'dot', 'dashdot'] = 'solid'


STROKES = {
  'mean': Stroke(2.4, 6.0, 1.0),
  'member': Stroke(1.0, 2.5, 0.4),
  'floor': Stroke(1.6, 0.0, 1.0, 'dash'),
  'floor_dotted': Stroke(1.6, 0.0, 1.0, 'dot'),
  'ceiling': Stroke(1.6, 0.0, 1.0, 'dashdot'),
}


@dataclasses.dataclass(frozen=True)
class Key:
  """One entry of a legend."""

  label: str
  role: Role
  colour: str
  symbol: str = 'circle'


@dataclasses.dataclass(frozen=True)
class Line:
  """A curve drawn as `key`, with one hover text per point."""

  x: tuple[float, ...]
  y: tuple[Value, ...]
  hover: tuple[str, ...]
  key: Key


@dataclasses.dataclass(frozen=True)
class Lines:
  """Curves over layers, and a grey band behind them."""

  title: str
  xlabel: str
  ylabel: str
  ticks: Ticks
  limits: tuple[float, float]
  lines: tuple[Line, ...]
  band: tuple[Band, ...] = ()


@dataclasses.dataclass(frozen=True)
class Heatmap:
  """A map z[y][x]; a diverging scale has its neutral colour at 0."""

  title: str
  xlabel: str
  ylabel: str
  xticks: Ticks
  yticks: Ticks
  z: tuple[tuple[Value, ...], ...]
  hover: tuple[tuple[str, ...], ...]
  scale: Scale
  limits: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Dot:
  """One row of a `Dots` plot: from `before` to `after`, floors beside them.

  `intervals` are those of both ends, where they have one.
  """

  label: str
  colour: str
  symbol: str
  emphasis: bool
  before: Value
  after: Value
  floors: tuple[Value, Value]
  hover: tuple[str, str]
  intervals: tuple[tuple[Value, Value], ...] = ()


@dataclasses.dataclass(frozen=True)
class Dots:
  """A change per row: hollow marker before, filled marker after."""

  title: str
  xlabel: str
  rows: tuple[Dot, ...]
  limits: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Branch:
  """A bent line of a tree; `hover` is shown at its `mark`, if it has one."""

  x: tuple[float, ...]
  y: tuple[float, ...]
  mark: tuple[float, float] | None = None
  hover: str = ''


@dataclasses.dataclass(frozen=True)
class Label:
  """Text that begins at a point."""

  x: float
  y: float
  text: str
  bold: bool = False


@dataclasses.dataclass(frozen=True)
class Trees:
  """Two trees face to face, with the names of their leaves (`trees.facing`).

  x goes from 0 to 1, y from 0 at the top to `rows` - 1, where a row has room
  for a name; `ties` join the leaves of both.
  """

  title: str
  xlabel: str
  ticks: Ticks
  rows: float
  branches: tuple[Branch, ...]
  ties: tuple[Branch, ...]
  labels: tuple[Label, ...]


@dataclasses.dataclass(frozen=True)
class Point:
  """One point of a `Points` plot, drawn as `key`: 'filled' or 'hollow'."""

  x: float
  y: Value
  hover: str
  key: Key


@dataclasses.dataclass(frozen=True)
class Points:
  """One thing against another."""

  title: str
  xlabel: str
  ylabel: str
  xlimits: tuple[float, float]
  ylimits: tuple[float, float]
  points: tuple[Point, ...]


Panel = Lines | Heatmap | Dots | Trees | Points


@dataclasses.dataclass(frozen=True)
class View:
  """A figure under one measure; `notes` belong beside it."""

  subtitle: str
  panels: tuple[Panel, ...]
  legend: tuple[Key, ...]
  notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Figure:
  """Panels in rows of `columns`, a view per measure (none: nothing to show).

  The only view of a figure that does not depend on the measure looked at is
  that of `EVERY_MEASURE`.
  """

  columns: int
  views: Mapping[str, View]


EVERY_MEASURE = ''
FLOOR = Key('floor: what chance gives', 'floor', GREY)
FLOOR_BAND = Key('range of the floor over languages', 'band', BAND)
CEILING = Key('ceiling: the same text, recorded again', 'ceiling', GREY)
UNDEFINED = Key('undefined', 'band', GAP)


def stem(analysis: str, measure: str) -> str:
  """What the files and plots of a view are called."""
  return analysis if measure == EVERY_MEASURE else f'{analysis}-{measure}'


def legend(lines: Iterable[Line]) -> tuple[Key, ...]:
  """The keys of some lines, each label once."""
  return tuple({line.key.label: line.key for line in lines}.values())


def seen(line: Line) -> Line:
  """The line; a bare one of one point, which leaves no trace, as a dash."""
  if len(line.x) != 1 or STROKES[line.key.role].marker:
    return line
  ends = (line.x[0] - 0.25, line.x[0] + 0.25)
  return dataclasses.replace(line, x=ends, y=line.y * 2, hover=line.hover * 2)


def stage(tap: str) -> str:
  """A tap's place in its branch: '5' of 'text/layer_05', 'pre-adaptor'.

  The layers of a network inside of the branch's have its name in front of
  their number: 'whisper 5'.
  """
  name = tap.partition('/')[2]
  inner, layer, number = name.rpartition('layer_')
  if layer and number.isdecimal():
    return f'{inner.replace("_", " ")}{int(number)}'
  return name.replace('_', '-')


def _unnamed(stage: str) -> bool:
  """Whether an axis need not name it: a layer, but an inner network's first."""
  inner, _, number = stage.rpartition(' ')
  return number.isdecimal() and (not inner or number != '1')


def places(stages: Sequence[str]) -> tuple[float, ...]:
  """Where stages stand on a layer axis: named ones take room for their name."""
  wide = 2.0 if len(stages) > 16 else 1.0
  x, found = 0.0, []
  for before, name in itertools.pairwise(['0', *stages]):
    layers = _unnamed(before) and _unnamed(name)
    x += 1.0 if layers or not found else wide
    found.append(x)
  return tuple(found)


def ticks(stages: Sequence[str], apart: int = 1) -> tuple[tuple[int, str], ...]:
  """(index, label) of the stages that an axis can name.

  These are the last and the first, the other named ones, and about eight layer
  numbers, where they are `apart` from those before; finer taps have no label.
  """
  layers = sum(name.isdecimal() for name in stages)
  step = next(s for s in (1, 2, 4, 5, 10, 20, 50) if layers <= 8 * s)
  named = [i for i, s in enumerate(stages) if not _unnamed(s) and '/' not in s]
  numbers = [
    i for i, s in enumerate(stages) if s.isdecimal() and int(s) % step == 0
  ]
  kept: list[int] = []
  for index in [*named[-1:], *named[:1], *named[1:-1], *numbers]:
    if all(abs(index - other) >= apart for other in kept):
      kept.append(index)
  return tuple((index, stages[index]) for index in sorted(kept))


def whiskers(panel: Dots) -> list[tuple[int, float, float, float]]:
  """(row, height, low, high) of the intervals: before above, after below."""
  return [
    (position, position + (-0.22, 0.22)[end], low, high)
    for position, row in enumerate(panel.rows)
    for end, (low, high) in enumerate(row.intervals)
    if low is not None and high is not None
  ]


def unbroken(band: Iterable[Band]) -> list[list[tuple[float, float, float]]]:
  """The stretches of a band between its gaps."""
  stretches: list[list[tuple[float, float, float]]] = [[]]
  for x, low, high in band:
    if low is None or high is None:
      stretches.append([])
    else:
      stretches[-1].append((x, low, high))
  return [stretch for stretch in stretches if stretch]


def limits(values: Iterable[Value], *extra: float) -> tuple[float, float]:
  """An axis that holds all defined values and `extra`, with a margin."""
  defined = [value for value in values if value is not None] + list(extra)
  low, high = min(defined, default=0.0), max(defined, default=1.0)
  margin = max(0.05 * (high - low), 0.005)
  return low - margin, high + margin
