"""Every finding of a model under every measure, as rows of a table."""

import concurrent.futures
import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from jaxrep.findings import FINDINGS, SMALLEST, Kind, statistics
from jaxrep.findings.cells import AGAIN, Cell, Layout, Statistic, repeat
from jaxrep.findings.estimates import Estimate, Estimates, estimate
from jaxrep.findings.scores import (
  MEASURES,
  UNCENTRED,
  Scores,
  Settings,
  Sides,
  choose,
  over_ceiling,
  score,
)
from jaxrep.findings.verdicts import verdict
from jaxrep.similarity import pairs

Row = dict[str, Any]
SHARES = (0.25, 0.5)
"""Of the sentences, on which every main finding is computed again."""
_HALVES = (0.0, 0.5), (0.5, 1.0)
_NOT_MEASURED = 'not measured'
_LACKS = 'the model or its languages do not have this'
_UNPICKED = (
  'no language has a score at every inner layer, on half the sentences'
)
_ONCE = 'no second recordings: extract and compare with --ceiling'


@dataclasses.dataclass(frozen=True)
class Model:
  """One model of a run, with what its store holds.

  `folder` keeps scores of it while its findings are tested.
  """

  name: str
  layout: Layout
  sides: Sides
  folder: epath.Path | None = None

  def score(
    self,
    cells: Sequence[Cell],
    measure: str,
    settings: Settings,
    share: tuple[float, float] = (0.0, 1.0),
  ) -> dict[str, Scores]:
    """Of cells, on the sentences of a share that all of them can have."""
    sentences = choose(self.sides, cells, settings, share)
    return score(self.sides, cells, measure, sentences, settings, self.folder)


def evaluate(
  model: Model, settings: Settings, smallest: float = SMALLEST
) -> list[Row]:
  """One row a finding and measure, on all sentences that all cells can have."""
  wanted = {
    kind: _statistics(model.layout, kind)
    for kind in ('plain', 'uncentred', 'over ceiling')
  }

  def of(measure: str) -> list[Row]:
    arguments = (measure, settings, smallest)
    if measure in UNCENTRED:
      return list(judge(model, wanted['uncentred'], *arguments))
    return [
      *judge(model, wanted['plain'], *arguments),
      *_over_ceiling(model, wanted['over ceiling'], *arguments),
      *_picked(model, *arguments),
    ]

  order = {finding: i for i, finding in enumerate(FINDINGS)}
  rows = _side_by_side(model.name, of, (*MEASURES, *UNCENTRED))
  return sorted(rows, key=lambda row: order[row['finding']])


def by_n(
  model: Model, settings: Settings, smallest: float = SMALLEST
) -> list[Row]:
  """The main findings on nested parts of the sentences, `SHARES` of them."""
  found = _statistics(model.layout, 'plain')
  main = {name: one for name, one in found.items() if '.' not in name}

  def of(measure: str) -> list[Row]:
    return [
      row
      for share in SHARES
      for row in judge(model, main, measure, settings, smallest, (0.0, share))
    ]

  return _side_by_side(model.name, of, MEASURES)


def _side_by_side(
  name: str, of: Callable[[str], list[Row]], measures: Sequence[str]
) -> list[Row]:
  """The rows of each measure; a CPU takes several measures at once."""

  def timed(measure: str) -> list[Row]:
    began = time.monotonic()
    rows = of(measure)
    seconds = time.monotonic() - began
    logging.info('%s: %d × %s in %.1f s', name, len(rows), measure, seconds)
    return rows

  for measure in measures:
    pairs.measure_named(measure)  # imports its module, which threads should not
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    return list(itertools.chain.from_iterable(pool.map(timed, measures)))


def _statistics(layout: Layout, kind: Kind) -> dict[str, Statistic | None]:
  return {
    name: getattr(statistics, finding.statistic)(layout)
    for name, finding in FINDINGS.items()
    if finding.kind == kind
  }


def judge(
  model: Model,
  wanted: Mapping[str, Statistic | None],
  measure: str,
  settings: Settings,
  smallest: float,
  share: tuple[float, float] = (0.0, 1.0),
) -> Iterator[Row]:
  """A row of each wanted finding; SVCCA gives two, as of `scores.score`."""
  there = {key: one for key, one in wanted.items() if one is not None}
  cells = _cells(there.values())
  each: Mapping[str, Scores | None] = {measure: None}
  if cells:
    each = model.score(cells, measure, settings, share)
  for name, scores in each.items():
    yield from _told(model, wanted, (cells, name, scores), smallest, _LACKS)


