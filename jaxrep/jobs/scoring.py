"""From the store to scores.parquet: alignment, cells, measures."""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from absl import logging
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Float
from tqdm import tqdm

from jaxrep import files, similarity
from jaxrep.data import parallel
from jaxrep.data.parallel import Pair, Side
from jaxrep.jobs import batch as batches
from jaxrep.jobs import ceiling, profiled, sides
from jaxrep.jobs.batch import Batch, Cell
from jaxrep.observe import recorder
from jaxrep.similarity import pairs
from jaxrep.similarity.pairs import PairScores
from jaxrep.stats import multiplicity
from jaxrep.types import InputError

PARTS = 'scores_parts'  # finished tiles of a comparison that is under way
_FOUND = ('value', 'floor', 'floor_sd', 'calibrated', 'z', 'p', 'p_map')
_NUMBERS = (*_FOUND, 'q', 'ceiling', 'ci_low', 'ci_high')
_SIZES = ('k', 'k_a', 'k_b')
_PLACE = ('tap', 'lang', 'modality')
# Words recur in millions of rows: in memory each is there once.
_WORD = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
  [
    *((n, _WORD) for n in ('corpus', 'model', 'measure')),
    *((n, _WORD) for n in ('tap_a', 'tap_b', 'lang_a', 'lang_b')),
    *((n, _WORD) for n in ('modality_a', 'modality_b')),
    *((n, pa.float64()) for n in _NUMBERS),
    *((n, pa.int32()) for n in ('n', *_SIZES)),
    ('status', _WORD),
  ]
)
BYTES_EACH = (
  sum(getattr(kind, 'index_type', kind).bit_width for kind in SCHEMA.types) // 8
)
"""What a score takes of memory."""


@dataclasses.dataclass(frozen=True)
class Choice:
  """What is compared, and how; fields as `jobs.settings.Comparison`.

  `calibration` has the replicates of the layers with their counterparts.
  """

  workdir: str
  measures: tuple[str, ...]
  parameters: similarity.Parameters
  calibration: similarity.Calibration
  layer_pairs: Literal['all', 'within', 'matching']
  common_ids: Literal['pair', 'all']
  language_set: Literal['common', 'own']
  minimum_ids: int
  ceiling: bool

  @property
  def fewest_repeated(self) -> int | None:
    """Of the sentences with two recordings, if there are to be ceilings."""
    return self.minimum_ids if self.ceiling else None


class Scores(NamedTuple):
  """`table` has the columns of SCHEMA; `measures` name → definition.

  `unrepeated` names the speech that has no other recordings, for a ceiling.
  """

  table: pa.Table
  measures: dict[str, str]
  dropped: list[dict[str, str]]
  unrepeated: list[str]


def score_run(
  definition: dict[str, Any],
  choice: Choice,
  mesh: Mesh,
  models: Iterable[str] = (),
) -> Scores:
  """Scores a run's models, or these; they are not compared with each other."""
  languages = sides.compared(definition, choice.language_set)
  tables, dropped, unrepeated = [], [], []
  for name in models or definition['models']:
    # Nothing holds a model's states but its sides.
    with recorder.stage('read store'):
      held = sides.read(
        definition, choice.workdir, name, languages, choice.fewest_repeated
      )
    dropped += [dataclasses.asdict(d) for s in held.values() for d in s.dropped]
    if choice.ceiling:
      unrepeated += [f'{name} {one}' for one in sides.unrepeated(held)]
    if held:
      tables.append(_Model(definition, name, choice, held, mesh).score())
    else:
      logging.warning('%s reads no language that is compared.', name)
    del held
  if not tables:
    raise InputError(
      'There is nothing to compare: no model reads one of the languages '
      f'{", ".join(languages)}. Change --languages or --models.'
    )
  measures = {name: _define(name, choice) for name in choice.measures}
  return Scores(pa.concat_tables(tables), measures, dropped, unrepeated)


