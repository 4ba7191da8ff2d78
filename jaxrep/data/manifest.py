"""People's own corpora, from a JSONL or TSV manifest; and the bundled one.

One row is one recording of a sentence, or its text alone. Columns (TSV: named
by a header line, no quoting; JSONL: keys of each object):

  id        shared by all languages and by text and speech
  language  ISO 639-3, FLEURS or NLLB code; ISO 639-3 outside FLEURS too
  text      the transcript
  audio     path of the recording, relative to the manifest's folder
  speaker   optional
  split     optional; a row without one belongs to every split
  samples   optional: the recording's length at 16 kHz, which spares a look
            into every file

`text` or `audio` may be left out. A language of which no row has text is
speech only; where some have, a sentence without text is a bad example. Other
columns are passed over.

The rows of a sentence are ordered by split preference, then as in the file.
Its text is the first that they give, and rows that give another one are bad
examples; so are rows that repeat an earlier one, and audio that is missing or
unreadable. A line that cannot be parsed, or lacks its id or language, is an
error even where bad examples are skipped: it has no name to be listed under.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float32

from jaxrep import languages
from jaxrep.data import waveform
from jaxrep.types import (
  CorpusOptions,
  Dropped,
  Example,
  InputError,
  Modality,
)

_COLUMNS = ('id', 'language', 'text', 'audio', 'speaker', 'split', 'samples')
_BUNDLED = pathlib.Path(__file__).with_name('bundled') / 'manifest.tsv'


def open_corpus(options: CorpusOptions) -> 'ManifestCorpus':
  """Opens the manifest that `options.source` names."""
  if not options.source:
    raise InputError(
      'The manifest corpus needs its file: --corpus_source=<a .jsonl or .tsv>.'
    )
  path = pathlib.Path(options.source).expanduser()
  return ManifestCorpus(
    name='manifest',
    title=path.name,
    licence='not stated',
    synthetic=False,
    note='',
    options=options,
    rows=_rows(path, options),
  )


def open_bundled(options: CorpusOptions) -> 'ManifestCorpus':
  """Opens the corpus that comes with the package; it needs no network."""
  if options.source:
    raise InputError(
      'The bundled corpus takes no --corpus_source; for your own files use '
      '--corpus=manifest.'
    )
  return ManifestCorpus(
    name='bundled',
    title='Bundled parallel sentences',
    licence='Apache-2.0',
    synthetic=True,
    note='Read by the synthesiser espeak-ng.',
    options=options,
    rows=_rows(_BUNDLED, options),
  )


@dataclasses.dataclass(frozen=True)
class _Row:
  where: str = dataclasses.field(compare=False)
  id: str
  language: str
  text: str
  audio: str
  speaker: str
  split: str
  samples: int


# Language → id → rows, in order of preference.
_Rows = dict[str, dict[str, list[_Row]]]


@dataclasses.dataclass
class ManifestCorpus:
  """A corpus that lists its examples when they are first asked for."""

  name: str
  title: str
  licence: str
  synthetic: bool
  note: str
  options: CorpusOptions
  rows: _Rows
  dropped: list[Dropped] = dataclasses.field(default_factory=list)
  _listed: dict[tuple[str, Modality], tuple[Example, ...]] = dataclasses.field(
    default_factory=dict
  )

  @property
  def languages(self) -> tuple[str, ...]:
    return tuple(self.rows)

  def examples(self, language: str, modality: Modality) -> list[Example]:
    if language not in self.rows:
      raise InputError(
        f'{self.title} has no language {language!r}; there are: '
        f'{", ".join(self.languages)}.'
      )
    key = language, modality
    if key not in self._listed:
      listing = self._texts if modality == 'text' else self._recordings
      self._listed[key] = tuple(listing(language))
    return list(self._listed[key])

  def waveform(self, example: Example) -> Float32[np.ndarray, ' sample']:
    samples = waveform.read(example.audio)
    if len(samples) != example.samples:
      raise InputError(
        f'{example.audio}: has {len(samples)} samples at 16 kHz where '
        f'{example.samples} were expected; correct the column samples, or '
        'leave it out.'
      )
    return samples

  def _texts(self, language: str) -> Iterator[Example]:
    sentences = self.rows[language]
    rows = [row for sentence in sentences.values() for row in sentence]
    if not any(row.text for row in rows) and any(row.audio for row in rows):
      return
    for sentence in sentences.values():
      said = next((row for row in sentence if row.text), None)
      if said is None:
        self._drop(sentence[0], 'text', 'has no text')
        continue
      seen: dict[_Row, _Row] = {}
      for row in sentence:
        if row.text not in ('', said.text):
          self._drop(row, 'text', 'gives this id another text', said)
        elif not row.audio and row in seen:
          self._drop(row, 'text', 'repeats an earlier row', seen[row])
        seen.setdefault(row, row)
      yield Example(said.id, language, said.text, said.split)

  def _recordings(self, language: str) -> Iterator[Example]:
    for sentence in self.rows[language].values():
      said = next((row for row in sentence if row.text), sentence[0])
      count = 0
      for row in self._distinct(sentence, said):
        if count and self.options.recordings == 'first':
          continue
        try:
          samples, checksum = _length(row), waveform.checksum(row.audio)
        except InputError as error:
          self._drop(row, 'speech', str(error).rstrip('.'))
          continue
        yield Example(
          id=row.id,
          language=language,
          text=said.text,
          split=row.split,
          recording=count,
          speaker=row.speaker,
          audio=row.audio,
          samples=samples,
          checksum=checksum,
        )
        count += 1

  def _distinct(self, sentence: list[_Row], said: _Row) -> Iterator[_Row]:
    """The sentence's recordings, less those of another text and repeats."""
    seen: dict[str, _Row] = {}
    for row in sentence:
      if not row.audio:
        if not row.text:
          self._drop(row, 'speech', 'has neither text nor audio')
      elif row.text not in ('', said.text):
        self._drop(row, 'speech', 'gives this id another text', said)
      elif row.audio in seen:
        self._drop(row, 'speech', 'repeats an earlier row', seen[row.audio])
      else:
        seen[row.audio] = row
        yield row

  def _drop(
    self, row: _Row, modality: Modality, reason: str, other: _Row | None = None
  ) -> None:
    if self.options.on_bad_input == 'skip':
      audio = row.audio if modality == 'speech' else ''
      reason = reason.removeprefix(f'{row.audio}: ')
      dropped = Dropped(row.language, modality, row.id, reason, audio)
      self.dropped.append(dropped)
      return
    beside = f' (compare {other.where})' if other else ''
    raise InputError(
      f'{row.where}: {row.language} {row.id}: {reason}{beside}. Correct it, or '
      'leave it out with --on_bad_input=skip.'
    )


