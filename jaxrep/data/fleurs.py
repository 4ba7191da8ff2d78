"""FLEURS: 102 languages reading the same sentences out of Wikipedia.

Where things are read from and kept (`--corpus_source`):

- empty: the raw files come from the hub (into its own cache, HF_HOME), the
  prepared records go to $JAXREP_DATA, or ~/.cache/jaxrep where that is unset;
- a folder with a raw tree (`data/<language>/…`, as the hub has it): nothing is
  downloaded, and the records go to a folder of $JAXREP_DATA of their own;
- any other folder takes the place of $JAXREP_DATA.

Only the wanted languages and splits are downloaded and prepared; listing text
needs the tables alone.

Of several recordings of a sentence, those of the earlier split in
`CorpusOptions.splits` come first, and within a split the table's order holds.
A sentence's text is that of its first row with any; a row with another text
under the same id is left out and counted, since its recording says something
else. With recordings='first' nothing after the first usable recording is
looked at, so that a bad one there is no error.
"""

import collections
import dataclasses
import functools
import hashlib
import os
import pathlib
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxrep import languages
from jaxrep.data import fleurs_builder, fleurs_records, hub
from jaxrep.data.fleurs_builder import Entry
from jaxrep.types import (
  CorpusOptions,
  Dropped,
  Example,
  InputError,
  Modality,
)

SPLITS = ('train', 'dev', 'test')


class _Row(NamedTuple):
  split: str
  audio: str
  entry: Entry


class _Found(NamedTuple):
  examples: list[Example]
  bad: list[Dropped]
  conflicting: list[Dropped]


class FleursCorpus:
  """FLEURS as a `jaxrep.types.Corpus`."""

  name = 'fleurs'
  title = 'FLEURS'
  licence = 'cc-by-4.0'
  synthetic = False
  note = (
    'Read speech of FLORES sentences, several speakers a sentence: Conneau '
    'et al., FLEURS, IEEE SLT 2022.'
  )

  def __init__(self, options: CorpusOptions):
    self.dropped: list[Dropped] = []
    self._options = options
    self._splits = _check_splits(options.splits)
    self._tree = _tree(options.source)
    place = pathlib.Path(options.source or _default_place()).expanduser()
    self._place = _place_of_tree(place) if self._tree else place
    self.languages = self._check_languages(options.languages)
    self._listed: dict[tuple[str, Modality], list[Example]] = {}
    self._prepared = functools.cache(self._prepare)
    self._records = functools.cache(self._open)

  def examples(self, language: str, modality: Modality) -> list[Example]:
    """Sentences, or their recordings, in a fixed order.

    Downloads and prepares what is not there yet.

    Raises:
      InputError: the language is not in the corpus, a raw file cannot be had,
        or an example is bad and on_bad_input is 'error'.
    """
    if language not in self.languages:
      raise InputError(
        f'{language} is not among the languages that this corpus was opened '
        f'with: {", ".join(self.languages)}.'
      )
    if (language, modality) not in self._listed:
      rows = self._rows(language, modality)
      found = _list(rows, language, modality, self._options.recordings)
      if found.bad and self._options.on_bad_input == 'error':
        raise InputError(
          f'{len(found.bad)} of the {language} {modality} examples cannot be '
          f'used, the first: {found.bad[0].audio}: {found.bad[0].reason}. Give '
          '--on_bad_input=skip to leave them out.'
        )
      self.dropped += found.bad + found.conflicting
      self._listed[language, modality] = found.examples
    return list(self._listed[language, modality])

  def waveform(self, example: Example) -> Float[np.ndarray, ' sample']:
    """Mono float32 at 16 kHz; raises InputError where it cannot be read."""
    language, split, file = example.audio.split('/')
    try:
      positions, records = self._records(language, split)
      return records.read(positions[file], file)
    except fleurs_records.DAMAGED as error:
      folder, _ = self._prepared(language, split)
      raise InputError(
        f'{example.audio} cannot be read from {folder}; delete that folder and '
        'run again.'
      ) from error

  def _rows(self, language: str, modality: Modality) -> list[_Row]:
    name = languages.find(language).fleurs
    return [
      _Row(split, f'{name}/{split}/{entry.file}', entry)
      for split in self._splits
      for entry in (
        self._prepared(name, split)[1]
        if modality == 'speech'
        else self._table(name, split)
      )
    ]

  def _table(self, language: str, split: str) -> list[Entry]:
    folder = self._folder(language, split)
    if self._tree is None and fleurs_builder.read_metadata(folder):
      return fleurs_builder.read_index(folder)
    return fleurs_builder.read_table(self._raw(_table_name(language, split)))

  def _prepare(
    self, language: str, split: str
  ) -> tuple[pathlib.Path, list[Entry]]:
    folder = self._folder(language, split)
    # A raw tree may have changed since; what came from the hub has not.
    if self._tree or not fleurs_builder.read_metadata(folder):
      archive = f'data/{language}/audio/{split}.tar.gz'
      config = fleurs_builder.FleursConfig(
        name=f'{language}.{split}',
        language=language,
        split=split,
        table=self._raw(_table_name(language, split)),
        archive=self._raw(archive),
      )
      folder = fleurs_builder.prepare(self._place, config)
    return folder, fleurs_builder.read_index(folder)

  def _open(self, language: str, split: str):
    folder, entries = self._prepared(language, split)
    positions = {e.file: e.position for e in entries if e.position >= 0}
    return positions, fleurs_records.Records(folder, split)

  def _folder(self, language: str, split: str) -> pathlib.Path:
    return fleurs_builder.prepared_folder(self._place, f'{language}.{split}')

  def _raw(self, name: str) -> pathlib.Path:
    if self._tree is None:
      return hub.download(name)
    path = self._tree / name
    if not path.is_file():
      raise InputError(
        f'{path} is missing from the raw tree --corpus_source={self._tree}.'
      )
    return path

  def _check_languages(self, wanted: tuple[str, ...]) -> tuple[str, ...]:
    there = tuple(
      language.iso
      for language in languages.LANGUAGES.values()
      if self._tree is None or (self._tree / 'data' / language.fleurs).is_dir()
    )
    codes = tuple(languages.find(code).iso for code in wanted) or there
    for iso in codes:
      if iso not in there:
        raise InputError(
          f'{self._tree} has no data/{languages.find(iso).fleurs} for {iso}; '
          f'it has: {", ".join(there)}.'
        )
    return codes