def write(scores: Scores, definition: dict[str, Any], choice: Any) -> None:
  """scores.parquet, and what was compared into plan.json."""
  folder = epath.Path(choice.workdir)
  definition = {
    **definition,
    'compared_languages': sides.compared(definition, choice.language_set),
    'common_ids': choice.common_ids,
    'layer_pairs': choice.layer_pairs,
    'ceiling': choice.ceiling,
    'unrepeated': scores.unrepeated,
    'measures': scores.measures,
    'dropped': _merged(definition['dropped'], scores.dropped),
  }
  text = json.dumps(definition, indent=2, ensure_ascii=False)
  with files.replacing(folder / 'scores.parquet') as file:
    pq.write_table(
      scores.table,
      file,
      compression='zstd',
      write_page_checksum=True,
      store_schema=False,  # to its readers a word is a string
    )
  files.write(folder / 'plan.json', text)


def forget_tiles(workdir: str) -> None:
  """Once nothing that may be started again needs them."""
  folder = epath.Path(workdir) / PARTS
  if folder.exists():
    folder.rmtree()


def _merged(*lists: list[dict[str, str]]) -> list[dict[str, str]]:
  unique = {tuple(d.items()): d for dropped in lists for d in dropped}
  return list(unique.values())


def _define(measure: str, choice: Choice) -> str:
  """The definition that stands beside the numbers of a measure."""
  rule = pairs.measure_named(measure)
  text = pairs.define(rule, choice.parameters, choice.calibration)
  more = ceiling.describe(rule) if choice.ceiling else ''
  return f'{text.rstrip(".")}; {more}.' if more else text


@dataclasses.dataclass(frozen=True)
class _Model:
  """One model's sides, ready to be scored."""

  definition: dict[str, Any]
  name: str
  choice: Choice
  sides: dict[Side, sides.Held]
  mesh: Mesh

  def score(self) -> pa.Table:
    """All cells under all measures."""
    choice, began = self.choice, time.monotonic()
    ids = {side: held.ids for side, held in self.sides.items()}
    aligned = parallel.common_ids(ids, choice.common_ids, choice.minimum_ids)
    parts = []
    for group in tqdm(
      aligned.groups, desc=f'{self.name} id sets', disable=None
    ):
      cells = (cell for pair in group.pairs for cell in self._cells(pair))
      batch = batches.make(self.name, self.sides, group, cells)
      for measure in choice.measures:
        with recorder.stage('compare', ('measures', measure)):
          parts.append(self._score(batch, measure))
          recorder.add(scores=len(batch.cells))
    for one in aligned.short:
      parts += [self._short(one, measure) for measure in choice.measures]
    logging.info(
      '%s: %d scores on %d id sets in %.1f s',
      self.name,
      sum(map(len, parts)),
      len(aligned.groups),
      time.monotonic() - began,
    )
    return _with_q(pa.concat_tables(parts).unify_dictionaries())

  def _score(self, batch: Batch, measure: str) -> pa.Table:
    """All cells of the pairs of sides that share these sentences, at once."""
    score = functools.partial(
      similarity.score_pairs,
      measure=measure,
      parameters=self.choice.parameters,
      ids=batch.ids,
      mesh=self.mesh,
    )
    calibration = dataclasses.replace(self.choice.calibration, replicates=0)
    plain = functools.partial(score, calibration=calibration)
    profiled.trace(batch, measure, plain)
    folder = epath.Path(self.choice.workdir) / PARTS
    score = functools.partial(score, folder=folder)
    found = score(
      batch.states,
      batch.pairs(batch.cells),
      calibration=calibration,
      maps=batch.maps,
    )
    numbers = {name: getattr(found, name) for name in _FOUND}
    numbers |= self._intervals(batch, found, score)
    if self.choice.ceiling:
      numbers['ceiling'] = self._ceilings(batch, found, score)
    return self._table(batch.cells, measure, _columns(found, numbers))

  def _intervals(
    self, batch: Batch, found: PairScores, score: Callable[..., PairScores]
  ) -> dict[str, Float[np.ndarray, ' cell']]:
    """Those in closed form; where a measure has none, by replicates.

    Each replicate costs as much as all factors, so only layers with their
    counterparts get them. What is compared with itself has none: its score
    does not vary, and an interval would be of rounding.
    """
    calibration = self.choice.calibration
    ends = {name: getattr(found, name).copy() for name in ('ci_low', 'ci_high')}
    if calibration.replicates and np.isnan(ends['ci_low']).all():
      chosen = [
        i
        for i, cell in enumerate(batch.cells)
        if cell.matching and cell.a != cell.b
      ]
      again = score(
        batch.states,
        batch.pairs(batch.cells[i] for i in chosen),
        calibration=dataclasses.replace(calibration, permutations=1, joint=0),
      )
      for name, values in ends.items():
        values[chosen] = getattr(again, name)
    same = np.array([cell.a == cell.b for cell in batch.cells])
    return {name: np.where(same, np.nan, x) for name, x in ends.items()}

  def _ceilings(
    self, batch: Batch, found: PairScores, score: Callable[..., PairScores]
  ) -> Float[np.ndarray, ' cell']:
    alone = dataclasses.replace(
      self.choice.calibration,
      permutations=1,
      joint=0,
      intervals=False,
      replicates=0,
    )
    return ceiling.find(
      batch,
      found,
      pairs.measure_named(found.measure),
      self.choice.parameters.k is not None,
      functools.partial(score, calibration=alone),
    )

  def _short(self, short: parallel.Short, measure: str) -> pa.Table:
    """Null cells of a pair with too few common sentences."""
    cells = self._cells(short.pair)
    columns = {
      name: pa.nulls(len(cells), SCHEMA.field(name).type)
      for name in (*_NUMBERS, *_SIZES)
    }
    columns['n'] = pa.array([short.common] * len(cells), pa.int32())
    columns['status'] = pa.array([short.reason] * len(cells), _WORD)
    return self._table(cells, measure, columns)

  def _cells(self, pair: Pair) -> list[Cell]:
    taps = [list(self.sides[side].states) for side in pair]
    counterparts = self.definition['models'][self.name]['counterparts']
    layers = self.choice.layer_pairs
    return batches.cells_of(pair, tuple(taps), counterparts, layers)

  def _table(
    self, cells: Sequence[Cell], measure: str, columns: dict[str, pa.Array]
  ) -> pa.Table:
    corpus = self.definition['corpus']['name']
    named = {
      'corpus': [corpus] * len(cells),
      'model': [self.name] * len(cells),
      'measure': [measure] * len(cells),
    }
    for end in ('a', 'b'):
      places = [getattr(cell, end) for cell in cells]
      named[f'tap_{end}'] = [place.tap for place in places]
      named[f'lang_{end}'] = [place.side[0] for place in places]
      named[f'modality_{end}'] = [place.side[1] for place in places]
    return pa.table({**named, **columns}, SCHEMA)


