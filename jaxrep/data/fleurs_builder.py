"""FLEURS as a tensorflow-datasets builder that never needs TensorFlow.

One config is one split of one language, made from its table (`test.tsv`) and
its archive of recordings (`test.tar.gz`), which is read as a stream: nothing
is unpacked to disk. Beside the records lies `index.parquet`, one row for each
row of the table, so that planning decodes no audio. A recording that cannot be
used is not stored; its row in the index says why.
"""

import collections
import dataclasses
import gzip
import hashlib
import os
import pathlib
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_datasets as tfds
from absl import logging
from huggingface_hub.utils import WeakFileLock

from jaxrep.data import fleurs_records, waveform
from jaxrep.types import SAMPLE_RATE, InputError

CITATION = """\
@inproceedings{conneau2023fleurs,
  title={FLEURS: Few-shot Learning Evaluation of Universal Representations of
    Speech},
  author={Conneau, Alexis and Ma, Min and Khanuja, Simran and Zhang, Yu and
    Axelrod, Vera and Dalmia, Siddharth and Riesa, Jason and Rivera, Clara and
    Bapna, Ankur},
  booktitle={2022 IEEE Spoken Language Technology Workshop},
  pages={798--805},
  year={2023}
}"""


@dataclasses.dataclass(frozen=True)
class Entry:
  """One row of a table, and what became of its recording.

  `position` is that of the record, `samples` its length at 16 kHz. Where the
  recording cannot be used, `position` is −1 and `problem` a sentence that
  begins with the recording's name.
  """

  id: str
  file: str
  text: str
  speaker: str
  gender: str
  position: int = -1
  samples: int = 0
  problem: str = ''


_TYPES = {str: pa.string(), int: pa.int64()}
_SCHEMA = pa.schema(
  [(field.name, _TYPES[field.type]) for field in dataclasses.fields(Entry)]
)
_LARGEST = 1 << 28  # bytes of one recording; two hours at 16 kHz
_DAMAGED = (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error)


@dataclasses.dataclass(eq=False)
class FleursConfig(tfds.core.BuilderConfig):
  """One split of one language (FLEURS's names), and its two raw files."""

  language: str = ''
  split: str = ''
  table: pathlib.Path = pathlib.Path()
  archive: pathlib.Path = pathlib.Path()


class Fleurs(tfds.core.GeneratorBasedBuilder):
  """The usable recordings of one config, in the order of the archive."""

  VERSION = tfds.core.Version('1.0.0')
  # tfds downloads nothing here; looking for its checksums needs a package that
  # it does not install.
  url_infos = None

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='FLEURS recordings, mono float32 at 16 kHz.',
      features=tfds.features.FeaturesDict(fleurs_records.FEATURES),
      homepage='https://huggingface.co/datasets/google/fleurs',
      license='CC BY 4.0',
      citation=CITATION,
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager) -> dict:
    return {self.builder_config.split: self._generate_examples()}

  def _generate_examples(self) -> Iterator[tuple[str, dict]]:
    config = self.builder_config
    self._entries = read_table(config.table)
    # Of rows that share a file the first counts.
    rows = {entry.file: entry for entry in reversed(self._entries)}
    self._found: dict[str, dict] = {}
    self._ignored = 0
    stored = 0
    for file, content in _members(config.archive):
      if file not in rows or file in self._found:
        self._ignored += 1
        continue
      audio, problem = _decode(
        content, f'{config.language}/{config.split}/{file}'
      )
      if problem:
        self._found[file] = {'problem': problem}
        continue
      self._found[file] = {'position': stored, 'samples': len(audio)}
      stored += 1
      row = rows[file]
      yield (
        file,
        {
          'id': row.id,
          'file': file,
          'text': row.text,
          'speaker': row.speaker,
          'gender': row.gender,
          'audio': audio,
        },
      )

  def _generate_splits(self, dl_manager, download_config):
    """Streams the split into one shard.

    tfds's own writer keeps a split in memory and, past 1 GB, needs TensorFlow.
    """
    ((split, examples),) = self._split_generators(dl_manager).items()
    template = self._get_filename_template(split_name=split)
    shard = template.sharded_filepath(shard_index=0, num_shards=1)
    self._example_writer().write(
      os.fspath(shard),
      ((key, self.info.features.serialize_example(x)) for key, x in examples),
    )
    index = self._index()
    metadata = {
      'origin': origin(self.builder_config),
      'ignored': str(self._ignored),
    }
    _write_index(self.data_path / 'index.parquet', index, metadata)
    return [
      tfds.core.SplitInfo(
        name=split,
        shard_lengths=[sum(entry.position >= 0 for entry in index)],
        num_bytes=shard.stat().length,
        filename_template=template,
      )
    ]

  def _index(self) -> list[Entry]:
    config, listed = self.builder_config, collections.Counter()
    index = []
    for entry in self._entries:
      name = f'{config.language}/{config.split}/{entry.file}'
      listed[entry.file] += 1
      if listed[entry.file] > 1:
        found = {'problem': f'{name}: an earlier row names the same file.'}
      else:
        missing = {'problem': f'{name}: not in {config.archive.name}.'}
        found = self._found.get(entry.file, missing)
      index.append(dataclasses.replace(entry, **found))
    return index

  def _create_builder_config(self, builder_config, version):
    # tfds's own warns of every config that is made where it is used.
    return builder_config

  # tfds's own print to standard output, which is the report's.
  def _log_download_bytes(self):
    pass

  def _log_download_done(self):
    pass