def _over_ceiling(
  model: Model,
  wanted: Mapping[str, Statistic | None],
  measure: str,
  settings: Settings,
  smallest: float,
) -> Iterator[Row]:
  """As `judge`, of scores over their ceilings."""
  cells = _cells(one for one in wanted.values() if one is not None)
  spoken = (one for cell in cells for one in cell if one.modality == 'speech')
  again = [
    repeat(one)
    for one in dict.fromkeys(spoken)
    if (one.language, AGAIN) in model.sides
  ]
  if not again:
    yield from _told(model, wanted, ((), measure, None), smallest, _ONCE)
    return
  every = (*cells, *again)
  for name, scores in model.score(every, measure, settings).items():
    divided = over_ceiling(scores, every)
    yield from _told(model, wanted, (every, name, divided), smallest, _LACKS)


def _told(
  model: Model,
  wanted: Mapping[str, Statistic | None],
  scored: tuple[tuple[Cell, ...], str, Scores | None],
  smallest: float,
  lacks: str,
) -> Iterator[Row]:
  """A row of each wanted finding, from the scores of cells under a measure."""
  cells, measure, scores = scored
  for finding, statistic in wanted.items():
    head = {'finding': finding, 'model': model.name, 'measure': measure}
    found: Estimates | str = lacks
    if statistic is not None and scores is not None:
      found = estimate(statistic, cells, scores)
    if isinstance(found, str):
      yield head | _nothing(found)
    else:
      yield head | _row(found, scores, statistic, smallest)


def _picked(
  model: Model, measure: str, settings: Settings, smallest: float
) -> Iterator[Row]:
  """The findings on a layer that is picked on one half of the sentences."""
  names = [key for key, one in FINDINGS.items() if one.kind == 'picked']
  lowest = _lowest(model, measure, settings)
  wanted: dict[str, Statistic | None] = dict.fromkeys(names)
  tap = ''
  if lowest is not None:
    tap = model.layout.layers[1 + lowest][1]
    for key in names:
      make = getattr(statistics, FINDINGS[key].statistic)
      wanted[key] = make(model.layout, lowest)
  rows = judge(model, wanted, measure, settings, smallest, _HALVES[1])
  for row in rows:
    note = row['note'] or f'picked: {tap}'
    if not tap and statistics.by_layer(model.layout):
      note = _UNPICKED
    yield row | {'note': note}


def _lowest(model: Model, measure: str, settings: Settings) -> int | None:
  """The inner layer where text and speech are least alike, on one half.

  By the calibrated score, over the languages that have one at every layer that
  has any.
  """
  layers = statistics.by_layer(model.layout)
  cells = _cells(layers)
  if not cells:
    return None
  once = dataclasses.replace(settings, rounds=1)
  scores = model.score(cells, measure, once, _HALVES[0])[measure]
  heights = np.array(
    [
      scores.calibrated[one.matrix(cells).toarray().argmax(axis=1)]
      for one in layers
    ]
  )
  there = np.isfinite(heights)
  scored = np.flatnonzero(there.any(axis=1))
  whole = there[scored].all(axis=0)
  if not scored.size or not whole.any():
    return None
  return int(scored[np.argmin(heights[scored][:, whole].mean(axis=1))])


def _cells(wanted: Any) -> tuple[Cell, ...]:
  each = (one.cells for one in wanted)
  return tuple(dict.fromkeys(itertools.chain.from_iterable(each)))


def _nothing(reason: str) -> Row:
  numbers = dict.fromkeys((*_numbers('', None), *_numbers('calibrated', None)))
  sizes = dict.fromkeys(('n', 'k_min', 'k_max'))
  return (
    numbers
    | sizes
    | {
      'languages': 0,
      'verdict': _NOT_MEASURED,
      'note': reason,
    }
  )


def _row(
  found: Estimates, scores: Scores, statistic: Statistic, smallest: float
) -> Row:
  raw, calibrated = found.raw, found.calibrated
  missing = len(statistic.units) - found.units
  low, high = scores.k
  return {
    **_numbers('', raw),
    **_numbers('calibrated', calibrated),
    'n': scores.n,
    'k_min': low or None,
    'k_max': high or None,
    'languages': found.languages,
    'verdict': verdict(raw.interval, calibrated.interval, smallest),
    'note': f'without {missing} units that lack a score' if missing else '',
  }


def _numbers(prefix: str, one: Estimate | None) -> Row:
  """The columns of an estimate: raw ones, or calibrated ones."""
  names = ('value', 'ci_low', 'ci_high', 'p', 'effect')
  names = (*names, 'languages_low', 'languages_high')
  if prefix:
    names = tuple(
      prefix if name == 'value' else f'{prefix}_{name.removeprefix("ci_")}'
      for name in names
    )
  if one is None:
    return dict.fromkeys(names)
  over = one.over_languages or (None, None)
  values: Sequence[Any] = (one.value, *one.interval, one.p, one.effect, *over)
  return dict(zip(names, values, strict=True))