def _columns(
  found: PairScores, numbers: dict[str, Float[np.ndarray, ' cell']]
) -> dict[str, pa.Array]:
  """Arrow columns; null for NaN, for what is not there, and for no k."""
  nothing = np.full(len(found.value), np.nan)
  columns = {}
  for name in _NUMBERS:
    values = numbers.get(name, nothing)
    columns[name] = pa.array(values, pa.float64(), mask=np.isnan(values))
  undefined = np.isnan(found.value)
  for name in _SIZES:
    values = getattr(found, name)
    columns[name] = pa.array(values, pa.int32(), mask=undefined | (values == 0))
  columns['n'] = pa.array([found.n] * len(nothing), pa.int32())
  columns['status'] = pa.array(found.status.tolist(), _WORD)
  return columns


def _with_q(table: pa.Table) -> pa.Table:
  """Adds the false discovery rate over the cells of each measure.

  What is compared with itself is no discovery, and would make others likelier.
  """
  same = functools.reduce(
    pc.and_,
    (pc.equal(table[f'{n}_a'], table[f'{n}_b']) for n in _PLACE),
  )
  p = table['p'].to_numpy(zero_copy_only=False)
  p = np.where(same.to_numpy(), np.nan, p)
  q = np.full(len(p), np.nan)
  for measure in pc.unique(table['measure']):
    own = pc.equal(table['measure'], measure).to_numpy()
    q[own] = multiplicity.benjamini_hochberg(p[own])
  column = pa.array(q, pa.float64(), mask=np.isnan(q))
  return table.set_column(table.schema.get_field_index('q'), 'q', column)