def prepared_folder(place: pathlib.Path, name: str) -> pathlib.Path:
  """Where the records of the config of this name are, or will be."""
  return place / 'fleurs' / name / str(Fleurs.VERSION)


def prepare(place: pathlib.Path, config: FleursConfig) -> pathlib.Path:
  """Makes the records of a config under `place` and returns their folder.

  What is there already is taken if it was made from the same raw files.
  Processes that share a disk wait for the one that is at it; what a killed one
  left is removed.

  Raises:
    InputError: a raw file is damaged or unsafe, or the disk is full.
  """
  folder = prepared_folder(place, config.name)
  if _is_current(folder, config):
    return folder
  lock = place / '.locks' / config.name
  try:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
      if not _is_current(folder, config):
        if folder.parent.exists():
          shutil.rmtree(folder.parent)
        _build(place, config)
  # The record writer reports a failed write as a RuntimeError.
  except (OSError, RuntimeError) as error:
    raise InputError(
      f'Cannot prepare FLEURS {config.name} in {place}: {error}. Free some '
      'space, or set JAXREP_DATA to a folder that has it.'
    ) from error
  return folder


def _is_current(folder: pathlib.Path, config: FleursConfig) -> bool:
  return read_metadata(folder).get('origin') == origin(config)


def _build(place: pathlib.Path, config: FleursConfig) -> None:
  logging.info('Preparing FLEURS %s in %s.', config.name, place)
  start = time.perf_counter()
  with tempfile.TemporaryDirectory() as unused:
    builder = Fleurs(data_dir=place, config=config, file_format='array_record')
    builder.download_and_prepare(
      download_dir=unused,
      download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
  folder = prepared_folder(place, config.name)
  index = read_index(folder)
  logging.info(
    '%s: %d of %d recordings, %.0f s of audio in %.1f s; %s files that the '
    'table does not name were ignored.',
    config.name,
    sum(entry.position >= 0 for entry in index),
    len(index),
    sum(entry.samples for entry in index) / SAMPLE_RATE,
    time.perf_counter() - start,
    read_metadata(folder)['ignored'],
  )


def read_table(path: pathlib.Path) -> list[Entry]:
  """Reads a FLEURS table, of 7 columns or of 8 (with speakers).

  id, file, raw transcription, transcription, characters, number of samples,
  [speaker,] gender; without header or quoting.

  Raises:
    InputError: a row has another form; names its line.
  """
  entries = []
  for number, line in enumerate(_lines(path), 1):
    cells = [cell.strip() for cell in line.split('\t')]
    if len(cells) not in (7, 8) or not cells[5].isdigit():
      raise InputError(
        f'{path}, line {number}: not a row of FLEURS, which has 7 or 8 '
        'columns, a number in the sixth; get the file again.'
      )
    entries.append(
      Entry(
        id=cells[0],
        file=cells[1],
        text=cells[2],
        speaker=cells[6] if len(cells) == 8 else '',
        gender=cells[-1],
      )
    )
  return entries


def read_index(folder: pathlib.Path) -> list[Entry]:
  """The rows of the table a prepared config was made from, in its order.

  Raises:
    InputError: it is damaged.
  """
  path = folder / 'index.parquet'
  try:
    table = pq.read_table(path, page_checksum_verification=True)
    return [Entry(**row) for row in table.cast(_SCHEMA).to_pylist()]
  except (OSError, ValueError, TypeError) as error:
    raise InputError(
      f'{path} cannot be read ({error}); delete its folder and run again.'
    ) from error


def read_metadata(folder: pathlib.Path) -> dict[str, str]:
  """Of a prepared config: `origin`, and how many files were `ignored`.

  Empty where there is no prepared config.
  """
  try:
    metadata = pq.read_schema(folder / 'index.parquet').metadata or {}
    return {key.decode(): value.decode() for key, value in metadata.items()}
  except (OSError, ValueError):
    return {}


def origin(config: FleursConfig) -> str:
  """Tells raw files apart without reading the whole archive.

  The table's SHA-256, the archive's size and the checksum of its content that
  gzip keeps in the last 8 bytes.
  """
  table = hashlib.sha256(config.table.read_bytes()).hexdigest()
  size = config.archive.stat().st_size
  with open(config.archive, 'rb') as file:
    file.seek(max(0, size - 8))
    return f'{table} {size} {file.read().hex()}'


def _lines(path: pathlib.Path) -> list[str]:
  try:
    text = path.read_bytes().decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise InputError(f'{path} is not UTF-8; get the file again.') from error
  # Not splitlines: transcriptions may hold other line ends.
  return [line for line in text.split('\n') if line.strip()]


def _members(archive: pathlib.Path) -> Iterator[tuple[str, bytes]]:
  """File name and content of each file of a tar.gz, as a stream.

  Raises:
    InputError: the archive is damaged, cut short, or holds what no honest
      archive of recordings does.
  """
  try:
    # Through gzip, not tarfile's own 'r|gz', which checks neither the end of
    # the stream nor its checksum.
    with (
      gzip.open(archive) as stream,
      tarfile.open(fileobj=stream, mode='r|', bufsize=1 << 18) as tar,
    ):
      for member in tar:
        _refuse_unsafe(member, archive)
        if member.isfile():
          name = pathlib.PurePosixPath(member.name).name
          yield name, tar.extractfile(member).read()
      while stream.read(1 << 20):
        pass
  # tarfile has numbers that are none as ValueErrors.
  except (*_DAMAGED, ValueError, OverflowError) as error:
    if isinstance(error, InputError):
      raise
    raise InputError(
      f'{archive.resolve()} is damaged or cut short ({error}); delete it and '
      'get it again.'
    ) from error


def _refuse_unsafe(member: tarfile.TarInfo, archive: pathlib.Path) -> None:
  path = pathlib.PurePosixPath(member.name)
  if path.is_absolute() or '..' in path.parts:
    fault = 'leads out of the archive'
  elif not (member.isfile() or member.isdir()) or member.issparse():
    fault = 'is a link, a device, or sparse'
  elif not 0 <= member.size <= _LARGEST:
    fault = f'claims {member.size} bytes'
  else:
    return
  raise InputError(
    f'{archive.resolve()}: the member {member.name!r} {fault}; the archive is '
    'refused. Get it again from a source that you trust.'
  )


def _decode(content: bytes, name: str) -> tuple[np.ndarray, str]:
  """A recording at 16 kHz, or why it cannot be used."""
  try:
    audio = waveform.read(content, name)
  except InputError as error:
    return np.empty(0, np.float32), str(error)
  if not audio.size or waveform.silent(audio):
    return audio, f'{name}: is silent.'
  return audio, ''


def _write_index(
  path: os.PathLike, entries: list[Entry], metadata: dict[str, str]
) -> None:
  rows = [dataclasses.asdict(entry) for entry in entries]
  table = pa.Table.from_pylist(rows, _SCHEMA.with_metadata(metadata))
  pq.write_table(table, path, write_page_checksum=True)
