"""Readers of corpora: tables, archives, manifests and audio."""

import json
import os
import pathlib
import random
import shutil
from typing import Any

import numpy as np

from benchmarks.fuzzing import damage
from benchmarks.fuzzing.damage import Damage
from benchmarks.fuzzing.reader import TEXT, Read, Reader, Way
from jaxrep import languages
from jaxrep.data import fleurs, manifest, waveform
from jaxrep.types import CorpusOptions


def _wave(seconds: float = 0.25, rate: int = 16_000) -> np.ndarray:
  from tests.data import fleurs_tree

  return fleurs_tree.tone('fuzz', seconds, rate)


def _corpus(corpus: Any, modalities: tuple[str, ...]) -> Any:
  found = []
  for language in corpus.languages:
    for modality in modalities:
      for example in corpus.examples(language, modality):
        values = b''
        if modality == 'speech':
          values = corpus.waveform(example).tobytes()
        text = (example.id, language, example.text, example.speaker)
        found.append((*text, example.samples, values))
  return found


def _bad_input(rng: random.Random) -> dict[str, Any]:
  return {
    'on_bad_input': rng.choice(('error', 'skip')),
    'recordings': 'all',
    'splits': ('test', 'dev'),
  }


def make_fleurs(folder: pathlib.Path) -> None:
  from tests.data import fleurs_tree

  for columns, language in ((7, 'en_us'), (8, 'sw_ke')):
    rows = [
      fleurs_tree.row(
        f'{i}', f'{i:04}.wav', audio=fleurs_tree.recording(f'{i}', 0.12)
      )
      for i in range(3)
    ]
    fleurs_tree.write_split(folder, language, 'test', rows, columns)


def _fleurs(modality: str) -> Read:
  def read(folder: pathlib.Path, rng: random.Random) -> Any:
    options = {**_bad_input(rng), 'splits': ('test',)}
    wanted = ('eng', 'swh') if modality == 'text' else ('eng',)
    corpus = fleurs.open_corpus(
      CorpusOptions(source=str(folder), languages=wanted, **options)
    )
    return _corpus(corpus, (modality,))

  return read


def make_prepared(folder: pathlib.Path) -> None:
  tree = folder / 'tree'
  make_fleurs(tree)
  os.environ['JAXREP_DATA'] = str(folder / 'places')
  _fleurs('speech')(tree, random.Random(0))
  (place,) = (folder / 'places').glob('tree-*')
  shutil.move(place / 'fleurs', folder / 'fleurs')
  shutil.rmtree(folder / 'places')
  shutil.rmtree(tree)


def make_manifest(folder: pathlib.Path) -> None:
  import soundfile

  soundfile.write(folder / 'a.wav', _wave(), 16_000)
  soundfile.write(folder / 'b.flac', _wave(0.1), 16_000)
  rows = [
    {
      **{'id': f's{i}', 'language': language, 'text': f'{TEXT} {i}'},
      'audio': 'b.flac' if i % 2 else 'a.wav',
      'speaker': f'v{i}',
      'split': 'test',
      'samples': (4000, 1600)[i % 2],
    }
    for language in ('eng', 'swh')
    for i in range(3)
  ]
  lines = ['\t'.join(rows[0])]
  lines += ['\t'.join(map(str, row.values())) for row in rows]
  (folder / 'm.tsv').write_text('\n'.join(lines) + '\n')
  (folder / 'm.jsonl').write_text('\n'.join(map(json.dumps, rows)) + '\n')


def _manifest(name: str) -> Read:
  def read(folder: pathlib.Path, rng: random.Random) -> Any:
    options = CorpusOptions(source=str(folder / name), **_bad_input(rng))
    return _corpus(manifest.open_corpus(options), ('text', 'speech'))

  return read


def make_table(folder: pathlib.Path) -> None:
  (folder / 'hours.tsv').write_text('# hours\neng\t5000\nfra\t150.5\nswh\t3\n')


