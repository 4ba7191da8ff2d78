"""A finished comparison as the analyses see it: definition, scores, store."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from etils import epath

from jaxrep import store
from jaxrep.report import measures, tables
from jaxrep.report.means import mean_cells
from jaxrep.types import InputError, Modality

_WORDS = (
  *('corpus', 'model', 'measure', 'tap_a', 'tap_b', 'lang_a', 'lang_b'),
  *('modality_a', 'modality_b', 'status'),
)
COLUMNS = (
  *_WORDS,
  *('value', 'floor', 'floor_sd', 'calibrated', 'z', 'p', 'p_map', 'q'),
  *('ceiling', 'ci_low', 'ci_high', 'n', 'k', 'k_a', 'k_b'),
)
LEVELS = ('all', 'class', 'language')


@dataclasses.dataclass(frozen=True)
class Run:
  """The definition (plan.json) and all-pairs scores of one working folder.

  `scores` has one row per unordered pair and at least the columns `COLUMNS`;
  side a of a text–speech pair is the text. All numbers are null where the
  cell is undefined, and those that its measure does not have or that were not
  asked for are null elsewhere too. There may be tens of millions of rows:
  words are dictionaries there, and strings in what `cells` takes of them.
  """

  workdir: epath.Path
  definition: dict[str, Any]
  scores: pa.Table

  @property
  def orders(self) -> dict[str, Sequence[str]]:
    """Model and measure names in the run's order, for `tables.in_order`."""
    return {
      'model': tuple(self.definition['models']),
      'measure': tuple(measures.of_run(self.definition)),
    }

  def languages(self, model: str, *modalities: str) -> list[str]:
    """The compared languages that a model has in all of `modalities`."""
    return languages(self.definition, model, *modalities)

  def stored(self, model: str, *modalities: str) -> bool:
    """Whether the store still has all compared languages of a model.

    Scores outlive the store: who deletes it keeps the report, but for what is
    computed from states or texts.
    """
    found = self.workdir / 'store' / model
    return all(
      (found / modality / language / 'entry.json').exists()
      for modality in modalities
      for language in self.languages(model, modality)
    )

  def view(self, model: str, modality: Modality, language: str) -> store.View:
    """The texts and states of one side, a row a sentence; none read yet.

    Raises:
      InputError: the store does not have them, or not all of them.
    """
    opened = store.open_store(str(self.workdir))
    recordings = self.definition['recordings']
    return opened.view(model, modality, language, recordings=recordings)

  def cells(self, chosen: pc.Expression) -> pa.Table:
    """Those rows of `scores`, their words as strings."""
    cells = self.scores.filter(chosen)
    words = {
      name: pa.string()
      for name, kind in zip(cells.schema.names, cells.schema.types, strict=True)
      if pa.types.is_dictionary(kind)
    }
    return cells.cast(pa.schema({f.name: f.type for f in cells.schema} | words))

  def text_speech_cells(self) -> pa.Table:
    """Scores of a language's text against its own speech, every tap pair.

    Columns `tap_a`, `tap_b`, `lang_a` are renamed to what they are: `tap_text`,
    `tap_speech`, `language`.
    """
    cells = self.cells(
      (pc.field('modality_a') == 'text')
      & (pc.field('modality_b') == 'speech')
      & (pc.field('lang_a') == pc.field('lang_b'))
    )
    names = {'tap_a': 'tap_text', 'tap_b': 'tap_speech', 'lang_a': 'language'}
    return cells.rename_columns(
      [names.get(name, name) for name in cells.column_names]
    )


def load_run(workdir: epath.PathLike) -> Run:
  """Reads plan.json and scores.parquet of a working folder (gs:// too).

  Raises:
    InputError: one of them is missing or damaged; the message says which job
      writes it.
  """
  workdir = epath.Path(workdir)
  plan, scores = workdir / 'plan.json', workdir / 'scores.parquet'
  for path, job in ((plan, 'extract'), (scores, 'compare')):
    if not path.exists():
      raise InputError(
        f'{path} does not exist: run `python run.py {job} '
        f'--workdir={workdir}` first.'
      )
  return Run(workdir, _read_definition(plan), _read_scores(scores))


def languages(
  definition: Mapping[str, Any], model: str, *modalities: str
) -> list[str]:
  """As `Run.languages`, where only the definition is at hand."""
  covered = definition['models'][model]['languages']
  return [
    language
    for language in definition['compared_languages']
    if all(language in covered[modality] for modality in modalities)
  ]


