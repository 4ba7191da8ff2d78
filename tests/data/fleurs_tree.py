"""Writes small raw FLEURS trees, clean ones and ones with every known fault."""

import dataclasses
import io
import pathlib
import tarfile
import zlib
from collections.abc import Iterable

import numpy as np
import soundfile


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of a table and its recording; `audio` None: not in the archive.

  `samples` is what the table claims; None: the truth.
  """

  id: str
  file: str
  text: str
  audio: bytes | None
  speaker: str = '7'
  gender: str = 'FEMALE'
  samples: int | None = None


def tone(name: str, seconds: float, rate: int = 16_000) -> np.ndarray:
  """A noisy tone that is this name's own, on the grid of 16-bit samples."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  time = np.arange(round(seconds * rate)) / rate
  wave = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 300) * time)
  wave += 0.01 * rng.standard_normal(len(time))
  return (np.round(wave * 2**15) / 2**15).astype(np.float32)


def wav(wave: np.ndarray, subtype: str = 'FLOAT', rate: int = 16_000) -> bytes:
  file = io.BytesIO()
  soundfile.write(file, wave, rate, format='WAV', subtype=subtype)
  return file.getvalue()


def recording(name: str, seconds: float = 0.5, subtype: str = 'FLOAT') -> bytes:
  return wav(tone(name, seconds), subtype)


def write_table(
  tree: pathlib.Path,
  language: str,
  split: str,
  rows: Iterable[Row],
  columns: int = 7,
) -> pathlib.Path:
  lines = []
  for row in rows:
    samples = row.samples
    if samples is None:
      samples = len(row.audio or b'') // 4
    speaker = [row.speaker] if columns == 8 else []
    letters = ' '.join(row.text.replace(' ', '|'))
    cells = [row.id, row.file, row.text, row.text.lower(), letters]
    lines.append('\t'.join([*cells, str(samples), *speaker, row.gender]))
  path = tree / 'data' / language / f'{split}.tsv'
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join(lines) + '\n', 'utf-8')
  return path


def write_archive(
  tree: pathlib.Path,
  language: str,
  split: str,
  files: dict[str, bytes],
  members: Iterable[tarfile.TarInfo] = (),
) -> pathlib.Path:
  """Writes {file name: content}, then `members` that have no content."""
  path = tree / 'data' / language / 'audio' / f'{split}.tar.gz'
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, 'w:gz', compresslevel=1) as tar:
    folder = tarfile.TarInfo(split)
    folder.type = tarfile.DIRTYPE
    tar.addfile(folder)
    for name, content in files.items():
      info = tarfile.TarInfo(name if '/' in name else f'{split}/{name}')
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
    for info in members:
      tar.addfile(info)
  return path


def write_split(
  tree: pathlib.Path,
  language: str,
  split: str,
  rows: list[Row],
  columns: int = 7,
  more: dict[str, bytes] | None = None,
) -> None:
  """A table and its archive, whose members are not in the table's order."""
  write_table(tree, language, split, rows, columns)
  files = {
    row.file: row.audio for row in reversed(rows) if row.audio is not None
  }
  write_archive(tree, language, split, files | (more or {}))


def write_tree(
  tree: pathlib.Path,
  languages: Iterable[str] = ('en_us', 'sw_ke'),
  sentences: int = 4,
  seconds: float = 0.5,
  split: str = 'test',
) -> pathlib.Path:
  """A clean tree: two recordings of each sentence but the last."""
  for language in languages:
    rows = []
    for one in range(sentences):
      for take in range(1 if one == sentences - 1 else 2):
        file = f'{one:03d}{take}.wav'
        audio = recording(f'{language} {file}', seconds * (1 + one / 10))
        text = f'Sentence number {one} in {language}.'
        rows.append(Row(str(one), file, text, audio))
    write_split(tree, language, split, rows)
  return tree


def row(id, file=None, text=None, audio=None, **more) -> Row:
  file = file or f'{id}.wav'
  text = f'Sentence {id}.' if text is None else text
  return Row(id, file, text, audio or recording(file), **more)
