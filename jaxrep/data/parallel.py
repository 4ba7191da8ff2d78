"""Alignment: which sentence ids two sides of a comparison share.

A side is a (language, modality). Representations are compared, and centred, on
common ids only. In FLEURS nearly every pair of languages has its own set of
them, and the set common to many languages is small or empty.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool

from jaxrep.types import InputError

Side = tuple[str, str]
Pair = tuple[Side, Side]

_NAMED = 5


class Group(NamedTuple):
  """Pairs of sides that have the same common ids, in sorted order."""

  ids: tuple[str, ...]
  pairs: tuple[Pair, ...]


class Short(NamedTuple):
  """A pair with too few common ids: a null cell, and why."""

  pair: Pair
  common: int
  reason: str


class Alignment(NamedTuple):
  groups: tuple[Group, ...]
  short: tuple[Short, ...]


class Summary(NamedTuple):
  """What a plan says of an alignment.

  `ids` counts each side's distinct ids, `common` those of all sides together,
  `sets` the distinct id sets, `bases` the (side, id set) for each of which
  every layer needs a factorisation, `pairs` and `short` the pairs that are
  compared and those that have too few ids.
  """

  ids: dict[Side, int]
  common: int
  sets: int
  bases: int
  pairs: int
  short: int


def common_ids(
  sides: Mapping[Side, Sequence[str]],
  mode: Literal['pair', 'all'],
  minimum: int,
) -> Alignment:
  """The common ids of each unordered pair of sides, and of a side with itself.

  Pairs with equal ids form one group; groups and pairs come in the order of
  `sides`. Repeated ids of a side (several recordings) count once.

  Args:
    sides: the ids of each side.
    mode: 'pair' aligns each pair by itself; 'all' takes for every pair the ids
      that all sides have.
    minimum: fewest ids that a comparison is made on. In mode 'pair' a pair
      with fewer is put into `short`.

  Raises:
    InputError: in mode 'all', too few ids are common; names the sides that
      lack most.
  """
  universe, has = _membership(sides)
  if mode == 'all':
    everywhere = has.all(axis=0)
    if everywhere.sum() < minimum:
      raise InputError(_too_few(list(sides), has, minimum))
    has = np.broadcast_to(everywhere, has.shape)
  by_ids = collections.defaultdict(list)
  names = list(sides)
  for a, name in enumerate(names):
    shared = np.packbits(has[a] & has[a:], axis=1)
    for other, bits in zip(names[a:], shared, strict=True):
      by_ids[bits.tobytes()].append((name, other))
  groups, short = [], []
  for bits, pairs in by_ids.items():
    mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=len(universe))
    ids = tuple(universe[mask.astype(bool)].tolist())
    if len(ids) >= minimum:
      groups.append(Group(ids, tuple(pairs)))
    else:
      reason = f'{len(ids)} common sentences, {minimum} are needed'
      short += [Short(pair, len(ids), reason) for pair in pairs]
  return Alignment(tuple(groups), tuple(short))


def summarise(
  sides: Mapping[Side, Sequence[str]], alignment: Alignment
) -> Summary:
  """Counts for the plan: how many ids, id sets and bases there are."""
  _, has = _membership(sides)
  return Summary(
    ids=dict(zip(sides, has.sum(axis=1).tolist(), strict=True)),
    common=int(has.all(axis=0).sum()),
    sets=len(alignment.groups),
    bases=sum(len(_members(group.pairs)) for group in alignment.groups),
    pairs=sum(len(group.pairs) for group in alignment.groups),
    short=len(alignment.short),
  )


def _members(pairs: Iterable[Pair]) -> set[Side]:
  return {side for pair in pairs for side in pair}


def _membership(
  sides: Mapping[Side, Sequence[str]],
) -> tuple[np.ndarray, Bool[np.ndarray, 'side id']]:
  """All ids, sorted, and which side has which."""
  if not sides:
    raise InputError('There is nothing to align: no language has any sentence.')
  universe = sorted(set().union(*sides.values()))
  place = {sentence: index for index, sentence in enumerate(universe)}
  has = np.zeros((len(sides), len(universe)), bool)
  for row, ids in zip(has, sides.values(), strict=True):
    row[[place[sentence] for sentence in ids]] = True
  return np.array(universe, object), has


def _too_few(
  names: list[Side], has: Bool[np.ndarray, 'side id'], minimum: int
) -> str:
  # Measured against the ids of most sides, because a side may have many ids
  # and still few that others have.
  usual = has.mean(axis=0) >= 0.5
  lacks = (usual & ~has).sum(axis=1)
  worst = [i for i in np.argsort(-lacks, kind='stable')[:_NAMED] if lacks[i]]
  named = ', '.join(f'{" ".join(names[i])} ({lacks[i]})' for i in worst)
  return (
    f'--common_ids=all leaves {has.all(axis=0).sum()} sentences, {minimum} are '
    f'needed. Of the {usual.sum()} sentences that most sides have, these lack '
    f'the most: {named or "none"}. Leave such languages out, or take '
    '--common_ids=pair.'
  )
