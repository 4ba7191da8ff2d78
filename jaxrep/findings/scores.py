"""Scores of a finding's cells, at one n and on subsets that all share."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jaxtyping import Bool, Float, Int

from jaxrep.findings.cells import Cell, Place, repeat
from jaxrep.similarity import pairs, saved
from jaxrep.similarity.measure import Calibration, Parameters
from jaxrep.similarity.parts import PartScores, score_parts
from jaxrep.stats import intervals

TOGETHER = 256  # representations that are factored together
_subsets = jax.jit(intervals.subsets, static_argnames='rounds')


MEASURES = ('svcca', 'svcca_heldout', 'cka_debiased', 'retrieval_r1')
UNCENTRED = ('retrieval_uncentred_r1',)
FIXED = '_k'
"""Behind a measure's name: both its scores are those at the fixed k."""


@dataclasses.dataclass(frozen=True)
class Held:
  """What a model's store holds of one side: sorted ids, and states by tap."""

  ids: tuple[str, ...]
  states: Mapping[str, Float[np.ndarray, 'sentence _']]


Sides = Mapping[tuple[str, str], Held]


@dataclasses.dataclass(frozen=True)
class Settings:
  """`k` components are kept; `rounds` of three subsets give the intervals.

  `variance` is the share that a published reading keeps. A pair of sides
  with fewer than `minimum` common sentences has no value.
  """

  k: int = 10
  rounds: int = 8
  variance: float = 0.99
  splits: int = 3
  permutations: int = 16
  minimum: int = 20
  seed: int = 0


class Scores(NamedTuple):
  """Of each cell, and on each subset; NaN where a cell has no value.

  `n` sentences are behind every cell, `k` is the range of components kept by
  the raw score, (0, 0) for a measure that keeps none. `reasons` say why a cell
  has no value, or are empty.
  """

  n: int
  k: tuple[int, int]
  raw: Float[np.ndarray, ' cell']
  calibrated: Float[np.ndarray, ' cell']
  raw_on_subsets: Float[np.ndarray, 'round group cell']
  calibrated_on_subsets: Float[np.ndarray, 'round group cell']
  reasons: tuple[str, ...]


class Sentences(NamedTuple):
  """The sentences of each cell, equally many for all that have enough.

  `chosen` are positions in `universe`, ids in a random order; None for a cell
  that has too few. `counts` says how many each has.
  """

  universe: tuple[str, ...]
  chosen: tuple[Int[np.ndarray, ' n'] | None, ...]
  counts: tuple[int, ...]


def choose(
  sides: Sides,
  cells: Sequence[Cell],
  settings: Settings,
  share: tuple[float, float] = (0.0, 1.0),
) -> Sentences:
  """One number of sentences for all cells: as many as the scarcest pair has.

  Args:
    sides: what there is of each language and modality.
    cells: what is to be scored.
    settings: `minimum` and `seed`.
    share: the part of a random order of all sentences that is used.
  """
  universe = sorted({one for held in sides.values() for one in held.ids})
  generator = np.random.default_rng(settings.seed)
  universe = [universe[i] for i in generator.permutation(len(universe))]
  universe = universe[slice(*(round(end * len(universe)) for end in share))]
  has = {side: np.isin(universe, held.ids) for side, held in sides.items()}
  both = [has[a[:2]] & has[b[:2]] for a, b in cells]
  counts = tuple(int(one.sum()) for one in both)
  n = min((c for c in counts if c >= settings.minimum), default=0)
  chosen = tuple(
    np.flatnonzero(one)[:n] if count >= settings.minimum else None
    for one, count in zip(both, counts, strict=True)
  )
  return Sentences(tuple(universe), chosen, counts)


def score(
  sides: Sides,
  cells: Sequence[Cell],
  measure: str,
  sentences: Sentences,
  settings: Settings,
  folder: epath.Path | None = None,
) -> dict[str, Scores]:
  """Scores of all cells, raw and calibrated, on all subsets.

  Calibrated is (value - floor) / (1 - floor) of each cell at the fixed k, with
  the floor of all its sentences. SVCCA is read twice: with the raw score that
  the study takes, of as many components as hold the share of the variance, so
  that k differs between cells; and, as `svcca_k`, with that at the fixed k.
  What is scored is kept in `folder`, for whoever is killed and comes again.
  """
  reasons = [
    ''
    if some is not None
    else f'{count} common sentences, {settings.minimum} are needed'
    for some, count in zip(sentences.chosen, sentences.counts, strict=True)
  ]
  outside = _outside(len(sentences.universe), settings)
  cuts = _cuts(measure, settings)
  shape = (len(outside) + 1, len(cuts), len(cells))
  value, calibrated = np.full(shape, np.nan), np.full(shape, np.nan)
  k = np.zeros(shape[1:], int)
  for batch in _batches(cells, sentences):
    rows = sentences.chosen[batch[0]]
    found = _score(
      *(sides, [cells[i] for i in batch], measure, settings),
      [sentences.universe[i] for i in rows],
      ~outside[:, rows],
      folder,
    )
    value[:, :, batch] = np.concatenate([found.value[None], found.on_parts])
    calibrated[:, :, batch] = (value[:, :, batch] - found.floor) / (
      1 - found.floor
    )
    k[:, batch] = found.k
    for i, status in zip(batch, found.status.T.tolist(), strict=True):
      reasons[i] = next((s for s in status if s != 'ok'), '')
  n = next((len(some) for some in sentences.chosen if some is not None), 0)
  on_subsets = (settings.rounds, intervals.GROUPS, len(cells))
  names = (measure,) if len(cuts) == 1 else (measure, measure + FIXED)
  return {
    name: Scores(
      n,
      _ends(k[cut], np.isfinite(value[0, cut])),
      value[0, cut],
      calibrated[0, -1],
      value[1:, cut].reshape(on_subsets),
      calibrated[1:, -1].reshape(on_subsets),
      tuple(reasons),
    )
    for cut, name in enumerate(names)
  }


