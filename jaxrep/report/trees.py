"""Where the lines and names of two facing trees stand.

On the left what was measured, merge by merge; on the right the families that
the leaves belong to. Ties that do not cross are where the two agree.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from jaxrep.report import plots

# Left tree, names, ties, right tree, its names: shares of the width.
_TREE, _NAMES, _TIED, _UNTIED = 0.24, 0.25, 0.555, 0.61
_BRANCH, _FAMILY, _KIN = 0.63, 0.65, 0.665
_APART = 0.4  # rows between two families


class Merge(NamedTuple):
  """Two branches that meet at `level`; y in leaves from the top.

  `starts` are the levels at which these branches begin: that of an earlier
  merge, or None for a leaf.
  """

  level: float
  starts: tuple[float | None, float | None]
  y: tuple[float, float]


class Leaf(NamedTuple):
  """A language; `family` and `branch` are empty where they are not known."""

  name: str
  family: str
  branch: str


def facing(
  title: str, xlabel: str, merges: Sequence[Merge], leaves: Sequence[Leaf]
) -> plots.Trees:
  """The tree of `merges` over `leaves`, facing the tree of their families.

  Args:
    title: of the panel.
    xlabel: what a level is.
    merges: of two or more leaves, the first of them first; levels rise, or
      fall, from the leaves to the root.
    leaves: in the order of the left tree, from the top.
  """
  kin = _Kin(leaves)
  stretch = (kin.rows - 1) / (len(leaves) - 1)
  levels = [merge.level for merge in merges]
  first, root = levels[0], levels[-1]
  tip = first + (0.1 * (first - root) or 0.01)

  def at(level: float | None) -> float:
    return _TREE if level is None else _TREE * (level - root) / (tip - root)

  left = tuple(
    plots.Branch(
      (at(starts[0]), at(level), at(level), at(starts[1])),
      tuple(stretch * y for y in (ends[0], ends[0], ends[1], ends[1])),
      (at(level), stretch * statistics.fmean(ends)),
      f'{xlabel} {level:.3f}',
    )
    for level, starts, ends in merges
  )
  y = [stretch * i for i in range(len(leaves))]
  ties = zip(y, kin.places, strict=True)
  names = (
    plots.Label(_NAMES, height, leaf.name)
    for height, leaf in zip(y, leaves, strict=True)
  )
  return plots.Trees(
    title,
    xlabel,
    tuple((at(level), text) for level, text in _ticks(root, tip)),
    kin.rows,
    (*left, *kin.branches),
    tuple(plots.Branch((_TIED, _UNTIED), tie) for tie in ties),
    (*names, *kin.labels),
  )


def _ticks(a: float, b: float) -> list[tuple[float, str]]:
  """Two round numbers far apart between two, or one, or none."""
  low, high = min(a, b), max(a, b)
  digits = math.ceil(-math.log10(high - low))
  for step in (10**-digits * x for x in (1, 2, 5)):
    count = range(math.ceil(low / step), math.floor(high / step) + 1)
    if len(count) <= 4:
      break
  ends = dict.fromkeys([*count[:1], *count[-1:]])
  return [(i * step, f'{i * step:.{max(digits, 0)}f}') for i in ends]


class _Kin:
  """The right tree: families, their branches, and the leaves of these.

  Each stands where its leaves have their mean place on the left, so that few
  ties cross. A family with several branches has its name in a row of its own.
  """

  def __init__(self, leaves: Sequence[Leaf]):
    self.places = [0.0] * len(leaves)
    self.branches: list[plots.Branch] = []
    self.labels: list[plots.Label] = []
    self.rows = 0.0
    families = _grouped(
      range(len(leaves)), lambda i: leaves[i].family or f'of {i} alone'
    )
    for _, members in families:
      self._family(leaves, members)

  def _family(self, leaves: Sequence[Leaf], members: Sequence[int]) -> None:
    family = leaves[members[0]].family or 'family unknown'
    self.rows += _APART if self.rows else 0.0
    branches = _grouped(members, lambda i: leaves[i].branch)
    if len(branches) > 1:
      self.labels.append(plots.Label(_KIN, self.rows, family, bold=True))
      self.rows += 1
    heights = [self._branch(own) for _, own in branches]
    for (branch, own), y in zip(branches, heights, strict=True):
      label = (branch or 'other') if len(branches) > 1 else family
      self.labels.append(plots.Label(_KIN, y, label))
      kin = ', '.join(filter(None, (family, branch)))
      self.branches.append(
        plots.Branch(
          (_BRANCH, _FAMILY, _FAMILY),
          (y, y, statistics.fmean(heights)),
          ((_BRANCH + _FAMILY) / 2, y),
          f'{kin}: {", ".join(leaves[i].name for i in own)}',
        )
      )

  def _branch(self, members: Sequence[int]) -> float:
    """Gives each leaf a row; the middle of them."""
    for i in members:
      self.places[i] = self.rows
      self.rows += 1
    ends = [self.places[i] for i in members]
    middle = statistics.fmean(ends)
    self.branches += [
      plots.Branch((_UNTIED, _BRANCH, _BRANCH), (y, y, middle)) for y in ends
    ]
    return middle


def _grouped(
  members: Iterable[int], key: Callable[[int], str]
) -> list[tuple[str, list[int]]]:
  """Members by key, in the order of their mean."""
  groups: dict[str, list[int]] = {}
  for member in members:
    groups.setdefault(key(member), []).append(member)
  return sorted(groups.items(), key=lambda group: statistics.fmean(group[1]))