def _table(folder: pathlib.Path, rng: random.Random) -> Any:
  path = str(folder / 'hours.tsv')
  return languages.resource_classes(path), languages.resource_hours(path)


AUDIO = {
  'pcm16.wav': {'subtype': 'PCM_16'},
  'pcm24.wav': {'subtype': 'PCM_24', 'format': 'WAVEX'},
  'float.wav': {'subtype': 'FLOAT'},
  'a.flac': {},
  'a.ogg': {'subtype': 'OPUS'},
  'a.mp3': {},
}


def make_audio(folder: pathlib.Path) -> None:
  import soundfile

  for name, options in AUDIO.items():
    rate = 8_000 if name == 'pcm16.wav' else 16_000
    wave = np.stack([_wave(0.25, rate)] * 2, axis=1)
    soundfile.write(folder / name, wave, rate, **options)


def _audio(name: str) -> Read:
  def read(folder: pathlib.Path, rng: random.Random) -> Any:
    path = folder / name
    length = waveform.probe(path)
    source = path if rng.random() < 0.5 else path.read_bytes()
    values = waveform.read(source, str(path))
    if len(values) != length:
      raise AssertionError(f'{len(values)} samples, not {length}')
    return values.tobytes()

  return read


def _sound(name: str, header: Damage, share: int) -> Reader:
  ways = Way(name, header), Way(name, header), Way(name, damage.anything)
  return Reader(share, make_audio, _audio(name), ways)


TREE = 'data/en_us'
RECORDS = 'fleurs/en_us.test/1.0.0'
READERS = {
  'FLEURS table': Reader(
    110,
    make_fleurs,
    _fleurs('text'),
    (
      Way(f'{TREE}/test.tsv', damage.anything),
      Way(f'{TREE}/test.tsv', damage.table),
      Way('data/sw_ke/test.tsv', damage.table),
    ),
    ('data/', 'en_us/test', 'sw_ke/test'),
  ),
  'FLEURS archive': Reader(
    20,
    make_fleurs,
    _fleurs('speech'),
    (
      Way(f'{TREE}/audio/test.tar.gz', damage.anything, summed=True),
      Way(f'{TREE}/audio/test.tar.gz', damage.tar),
      Way(f'{TREE}/audio/test.tar.gz', damage.tar),
      Way(f'{TREE}/audio/test.tar.gz', damage.inside(damage.anything)),
    ),
    ('en_us/test',),
  ),
  'FLEURS records': Reader(
    20,
    make_prepared,
    _fleurs('speech'),
    (
      Way(f'{RECORDS}/index.parquet', damage.anything),
      Way(f'{RECORDS}/dataset_info.json', damage.fields),
      Way(f'{RECORDS}/features.json', damage.fields),
      Way(
        f'{RECORDS}/fleurs-test.array_record-00000-of-00001',
        damage.anything,
        summed=True,
      ),
    ),
    ('en_us/test', 'data/en_us', 'en_us.test'),
  ),
  'manifest': Reader(
    120,
    make_manifest,
    _manifest('m.tsv'),
    (
      Way('m.tsv', damage.anything),
      Way('m.tsv', damage.table),
      Way('m.tsv', damage.table),
    ),
    ('/etc/passwd',),  # as the audio of a row
  ),
  'manifest, JSON lines': Reader(
    90,
    make_manifest,
    _manifest('m.jsonl'),
    (Way('m.jsonl', damage.anything), Way('m.jsonl', damage.fields)),
  ),
  'resource table': Reader(
    40,
    make_table,
    _table,
    (Way('hours.tsv', damage.anything), Way('hours.tsv', damage.table)),
  ),
  'WAV, 16 bits': _sound('pcm16.wav', damage.wav, 60),
  'WAV, 24 bits': _sound('pcm24.wav', damage.wav, 40),
  'WAV, float': _sound('float.wav', damage.wav, 40),
  'FLAC': _sound('a.flac', damage.flac, 60),
  'Ogg/Opus': _sound('a.ogg', damage.anything, 30),
  'MP3': _sound('a.mp3', damage.anything, 10),
}