def open_corpus(options: CorpusOptions) -> FleursCorpus:
  """FLEURS, or the raw tree of FLEURS's form that `options.source` names.

  Raises:
    InputError: an unknown split or language; says which there are.
  """
  return FleursCorpus(options)


def _list(
  rows: list[_Row], language: str, modality: Modality, recordings: str
) -> _Found:
  found, counts = _Found([], [], []), collections.Counter()
  texts: dict[str, str] = {}
  for row in rows:
    if row.entry.text:
      texts.setdefault(row.entry.id, row.entry.text)
  for row in rows:
    entry = row.entry
    drop = functools.partial(
      Dropped, language, modality, entry.id, audio=row.audio
    )
    if entry.text and entry.text.split() != texts[entry.id].split():
      reason = 'its text is not that of the sentence'
      found.conflicting.append(drop(reason))
    elif counts[entry.id] and (modality == 'text' or recordings == 'first'):
      continue
    elif not entry.text:
      found.bad.append(drop('has an empty transcript'))
    elif modality == 'speech' and entry.problem:
      reason = entry.problem.removeprefix(f'{row.audio}: ').rstrip('.')
      found.bad.append(drop(reason))
    else:
      example = Example(entry.id, language, texts[entry.id], row.split)
      if modality == 'speech':
        example = dataclasses.replace(
          example,
          recording=counts[entry.id],
          speaker=entry.speaker,
          audio=row.audio,
          samples=entry.samples,
        )
      found.examples.append(example)
      counts[entry.id] += 1
  return found


def _check_splits(splits: tuple[str, ...]) -> tuple[str, ...]:
  for split in splits:
    if split not in SPLITS:
      raise InputError(
        f'FLEURS has no split {split!r}. There are: {", ".join(SPLITS)}.'
      )
  if not splits:
    raise InputError(f'--splits is empty. There are: {", ".join(SPLITS)}.')
  return tuple(dict.fromkeys(splits))


def _default_place() -> str:
  return os.environ.get('JAXREP_DATA') or '~/.cache/jaxrep'


def _tree(source: str) -> pathlib.Path | None:
  """The raw tree that is named; None where records are to be kept there."""
  if not source:
    return None
  if '://' in source:
    raise InputError(
      f'--corpus_source={source}: FLEURS is read from, and its records are '
      'kept in, a folder of this machine; name one.'
    )
  tree = pathlib.Path(source).expanduser()
  if (tree / 'data').is_dir():
    return tree
  names = [one.fleurs for one in languages.LANGUAGES.values()]
  if any((tree / name).is_dir() for name in names):
    raise InputError(
      f'--corpus_source={source} holds languages itself: a raw tree has them '
      "in its folder 'data'; name the folder that this is in."
    )
  return None


def _place_of_tree(tree: pathlib.Path) -> pathlib.Path:
  key = hashlib.sha1(os.fsencode(tree.resolve())).hexdigest()[:8]
  return pathlib.Path(_default_place()).expanduser() / f'tree-{key}'


def _table_name(language: str, split: str) -> str:
  return f'data/{language}/{split}.tsv'
