"""The prepared records of FLEURS: what is stored, and what survives faults."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from jaxrep.data import fleurs, fleurs_builder
from jaxrep.types import CorpusOptions, InputError
from tests import mirror
from tests.data import fleurs_tree
from tests.data.fleurs_tree import recording, row, tone, wav

ROOT = pathlib.Path(__file__).parents[2]
TABLE = 'data/en_us/test.tsv'
ARCHIVE = 'data/en_us/audio/test.tar.gz'
SILENCE = wav(np.full(8000, 1e-4, np.float32))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
  """Where prepared records go."""
  monkeypatch.setenv('JAXREP_DATA', str(tmp_path / 'place'))
  return tmp_path / 'place'


@pytest.fixture
def tree(tmp_path):
  return tmp_path / 'tree'


def corpus(tree, **options):
  options = {'languages': ('eng',), **options}
  return fleurs.open_corpus(CorpusOptions(source=str(tree), **options))


def prepared(place):
  """What passes for a complete config."""
  return list(place.rglob('1.0.0'))


# The table.


@pytest.mark.parametrize(('columns', 'speaker'), [(7, ''), (8, '1234')])
def test_tables_of_seven_and_eight_columns(tree, columns, speaker):
  rows = [row('1', speaker='1234', gender='MALE')]
  fleurs_tree.write_split(tree, 'en_us', 'test', rows, columns)
  (example,) = corpus(tree).examples('eng', 'speech')
  assert example.speaker == speaker
  (entry,) = fleurs_builder.read_table(tree / TABLE)
  assert entry.gender == 'MALE'


def test_transcriptions_are_taken_as_they_stand(tree):
  texts = [
    '"Quoted" once',
    'an "odd quote',
    'a\u2028line\x85end',
    'ʻokina, “x”',
  ]
  rows = [row(str(i), text=text) for i, text in enumerate(texts)]
  fleurs_tree.write_split(tree, 'en_us', 'test', rows)
  for modality in ('text', 'speech'):
    examples = corpus(tree).examples('eng', modality)
    assert [example.text for example in examples] == texts


@pytest.mark.parametrize(
  'line', ['1\ta.wav\tText', '1\ta.wav\tText\twith\ttabs\tt e x t\t8000\tMALE']
)
def test_a_row_of_another_form_is_named(tree, line):
  fleurs_tree.write_split(tree, 'en_us', 'test', [row('1')])
  with open(tree / TABLE, 'a') as table:
    table.write(f'{line}\n')
  with pytest.raises(InputError, match=r'test\.tsv, line 2'):
    corpus(tree).examples('eng', 'text')


def test_files_outside_the_table_are_counted(tree, place):
  more = {'zz.wav': recording('zz'), '._1.wav': b'resource fork'}
  fleurs_tree.write_split(tree, 'en_us', 'test', [row('1')], more=more)
  assert len(corpus(tree).examples('eng', 'speech')) == 1
  (folder,) = prepared(place)
  assert fleurs_builder.read_metadata(folder)['ignored'] == '2'


def test_a_file_that_is_listed_twice_counts_once(tree, place):
  rows = [row('1', 'a.wav'), row('2', 'a.wav')]
  fleurs_tree.write_split(tree, 'en_us', 'test', rows)
  opened = corpus(tree, on_bad_input='skip')
  assert [x.id for x in opened.examples('eng', 'speech')] == ['1']
  assert 'earlier row' in opened.dropped[0].reason
  (folder,) = prepared(place)
  (record,) = tfds.builder_from_directory(folder).as_data_source('test')
  assert record['id'] == b'1'


# Damaged and hostile archives.


def cut(content, fraction):
  return content[: int(len(content) * fraction)]


def flipped(content):
  middle = len(content) // 2
  return (
    content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
  )


@pytest.mark.parametrize(
  'damage',
  [
    pytest.param(lambda content: cut(content, 0.2), id='early'),
    pytest.param(lambda content: cut(content, 0.7), id='late'),
    pytest.param(lambda content: content[:-9], id='in the last block'),
    pytest.param(lambda content: content[:-4], id='in the checksum'),
    pytest.param(flipped, id='one byte'),
    pytest.param(lambda content: b'version https://git-lfs', id='no archive'),
    pytest.param(lambda content: b'', id='empty'),
  ],
)
def test_a_damaged_archive_leaves_nothing_behind(tree, place, damage):
  fleurs_tree.write_tree(tree, ['en_us'])
  whole = (tree / ARCHIVE).read_bytes()
  (tree / ARCHIVE).write_bytes(damage(whole))
  with pytest.raises(InputError, match=r'test\.tar\.gz.*get it again'):
    corpus(tree).examples('eng', 'speech')
  assert not prepared(place)
  (tree / ARCHIVE).write_bytes(whole)
  assert len(corpus(tree).examples('eng', 'speech')) == 4


def member(name, type=tarfile.REGTYPE, target=''):
  info = tarfile.TarInfo(name)
  info.type, info.linkname = type, target
  return info


@pytest.mark.parametrize(
  'evil',
  [
    member('/tmp/evil.wav'),
    member('../evil.wav'),
    member('test/../../evil.wav'),
    member('test/1.wav', tarfile.SYMTYPE, '/etc/passwd'),
    member('test/1.wav', tarfile.LNKTYPE, '../../evil.wav'),
    member('test/1.wav', tarfile.FIFOTYPE),
  ],
  ids=lambda info: f'{info.name} {info.type.decode()}',
)
def test_an_unsafe_archive_is_refused(tree, place, evil):
  rows = [row('1'), row('2')]
  fleurs_tree.write_table(tree, 'en_us', 'test', rows)
  audio = {'2.wav': recording('2.wav')}
  fleurs_tree.write_archive(tree, 'en_us', 'test', audio, [evil])
  before = set(tree.parent.rglob('*evil*'))
  with pytest.raises(InputError, match='refused') as error:
    corpus(tree, on_bad_input='skip').examples('eng', 'speech')
  assert repr(evil.name) in str(error.value)
  assert not prepared(place)
  assert set(tree.parent.rglob('*evil*')) == before
  assert not pathlib.Path('/tmp/evil.wav').exists()


# The prepared records.


def test_listing_decodes_no_audio(tree, place):
  fleurs_tree.write_tree(tree, ['en_us'])
  before = corpus(tree).examples('eng', 'speech')
  (folder,) = prepared(place)
  (shard,) = folder.glob('*.array_record*')
  shard.unlink()
  opened = corpus(tree)
  assert opened.examples('eng', 'speech') == before
  with pytest.raises(InputError, match='delete that folder'):
    opened.waveform(before[0])


def test_a_changed_tree_is_prepared_anew(tree):
  fleurs_tree.write_split(tree, 'en_us', 'test', [row('1', audio=SILENCE)])
  assert not corpus(tree, on_bad_input='skip').examples('eng', 'speech')
  fleurs_tree.write_split(tree, 'en_us', 'test', [row('1')])
  opened = corpus(tree)
  (example,) = opened.examples('eng', 'speech')
  np.testing.assert_array_equal(opened.waveform(example), tone('1.wav', 0.5))


def test_trees_do_not_share_their_records(tree, place, tmp_path):
  other = tmp_path / 'other'
  for one, file in ((tree, 'a.wav'), (other, 'b.wav')):
    fleurs_tree.write_split(one, 'en_us', 'test', [row('1', file)])
    (example,) = corpus(one).examples('eng', 'speech')
    assert example.audio == f'en_us/test/{file}'
  assert len(prepared(place)) == 2


def test_records_are_a_data_set_of_tfds(tree, place):
  rows = [row('7', speaker='12'), row('8', speaker='13', gender='MALE')]
  fleurs_tree.write_split(tree, 'en_us', 'test', rows, columns=8)
  corpus(tree).examples('eng', 'speech')
  (folder,) = prepared(place)
  builder = tfds.builder_from_directory(folder)
  assert builder.info.splits['test'].num_examples == 2
  # The archive holds the files in reverse.
  record = builder.as_data_source('test')[0]
  assert record['id'] == b'8'
  assert record['file'] == b'8.wav'
  assert record['text'] == b'Sentence 8.'
  assert record['speaker'] == b'13'
  assert record['gender'] == b'MALE'
  np.testing.assert_array_equal(record['audio'], tone('8.wav', 0.5))


def test_a_large_split_is_streamed(tree, monkeypatch):
  # Where tfds's own writer would turn to files, and with them to TensorFlow.
  monkeypatch.setattr(shuffle, 'MAX_MEM_BUFFER_SIZE', 1)
  fleurs_tree.write_tree(tree, ['en_us'])
  assert len(corpus(tree).examples('eng', 'speech')) == 4


# In processes of their own.

LIST = """
import sys, zlib
from jaxrep.data import fleurs
from jaxrep.types import CorpusOptions
source, modality = sys.argv[1:3]
options = CorpusOptions(source, ('eng',), ('test',), 'all')
corpus = fleurs.open_corpus(options)
for example in corpus.examples('eng', modality):
  audio = corpus.waveform(example).tobytes() if example.audio else b''
  print(example.id, example.audio, zlib.crc32(audio))
