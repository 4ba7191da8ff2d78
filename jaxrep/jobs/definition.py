"""From flags to the plans of a run and its definition, plan.json."""

import dataclasses
import datetime
import importlib.metadata
import json
import platform
from collections.abc import Iterable
from typing import Any

from absl import logging
from etils import epath

import jaxrep
from jaxrep import files, languages, models
from jaxrep.analyses.run import read_plan
from jaxrep.data import open_corpus
from jaxrep.extract import pooling
from jaxrep.extract.plan import EntryPlan, Options, plan_entry
from jaxrep.jobs import encoders
from jaxrep.jobs.encoders import Encoders
from jaxrep.jobs.settings import Selection
from jaxrep.opened import Model
from jaxrep.types import (
  SAMPLE_RATE,
  Corpus,
  CorpusOptions,
  Dropped,
  InputError,
)

_NAME = 'plan.json'
_EXTRACTED = {'first': 'first', 'mean': 'all'}
PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'transformers', 'tensorstore')


@dataclasses.dataclass(frozen=True)
class Plan:
  """Everything a run will extract, in order."""

  corpus: Corpus
  entries: tuple[EntryPlan, ...]
  definition: dict[str, Any]


def make_plan(config: Selection) -> Plan:
  """Lists the corpus, opens the models' descriptions, plans every entry.

  Raises:
    InputError: A flag, language, model or example that cannot be used.
  """
  if config.ceiling and config.recordings == 'mean':
    raise InputError(
      '--ceiling compares single recordings: take --recordings=first.'
    )
  rule = pooling.parse(config.pooling)
  corpus = open_corpus(config.corpus, _corpus_options(config))
  wanted = _languages(config, corpus)
  families = encoders.open_families(config)
  options = Options(
    precision=config.precision,
    pooling=config.pooling,
    specials=config.text_specials,
    batch_seconds=config.batch_seconds,
    batch_tokens=config.batch_tokens,
    unit_size=config.unit_size,
    store_dtype=config.store_dtype,
  )
  entries = tuple(
    plan_entry(model, corpus, language, options, config.on_bad_input)
    for family in families
    for language in wanted
    if (model := family.of(language))
  )
  if not entries:
    raise InputError('No model covers any of the languages: nothing to do.')
  rule.check(name for entry in entries for name, _ in entry.model.taps)
  definition = _definition(config, corpus, wanted, families, entries)
  return Plan(corpus, entries, definition)


def write(plan: Plan, workdir: str) -> None:
  text = json.dumps(plan.definition, indent=2, ensure_ascii=False)
  files.write(epath.Path(workdir) / _NAME, text)


def written(workdir: str) -> bool:
  return (epath.Path(workdir) / _NAME).exists()


def in_use(workdir: str) -> bool:
  """Whether there is a run that its plan.json has to go on to define.

  Scores outlive the store that they were made of.
  """
  left = (epath.Path(workdir) / name for name in ('store', 'scores.parquet'))
  return any(path.exists() for path in left)


def read(workdir: str) -> dict[str, Any]:
  """plan.json of a working folder.

  Raises:
    InputError: it is missing or damaged.
  """
  path = epath.Path(workdir) / _NAME
  if not written(workdir):
    raise InputError(
      f'{path} does not exist: run `python run.py extract --workdir={workdir}` '
      'first, with the models and the corpus.'
    )
  return read_plan(path)


def _corpus_options(config: Selection) -> CorpusOptions:
  chosen = languages.select_codes(config.languages) if config.languages else ()
  if config.corpus == 'fleurs':  # in which zho_Hant is Cantonese's text
    chosen = tuple(dict.fromkeys(languages.find(code).iso for code in chosen))
    chosen = chosen or languages.PAPER30
  return CorpusOptions(
    source=config.corpus_source,
    languages=chosen,
    splits=config.splits,
    recordings='all' if config.ceiling else _EXTRACTED[config.recordings],
    on_bad_input=config.on_bad_input,
  )