def _rows(path: pathlib.Path, options: CorpusOptions) -> _Rows:
  """The rows of the wanted languages and splits."""
  rows = [_row(path, where, fields) for where, fields in _parsed(path)]
  wanted = tuple(languages.canonical(code) for code in options.languages)
  there = tuple(dict.fromkeys(row.language for row in rows))
  lacking = [language for language in wanted if language not in there]
  if lacking:
    raise InputError(
      f'{path} has no rows in {", ".join(lacking)}; its languages are: '
      f'{", ".join(there)}.'
    )
  rank = {split: index for index, split in enumerate(options.splits)}
  kept = [row for row in rows if not row.split or row.split in rank]
  kept.sort(key=lambda row: rank.get(row.split, len(rank)))
  grouped: _Rows = {language: {} for language in wanted or there}
  for row in kept:
    if row.language in grouped:
      grouped[row.language].setdefault(row.id, []).append(row)
  for language, sentences in grouped.items():
    if not sentences:
      splits = {row.split for row in rows if row.language == language}
      raise InputError(
        f'{path} has no rows in {language} for --splits='
        f'{",".join(options.splits)}; it has: {", ".join(sorted(splits))}.'
      )
  return grouped


def _parsed(path: pathlib.Path) -> Iterator[tuple[str, Mapping[str, object]]]:
  """Each row as (file:line, column → value)."""
  parsers = {'.jsonl': _jsonl, '.tsv': _tsv}
  if path.suffix not in parsers:
    raise InputError(f'{path}: a manifest ends in .jsonl or .tsv.')
  try:
    # Only \n ends a line: a transcript may hold U+2028 or \x85.
    lines = path.read_bytes().decode('utf-8-sig').split('\n')
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f'{path}: cannot be read ({error}).') from error
  numbered = [
    (f'{path}:{number}', line.rstrip('\r'))
    for number, line in enumerate(lines, 1)
    if line.strip()
  ]
  if not numbered:
    raise InputError(f'{path}: the manifest is empty.')
  return parsers[path.suffix](numbered)


def _jsonl(
  lines: list[tuple[str, str]],
) -> Iterator[tuple[str, Mapping[str, object]]]:
  for where, line in lines:
    try:
      fields = json.loads(line)
    except (ValueError, RecursionError) as error:
      raise InputError(f'{where}: is not JSON ({error}).') from error
    if not isinstance(fields, dict):
      raise InputError(f'{where}: is not a JSON object.')
    yield where, fields


def _tsv(
  lines: list[tuple[str, str]],
) -> Iterator[tuple[str, Mapping[str, object]]]:
  where, header = lines[0]
  names = [name.strip() for name in header.split('\t')]
  lacking = {'id', 'language'} - set(names)
  if lacking or not {'text', 'audio'} & set(names):
    raise InputError(
      f'{where}: the header line must name the columns id, language and text '
      f'or audio, separated by tabs; it has: {", ".join(names)}.'
    )
  if len(set(names)) < len(names):
    raise InputError(f'{where}: the header line names a column twice.')
  for where, line in lines[1:]:
    cells = line.split('\t')
    if len(cells) != len(names):
      raise InputError(
        f'{where}: has {len(cells)} columns where the header has {len(names)}.'
      )
    yield where, dict(zip(names, cells, strict=True))


def _row(path: pathlib.Path, where: str, fields: Mapping[str, object]) -> _Row:
  values = {}
  for name in _COLUMNS:
    value = fields.get(name)
    value = '' if value is None else value
    if isinstance(value, float) and value.is_integer():  # beside empty cells
      value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
      raise InputError(f'{where}: {name} must be a string.')
    values[name] = str(value).strip()
    if values[name].encode(errors='ignore').decode() != values[name]:
      raise InputError(f'{where}: {name} holds half of a character.')
  for name in ('id', 'language'):
    if not values[name]:
      raise InputError(f'{where}: has no {name}.')
  samples = values['samples'] or '0'
  digits = samples.isascii() and samples.isdecimal() and len(samples) < 10
  if not digits:
    raise InputError(f'{where}: samples must be a whole number below 10⁹.')
  try:
    language = languages.canonical(values['language'])
  except InputError as error:
    raise InputError(f'{where}: {error}') from error
  audio = str(path.parent / values['audio']) if values['audio'] else ''
  return _Row(
    where,
    **values | {'language': language, 'audio': audio, 'samples': int(samples)},
  )


def _length(row: _Row) -> int:
  if row.samples and os.path.isfile(row.audio):
    return row.samples
  return waveform.probe(row.audio)