def _cuts(measure: str, settings: Settings) -> tuple[int, ...]:
  """The components kept: the share of the variance and k, or the latter."""
  return (0, settings.k) if pairs.measure_named(measure).nuclear else (0,)


def _ends(
  k: Int[np.ndarray, ' cell'], there: Bool[np.ndarray, ' cell']
) -> tuple[int, int]:
  kept = k[there].tolist()
  return min(kept, default=0), max(kept, default=0)


def over_ceiling(scores: Scores, cells: Sequence[Cell]) -> Scores:
  """Each score over the root of its ceilings: of speech, its repeat's score.

  NaN where speech has no repeat among `cells`, or one without a positive score.
  """
  place = {cell: i for i, cell in enumerate(cells)}
  ends = [
    [place.get(repeat(one)) for one in cell if one.modality == 'speech']
    for cell in cells
  ]

  def divided(x: Float[np.ndarray, '*parts cell']):
    found = np.full_like(x, np.nan)
    for i, own in enumerate(ends):
      if None not in own:
        left = x[..., own]
        left = np.where(left > 0, left, np.nan)
        found[..., i] = x[..., i] / np.sqrt(np.prod(left, axis=-1))
    return found

  names = [n for n in Scores._fields if n.startswith(('raw', 'calibrated'))]
  return scores._replace(**{n: divided(getattr(scores, n)) for n in names})


def _outside(
  count: int, settings: Settings
) -> Bool[np.ndarray, 'subset sentence']:
  """The sentences that each subset leaves out, the same ones for all cells."""
  key, every = jax.random.key(settings.seed), np.ones(count, bool)
  found = np.asarray(_subsets(key, every, settings.rounds))
  return ~found.reshape(-1, count)


def _batches(
  cells: Sequence[Cell], sentences: Sentences
) -> Iterator[list[int]]:
  """Cells on the same sentences, of few enough representations."""
  groups: dict[bytes, list[int]] = {}
  for i, some in enumerate(sentences.chosen):
    if some is not None:
      groups.setdefault(some.tobytes(), []).append(i)
  for group in groups.values():
    batch: list[int] = []
    places: set[Place] = set()
    for i in sorted(group, key=lambda i: (cells[i][0].tap, cells[i][1].tap)):
      if batch and len(places | set(cells[i])) > TOGETHER:
        yield batch
        batch, places = [], set()
      batch.append(i)
      places |= set(cells[i])
    yield batch


def _score(
  sides: Sides,
  cells: Sequence[Cell],
  measure: str,
  settings: Settings,
  ids: Sequence[str],
  parts: Bool[np.ndarray, 'part n'],
  folder: epath.Path | None,
) -> PartScores:
  """Both directions of a measure that has one, and their mean."""
  places = list(dict.fromkeys(place for cell in cells for place in cell))
  states = {
    '/'.join(place): _states(sides[place[:2]], place.tap, ids)
    for place in places
  }
  position = {place: i for i, place in enumerate(places)}
  wanted = np.array([[position[a], position[b]] for a, b in cells])
  rule = pairs.measure_named(measure)
  both = np.concatenate([wanted, wanted[:, ::-1]])
  found = _kept(
    folder,
    states,
    wanted if rule.symmetric else both,
    measure,
    Parameters(
      variance=settings.variance,
      k=None if rule.nuclear else settings.k,
      splits=settings.splits,
    ),
    Calibration(
      permutations=settings.permutations, intervals=False, seed=settings.seed
    ),
    parts,
    _cuts(measure, settings),
  )
  return found if rule.symmetric else _both_ways(found, len(cells))


def _kept(
  folder: epath.Path | None,
  states: Mapping[str, Float[np.ndarray, 'sentence _']],
  *arguments: Any,
) -> PartScores:
  """`score_parts`, from the folder if it is there."""
  if folder is None:
    return score_parts(states, *arguments)
  name = saved.digest(*states, *states.values(), *arguments)
  found = saved.load(folder, name)
  if found is None:
    made = score_parts(states, *arguments)
    text = {'status': made.status.astype(str)}
    saved.save(folder, name, made._asdict() | text)
    return made
  return PartScores(**found)


def _states(
  held: Held, tap: str, ids: Sequence[str]
) -> Float[np.ndarray, 'sentence _']:
  return held.states[tap][np.searchsorted(held.ids, ids)]


def _both_ways(found: PartScores, count: int) -> PartScores:
  there, back = slice(count), slice(count, None)
  mean = {
    name: (x[..., there] + x[..., back]) / 2
    for name, x in found._asdict().items()
    if name in ('value', 'floor', 'on_parts')
  }
  status = np.where(
    found.status[:, there] == 'ok',
    found.status[:, back],
    found.status[:, there],
  )
  return found._replace(**mean, k=found.k[:, there], status=status)