def _languages(config: Selection, corpus: Corpus) -> tuple[str, ...]:
  chosen = _corpus_options(config).languages or corpus.languages
  absent = [iso for iso in chosen if iso not in corpus.languages]
  if absent:
    raise InputError(
      f'{corpus.title} has no {", ".join(absent)}; it has '
      f'{", ".join(corpus.languages)}. Change --languages.'
    )
  return chosen


def _definition(
  config: Selection,
  corpus: Corpus,
  wanted: tuple[str, ...],
  families: list[Encoders],
  entries: tuple[EntryPlan, ...],
) -> dict[str, Any]:
  known = languages.LANGUAGES
  classes, source = _resources(config)
  hours = languages.resource_hours(config.resource_table)
  dropped = [*corpus.dropped, *(d for e in entries for d in e.dropped)]
  return {
    'jaxrep': jaxrep.__version__,
    'created': datetime.datetime.now(datetime.UTC).isoformat('T', 'seconds'),
    'corpus': {
      'name': corpus.name,
      'title': corpus.title,
      'licence': corpus.licence,
      'synthetic': corpus.synthetic,
      'note': corpus.note,
      'splits': list(config.splits),
    },
    'languages': list(wanted),
    'language_names': {
      iso: known[iso].name if iso in known else iso for iso in wanted
    },
    'resource_classes': {i: classes[i] for i in wanted if i in classes},
    'resource_source': source,
    'resource_hours': {i: hours[i] for i in wanted if i in hours},
    'models': {
      name: encoders.describe(name, families, entries, config)
      for name in config.models
    },
    'sentences': {iso: _counts(iso, entries) for iso in wanted},
    'dropped': [dataclasses.asdict(d) for d in _unique(dropped)],
    'recordings': config.recordings,
    'versions': _versions(),
    'warnings': _warnings(wanted, families, entries),
  }


def _resources(
  config: Selection,
) -> tuple[dict[str, languages.ResourceClass], str]:
  """The class of each language, and where it is from, for the report.

  What the models were trained on says it better than a proxy, but a table that
  is given says it best.
  """
  table = config.resource_table
  own = models.shared_resources(config.models)
  if own and not table:
    return languages.resource_classes(own.table), own.meaning
  classes = languages.resource_classes(table or None)
  return classes, languages.resource_source(table)


def _counts(iso: str, entries: Iterable[EntryPlan]) -> dict[str, int]:
  counts = {'text': 0, 'speech': 0}
  for entry in entries:
    if entry.language == iso:
      counts[entry.model.modality] = len({row.id for row in entry.rows})
  return counts


def _unique(dropped: Iterable[Dropped]) -> list[Dropped]:
  return list(dict.fromkeys(dropped))


def _versions() -> dict[str, str]:
  found = {name: importlib.metadata.version(name) for name in PACKAGES}
  return {'python': platform.python_version(), **found}


def _cuts(model: Model) -> str:
  limit = model.inputs.limit
  if model.modality == 'text':
    return f'reads {limit} tokens at most and cuts longer texts'
  seconds = limit / SAMPLE_RATE
  return f'reads {seconds:.0f} s of audio at most and cuts longer recordings'


def _warnings(
  wanted: tuple[str, ...],
  families: list[Encoders],
  entries: tuple[EntryPlan, ...],
) -> list[str]:
  """What a reader of the numbers has to know of the models and languages."""
  sentences = []
  for family in families:
    own = [
      entry
      for entry in entries
      if (entry.model.name, entry.model.modality)
      == (family.name, family.modality)
    ]
    read = {entry.language for entry in own}
    absent = [iso for iso in wanted if iso not in read]
    if absent:
      sentences.append(
        f'{family.name} does not read {", ".join(absent)} as {family.modality}.'
      )
    cut = {entry.language: entry.cut for entry in own if entry.cut}
    if cut:
      counts = ', '.join(f'{count} of {iso}' for iso, count in cut.items())
      sentences.append(f'{family.name} {_cuts(own[0].model)}: {counts}.')
  for sentence in sentences:
    logging.warning('%s', sentence)
  return sentences