def by_level(
  run: Run,
  cells: pa.Table,
  keys: Sequence[str],
  levels: Sequence[str] = LEVELS,
) -> pa.Table:
  """Means of cells over all languages, each resource class, each language.

  Args:
    cells: scores with a column `language`.
    keys: columns that stay apart; `model` is one of them.
    levels: which of `LEVELS` to give.

  Returns:
    The columns of `report.means.mean_cells` with `level`, `name` (the language,
    the class, or 'all') and `of`, the number of languages the model has there.
  """
  parts = []
  languages = cells['language'].to_pylist()
  for level in levels:
    names = [_group(run, level, language) for language in languages]
    labelled = cells.append_column('name', pa.array(names, pa.string()))
    means = mean_cells(labelled, [*keys, 'name'])
    column = pa.array([level] * len(means), pa.string())
    parts.append(means.append_column('level', column))
  means = pa.concat_tables(parts)
  sizes = collections.Counter(
    (model, level, _group(run, level, language))
    for model in run.definition['models']
    for level in levels
    for language in run.languages(model, 'text', 'speech')
  )
  return with_sizes(means, ('model', 'level', 'name'), sizes)


def with_sizes(
  means: pa.Table, keys: Sequence[str], sizes: Mapping[tuple[str, ...], int]
) -> pa.Table:
  """Appends `of`: how many cells there would be if all were defined."""
  rows = means.select(keys).to_pylist()
  of = [sizes[tuple(row.values())] for row in rows]
  return means.append_column('of', pa.array(of, pa.int64()))


def labelled(
  cells: pa.Table,
  keys: Sequence[str],
  label: str,
  labels: Mapping[tuple[str, ...], Any],
  kind: pa.DataType,
) -> pa.Table:
  """The cells whose `keys` are in `labels`, with their label as a column."""
  columns = zip(*labels, strict=True) if labels else [[] for _ in keys]
  table = {
    name: pa.array(values, pa.string())
    for name, values in zip(keys, columns, strict=True)
  }
  table[label] = pa.array(labels.values(), kind)
  return cells.join(pa.table(table), list(keys), join_type='inner')


def level_orders(run: Run) -> dict[str, Sequence[str]]:
  """The order of `level` and `name`, for `tables.in_order`."""
  names = ('all', *tables.CLASSES, *run.definition['languages'])
  return {'level': LEVELS, 'name': names}


def _group(run: Run, level: str, language: str) -> str:
  if level == 'class':
    return run.definition['resource_classes'].get(language, 'unclassified')
  return language if level == 'language' else 'all'


def read_plan(path: epath.Path) -> dict[str, Any]:
  """What plan.json says, before or after the comparison.

  Raises:
    InputError: it is damaged.
  """
  again = f'run `python run.py extract --workdir={path.parent}` again.'
  try:
    definition = json.loads(path.read_text())
  except (OSError, ValueError, RecursionError) as error:
    raise InputError(f'{path} is not valid JSON ({error}): {again}') from error
  if not _is_plan(definition):
    raise InputError(f'{path} is no plan of a run: {again}')
  return definition


def _is_plan(found: Any) -> bool:
  """Whether fields that every stage reads are of their kind."""
  models = found.get('models') if isinstance(found, dict) else None
  if not isinstance(models, dict):
    return False
  covered = [
    model.get('languages') if isinstance(model, dict) else None
    for model in models.values()
  ]
  return (
    all(isinstance(one, dict) for one in covered)
    and all(
      _is_names(names)
      for one in covered
      for names in (one.get('text'), one.get('speech'))
    )
    and _is_names(found.get('compared_languages', []))
    and isinstance(found.get('measures', {}), dict)
  )


def _is_names(value: Any) -> bool:
  return isinstance(value, list) and all(isinstance(x, str) for x in value)


def _read_definition(path: epath.Path) -> dict[str, Any]:
  definition = read_plan(path)
  if not {'measures', 'compared_languages'} <= set(definition):
    raise InputError(
      f'{path} is newer than the scores beside it: run `python run.py compare '
      f'--workdir={path.parent}` again.'
    )
  if not all('control' in one for one in definition['models'].values()):
    raise InputError(
      f'{path} is of an earlier jaxrep: run `python run.py all` with its flags '
      f'and --workdir={path.parent} again.'
    )
  return definition


def _read_scores(path: epath.Path) -> pa.Table:
  again = f'run `python run.py compare --workdir={path.parent}` again.'
  try:
    with path.open('rb') as file:
      scores = pq.read_table(
        file, read_dictionary=_WORDS, page_checksum_verification=True
      )
      scores.validate(full=True)
  except (pa.ArrowException, OSError) as error:
    raise InputError(f'{path} cannot be read ({error}): {again}') from error
  missing = [name for name in COLUMNS if name not in scores.column_names]
  if missing:
    raise InputError(f'{path} lacks the columns {", ".join(missing)}: {again}')
  return scores.unify_dictionaries()