modules = {'tensorflow', 'torch', 'jax'} & set(sys.modules)
assert not modules, modules
"""


def process(*arguments, code=LIST, **environment):
  cleared = {**os.environ, 'PYTHONPATH': str(ROOT)}
  cleared.pop('HF_HUB_OFFLINE', None)
  return subprocess.Popen(
    [sys.executable, '-c', code, *map(str, arguments)],
    env={**cleared, **{k: str(v) for k, v in environment.items()}},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def output(started):
  out, error = started.communicate(timeout=60)
  assert started.returncode == 0, error
  return out


def expected_lines(sentences=4):
  names = [
    (one, f'{one:03d}{take}.wav')
    for one in range(sentences)
    for take in range(1 if one == sentences - 1 else 2)
  ]
  return [
    f'{one} en_us/test/{file} '
    f'{zlib.crc32(tone(f"en_us {file}", 0.5 * (1 + one / 10)).tobytes())}'
    for one, file in names
  ]


def test_a_download_through_the_hub(tree, tmp_path):
  fleurs_tree.write_tree(tree, ('en_us', 'sw_ke'))
  fleurs_tree.write_tree(tree, ['en_us'], split='train')
  home, mine = tmp_path / 'hf', tmp_path / 'mine'
  with mirror.serve({'datasets/google/fleurs': tree}) as url:
    served = {'HF_ENDPOINT': url, 'HF_HOME': home}
    text = output(process(mine, 'text', **served)).splitlines()
    assert [line.split()[0] for line in text] == list('0123')
    assert downloaded(home) == {TABLE}
    speech = output(process(mine, 'speech', **served)).splitlines()
  assert speech == expected_lines()
  assert downloaded(home) == {TABLE, ARCHIVE}
  # What is prepared needs neither the hub nor its cache.
  shutil.rmtree(home)
  offline = {'HF_HOME': home, 'HF_HUB_OFFLINE': '1'}
  assert output(process(mine, 'speech', **offline)).splitlines() == speech
  assert len(output(process(mine, 'text', **offline)).splitlines()) == 4


def downloaded(home):
  (snapshot,) = (home / 'hub').glob('datasets--google--fleurs/snapshots/*')
  return {
    file.relative_to(snapshot).as_posix()
    for file in snapshot.rglob('*')
    if file.is_file()
  }


def test_what_cannot_be_downloaded_is_named(tree, tmp_path):
  fleurs_tree.write_tree(tree, ['sw_ke'])
  home = {'HF_HOME': tmp_path / 'hf'}
  with mirror.serve({'datasets/google/fleurs': tree}) as url:
    absent = process(tmp_path, 'text', HF_ENDPOINT=url, **home)
    absent.wait(timeout=60)
  offline = process(tmp_path, 'text', HF_HUB_OFFLINE='1', **home)
  for failed, reason in ((absent, '404'), (offline, 'offline mode')):
    _, error = failed.communicate(timeout=60)
    message = error[error.index('jaxrep.types.InputError') :]
    assert failed.returncode == 1
    assert f'Cannot download {TABLE} of google/fleurs' in message
    assert reason in message
    assert '--corpus_source=<' in message


KILL = """
import os, signal, sys
from jaxrep.data import fleurs_builder
name, call = sys.argv[3], int(sys.argv[4])
owner = fleurs_builder if name[0] == '_' else fleurs_builder.tfds.core
alive, calls = getattr(owner, name), 0

