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
from jaxrep import languages, models
from jaxrep.data import open_corpus
from jaxrep.extract.plan import EntryPlan, Options, plan_entry
from jaxrep.jobs.settings import Selection
from jaxrep.types import Corpus, CorpusOptions, Dropped, InputError

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
  corpus = open_corpus(config.corpus, _corpus_options(config))
  wanted = _languages(config, corpus)
  opened = _models(config)
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
    entry
    for model in opened
    for language in wanted
    if (
      entry := plan_entry(model, corpus, language, options, config.on_bad_input)
    )
  )
  if not entries:
    raise InputError('No model covers any of the languages: nothing to do.')
  definition = _definition(config, corpus, wanted, opened, entries)
  return Plan(corpus, entries, definition)


def write(plan: Plan, workdir: str) -> None:
  folder = epath.Path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  text = json.dumps(plan.definition, indent=2, ensure_ascii=False)
  temporary = folder / 'plan.json.new'
  temporary.write_text(text)
  temporary.replace(folder / 'plan.json')


def read(workdir: str) -> dict[str, Any]:
  path = epath.Path(workdir) / 'plan.json'
  if not path.exists():
    raise InputError(
      f'{path} does not exist: run `python run.py extract --workdir={workdir}` '
      'first, with the models and the corpus.'
    )
  return json.loads(path.read_text())


def _corpus_options(config: Selection) -> CorpusOptions:
  chosen = languages.select_codes(config.languages) if config.languages else ()
  if config.corpus == 'fleurs' and not chosen:
    chosen = languages.PAPER30
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


def _models(config: Selection) -> list[models.Model]:
  checkpoints = dict(_assignment(text) for text in config.checkpoints)
  unused = sorted(set(checkpoints) - set(config.models))
  if unused:
    raise InputError(
      f'--checkpoints names {", ".join(unused)}, which --models does not.'
    )
  unknown = set(config.modalities) - {'text', 'speech'}
  if unknown or not config.modalities:
    raise InputError('--modalities takes text, speech, or both.')
  return [
    models.open_model(
      name, modality, checkpoints.get(name, ''), config.taps == 'fine'
    )
    for name in config.models
    for modality in ('text', 'speech')
    if modality in config.modalities
  ]


def _assignment(text: str) -> tuple[str, str]:
  name, equals, source = text.partition('=')
  if not equals or not source:
    raise InputError(
      f'--checkpoints={text}: write model=folder or model=hub id.'
    )
  return name, source


def _definition(
  config: Selection,
  corpus: Corpus,
  wanted: tuple[str, ...],
  opened: list[models.Model],
  entries: tuple[EntryPlan, ...],
) -> dict[str, Any]:
  known = languages.LANGUAGES
  classes = languages.resource_classes(config.resource_table or None)
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
    'resource_source': languages.resource_source(config.resource_table),
    'models': {
      name: _describe_model(name, opened, entries, config)
      for name in config.models
    },
    'sentences': {iso: _counts(iso, entries) for iso in wanted},
    'dropped': [dataclasses.asdict(d) for d in _unique(dropped)],
    'recordings': config.recordings,
    'versions': _versions(),
    'warnings': _warnings(wanted, opened, entries),
  }


def _describe_model(
  name: str,
  opened: list[models.Model],
  entries: tuple[EntryPlan, ...],
  config: Selection,
) -> dict[str, Any]:
  sides = {m.modality: m for m in opened if m.name == name}
  row = models.MODELS[name]
  both = len(sides) == 2
  some = next(iter(sides.values()))
  pairs = models.counterparts(sides['text'], sides['speech']) if both else {}
  return {
    'title': row.title,
    'licence': row.licence,
    'trained': row.seed is None,
    'note': row.note,
    'checkpoint': {'source': some.source, 'fingerprint': some.fingerprint},
    'dtype': config.precision,
    'pooling': config.pooling,
    'taps': {
      modality: [list(spec) for spec in sides[modality].taps]
      if modality in sides
      else []
      for modality in ('text', 'speech')
    },
    'counterparts': pairs,
    'adaptor': dict(zip(('before', 'after'), row.adaptor, strict=True)),
    'languages': {
      modality: [
        entry.language
        for entry in entries
        if (entry.model.name, entry.model.modality) == (name, modality)
      ]
      for modality in ('text', 'speech')
    },
  }


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


def _warnings(
  wanted: tuple[str, ...],
  opened: list[models.Model],
  entries: tuple[EntryPlan, ...],
) -> list[str]:
  """One sentence a model and modality that lacks languages."""
  there = {(e.model.name, e.model.modality, e.language) for e in entries}
  sentences = []
  for model in opened:
    key = (model.name, model.modality)
    absent = [iso for iso in wanted if (*key, iso) not in there]
    if absent:
      sentences.append(
        f'{model.name} does not read {", ".join(absent)} as {model.modality}.'
      )
      logging.warning('%s', sentences[-1])
  return sentences
