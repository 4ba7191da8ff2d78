"""From the store to scores.parquet: alignment, pairs, measures."""

import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging
from etils import epath
from jax.sharding import Mesh
from tqdm import tqdm

from jaxrep import similarity, store
from jaxrep.data import parallel
from jaxrep.data.parallel import Pair, Side

SCHEMA = pa.schema(
  [
    *((n, pa.string()) for n in ('corpus', 'model', 'measure')),
    *((n, pa.string()) for n in ('tap_a', 'tap_b', 'lang_a', 'lang_b')),
    *((n, pa.string()) for n in ('modality_a', 'modality_b')),
    *((n, pa.float64()) for n in ('value', 'floor', 'calibrated')),
    *((n, pa.int32()) for n in ('n', 'k', 'k_a', 'k_b')),
    ('status', pa.string()),
  ]
)


@dataclasses.dataclass(frozen=True)
class Choice:
  """What is compared, and how; fields as `jobs.settings.Comparison`."""

  workdir: str
  measures: tuple[str, ...]
  parameters: Any
  layer_pairs: Literal['all', 'matching']
  common_ids: Literal['pair', 'all']
  minimum_ids: int
  permutations: int
  seed: int


class Scores(NamedTuple):
  """`table` has the columns of SCHEMA; `measures` name → definition."""

  table: pa.Table
  measures: dict[str, str]
  dropped: list[dict[str, str]]


class Cells(NamedTuple):
  """Tap pairs of one pair of sides."""

  pair: Pair
  taps: list[tuple[str, str]]


def score_run(definition: dict[str, Any], choice: Choice, mesh: Mesh) -> Scores:
  """Scores every model of a run; models are not compared with each other."""
  parts, measures, dropped = [], {}, []
  for name in definition['models']:
    views = dict(_views(definition, choice.workdir, name))
    dropped += [
      dataclasses.asdict(d) for v in views.values() for d in v.dropped
    ]
    ids = {side: view.ids for side, view in views.items()}
    aligned = parallel.common_ids(ids, choice.common_ids, choice.minimum_ids)
    states = {side: view.read_all() for side, view in views.items()}
    model = _Model(definition, name, choice, views, states)
    began, done = time.monotonic(), len(parts)
    for group in tqdm(aligned.groups, desc=f'{name} id sets', disable=None):
      for measure in choice.measures:
        table, measures[measure] = model.score(group, measure, mesh)
        parts.append(table)
    logging.info(
      '%s: %d scores on %d id sets in %.1f s',
      name,
      sum(map(len, parts[done:])),
      len(aligned.groups),
      time.monotonic() - began,
    )
    parts += [
      model.short(one, m) for one in aligned.short for m in choice.measures
    ]
  return Scores(pa.concat_tables(parts), measures, dropped)


def write(scores: Scores, definition: dict[str, Any], choice: Any) -> None:
  """scores.parquet, and what was compared into plan.json."""
  folder = epath.Path(choice.workdir)
  definition = {
    **definition,
    'common_ids': choice.common_ids,
    'layer_pairs': choice.layer_pairs,
    'measures': scores.measures,
    'dropped': _merged(definition['dropped'], scores.dropped),
  }
  sink = pa.BufferOutputStream()
  pq.write_table(scores.table, sink, compression='zstd')
  text = json.dumps(definition, indent=2, ensure_ascii=False)
  for name, data in (
    ('scores.parquet', sink.getvalue().to_pybytes()),
    ('plan.json', text.encode()),
  ):
    temporary = folder / f'{name}.new'
    temporary.write_bytes(data)
    temporary.replace(folder / name)


def _merged(*lists: list[dict[str, str]]) -> list[dict[str, str]]:
  unique = {tuple(d.items()): d for dropped in lists for d in dropped}
  return list(unique.values())


def _views(
  definition: dict[str, Any], workdir: str, model: str
) -> Iterator[tuple[Side, store.View]]:
  """Text first, so that a text–speech pair has the text in front."""
  opened = store.open_store(workdir)
  for modality in ('text', 'speech'):
    for language in definition['models'][model]['languages'][modality]:
      view = opened.view(
        model, modality, language, recordings=definition['recordings']
      )
      yield (language, modality), view