def deadly(*arguments, **options):
  global calls
  calls += 1
  if calls == call:
    os.kill(os.getpid(), signal.SIGKILL)
  return alive(*arguments, **options)

setattr(owner, name, deadly)
"""


@pytest.mark.parametrize(
  ('name', 'call'),
  [('_decode', 1), ('_decode', 5), ('_write_index', 1), ('SplitInfo', 1)],
  ids=['first clip', 'later clip', 'before the index', 'after the index'],
)
def test_a_killed_build_passes_for_nothing(tree, place, name, call):
  fleurs_tree.write_tree(tree, ['en_us'])
  killed = process(tree, 'speech', name, call, code=KILL + LIST)
  killed.communicate(timeout=60)
  assert killed.returncode == -signal.SIGKILL
  assert list(place.rglob('incomplete*/*'))
  assert not prepared(place)
  kept = corpus(tree, recordings='all').examples('eng', 'speech')
  assert len(kept) == 7
  assert len(prepared(place)) == 1
  assert not list(place.rglob('incomplete*'))


SLOW = """
import sys, time
from jaxrep.data import fleurs_builder
build, decode = fleurs_builder._build, fleurs_builder._decode

def told_build(*arguments):
  print('building', file=sys.stderr)
  return build(*arguments)

def slow_decode(*arguments):
  time.sleep(0.2)
  return decode(*arguments)

fleurs_builder._build, fleurs_builder._decode = told_build, slow_decode
"""


def test_processes_that_prepare_the_same_wait_for_each_other(tree):
  fleurs_tree.write_tree(tree, ['en_us'])
  both = [process(tree, 'speech', code=SLOW + LIST) for _ in range(2)]
  ends = [started.communicate(timeout=60) for started in both]
  assert [out.splitlines() for out, _ in ends] == [expected_lines()] * 2
  assert sum(error.count('building') for _, error in ends) == 1


def test_a_full_disk_is_named_and_leaves_nothing_behind(tree, place):
  fleurs_tree.write_tree(tree, ['en_us'], seconds=4)
  limit = (
    'import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2**18,) * 2)'
  )
  full = process(tree, 'speech', code=limit + LIST)
  _, error = full.communicate(timeout=60)
  assert full.returncode == 1
  assert 'InputError: Cannot prepare FLEURS en_us.test' in error
  assert 'too large' in error
  assert not prepared(place)