@dataclasses.dataclass(frozen=True)
class _Model:
  """One model's states, ready to be scored."""

  definition: dict[str, Any]
  name: str
  choice: Choice
  views: dict[Side, store.View]
  states: dict[Side, dict[str, np.ndarray]]

  def score(
    self, group: parallel.Group, measure: str, mesh: Mesh
  ) -> tuple[pa.Table, str]:
    """All cells of the pairs that share these ids, in one batch."""
    cells = [self._cells(pair) for pair in group.pairs]
    sides = dict.fromkeys(side for pair in group.pairs for side in pair)
    arrays, place = {}, {}
    for side in sides:
      rows = self._rows(side, group.ids)
      for tap, x in self.states[side].items():
        place[side, tap] = len(arrays)
        arrays['/'.join((self.name, *side, tap))] = x[rows]
    pairs = [
      (place[cell.pair[0], a], place[cell.pair[1], b])
      for cell in cells
      for a, b in cell.taps
    ]
    found = similarity.score_pairs(
      arrays,
      np.array(pairs),
      measure,
      self.choice.parameters,
      permutations=self.choice.permutations,
      seed=self.choice.seed,
      mesh=mesh,
    )
    return self._table(cells, measure, _columns(found)), found.definition

  def short(self, short: parallel.Short, measure: str) -> pa.Table:
    """Null cells of a pair with too few common sentences."""
    cells = self._cells(short.pair)
    size = len(cells.taps)
    columns = {
      name: pa.nulls(size, SCHEMA.field(name).type)
      for name in ('value', 'floor', 'calibrated', 'k', 'k_a', 'k_b')
    }
    columns['n'] = pa.array([short.common] * size, pa.int32())
    columns['status'] = pa.array([short.reason] * size, pa.string())
    return self._table([cells], measure, columns)

  def _rows(self, side: Side, ids: tuple[str, ...]) -> np.ndarray:
    """Where the ids are in a view, whose ids are sorted as they are."""
    return np.searchsorted(np.array(self.views[side].ids), np.array(ids))

  def _cells(self, pair: Pair) -> Cells:
    (_, kind_a), (_, kind_b) = pair
    if self.choice.layer_pairs == 'matching':
      if kind_a != kind_b:
        matches = self.definition['models'][self.name]['counterparts']
        return Cells(pair, [(text, speech) for speech, text in matches.items()])
      return Cells(pair, [(tap, tap) for tap in self.states[pair[0]]])
    a, b = (list(self.states[side]) for side in pair)
    if pair[0] == pair[1]:
      return Cells(pair, [(x, y) for i, x in enumerate(a) for y in a[i:]])
    return Cells(pair, [(x, y) for x in a for y in b])

  def _table(
    self, cells: list[Cells], measure: str, columns: dict[str, pa.Array]
  ) -> pa.Table:
    rows = [(cell.pair, taps) for cell in cells for taps in cell.taps]
    corpus = self.definition['corpus']['name']
    named = {
      'corpus': [corpus] * len(rows),
      'model': [self.name] * len(rows),
      'measure': [measure] * len(rows),
      'tap_a': [taps[0] for _, taps in rows],
      'tap_b': [taps[1] for _, taps in rows],
      'lang_a': [pair[0][0] for pair, _ in rows],
      'lang_b': [pair[1][0] for pair, _ in rows],
      'modality_a': [pair[0][1] for pair, _ in rows],
      'modality_b': [pair[1][1] for pair, _ in rows],
    }
    return pa.table({**named, **columns}, SCHEMA)


def _columns(found: Any) -> dict[str, pa.Array]:
  """Arrow columns of a PairScores; null for NaN, and for k where none is."""
  undefined = found.status != 'ok'
  columns = {
    name: pa.array(getattr(found, name), pa.float64(), mask=undefined)
    for name in ('value', 'floor', 'calibrated')
  }
  for name in ('k', 'k_a', 'k_b'):
    values = getattr(found, name)
    columns[name] = pa.array(values, pa.int32(), mask=values == 0)
  columns['n'] = pa.array(np.full(len(undefined), found.n), pa.int32())
  columns['status'] = pa.array(found.status.tolist(), pa.string())
  return columns
