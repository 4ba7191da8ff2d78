"""Damage that `benchmarks.fuzz` found to be told badly: a message a file."""

import json
import struct
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from jaxrep.data import fleurs, fleurs_builder, manifest, waveform
from jaxrep.types import CorpusOptions, InputError
from tests.data import fleurs_tree

INDEX = 'fleurs/en_us.test/1.0.0/index.parquet'


def pax(**fields):
  member = tarfile.TarInfo('test/x.wav')
  member.pax_headers = fields
  return member


def sized(size, kind=tarfile.REGTYPE):
  member = tarfile.TarInfo('test/x.wav')
  member.size, member.type = size, kind
  return member


@pytest.mark.parametrize(
  'member',
  [
    pax(**{'GNU.sparse.size': '9x9', 'GNU.sparse.map': '0,1'}),
    sized(1 << 40),
    sized(0, tarfile.GNUTYPE_SPARSE),
  ],
  ids=['number', 'size', 'sparse'],
)
def test_a_member_that_lies_is_refused(tmp_path, member):
  path = fleurs_tree.write_archive(tmp_path, 'en_us', 'test', {}, [member])
  with pytest.raises(InputError, match=r'test\.tar\.gz'):
    list(fleurs_builder._members(path))


@pytest.fixture
def prepared(tmp_path, monkeypatch):
  """A folder of records, without the raw files that they were made of."""
  monkeypatch.setenv('JAXREP_DATA', str(tmp_path / 'made'))
  tree = fleurs_tree.write_tree(tmp_path / 'tree', ['en_us'])
  options = CorpusOptions(source=str(tree), languages=('eng',))
  fleurs.open_corpus(options).examples('eng', 'speech')
  (place,) = (tmp_path / 'made').glob('tree-*')
  return place


def recordings(place):
  options = CorpusOptions(source=str(place), languages=('eng',))
  corpus = fleurs.open_corpus(options)
  found = corpus.examples('eng', 'speech')
  return [corpus.waveform(example) for example in found]


def test_an_index_that_is_damaged_is_named(prepared):
  path = prepared / INDEX
  data = bytearray(path.read_bytes())
  data[40] ^= 255  # of a page, whose checksum is wrong then
  path.write_bytes(data)
  with pytest.raises(InputError, match=r'index\.parquet cannot be read'):
    recordings(prepared)


def test_an_index_of_other_columns_is_named(prepared):
  path = prepared / INDEX
  metadata = pq.read_schema(path).metadata
  table = pa.table({'id': ['1']}).replace_schema_metadata(metadata)
  pq.write_table(table, path)
  with pytest.raises(InputError, match=r'index\.parquet cannot be read'):
    recordings(prepared)


def test_a_place_of_another_recording_is_told(prepared):
  path = prepared / INDEX
  table = pq.read_table(path)
  rows = table.to_pylist()
  for row in rows:
    row['position'] = len(rows) - 1 - row['position']
  pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
  with pytest.raises(InputError, match='cannot be read from'):
    recordings(prepared)


def test_what_descriptions_of_records_say_is_not_trusted(prepared):
  """A class that they name would be imported."""
  expected = recordings(prepared)
  for name in ('features.json', 'dataset_info.json'):
    path = (prepared / INDEX).with_name(name)
    path.write_text(json.dumps({'pythonClassName': 'antigravity.Text'}))
  for found, one in zip(recordings(prepared), expected, strict=True):
    np.testing.assert_array_equal(found, one)


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('samples', '9' * 5000, 'a whole number below'),
    ('samples', 10**9, 'a whole number below'),
    ('audio', 'a' * 5000, 'no such audio file'),
    ('audio', 'a\0b', 'no such audio file'),
    ('id', '\ud800', 'half of a character'),
    ('text', '\udc00', 'half of a character'),
  ],
)
def test_a_value_of_a_manifest_is_refused_with_its_line(
  tmp_path, field, value, message
):
  row = {'id': '1', 'language': 'eng', 'text': 'a', 'audio': 'a.wav'}
  path = tmp_path / 'm.jsonl'
  path.write_text(json.dumps(row | {field: value}) + '\n')
  with pytest.raises(InputError, match=message) as error:
    corpus = manifest.open_corpus(CorpusOptions(source=str(path)))
    corpus.examples('eng', 'speech')
  assert f'{path}:1' in str(error.value)
  str(error.value).encode()


@pytest.mark.parametrize('line', ['[' * 100_000, '{"id": ' + '9' * 5000 + '}'])
def test_json_that_python_does_not_read_is_refused(tmp_path, line):
  path = tmp_path / 'm.jsonl'
  path.write_text(line + '\n')
  with pytest.raises(InputError, match=r'm\.jsonl:1: is not JSON'):
    manifest.open_corpus(CorpusOptions(source=str(path)))


def test_a_length_that_no_memory_holds_takes_none(tmp_path):
  """FLAC's header has room for 2³⁶ samples; the file has 4000."""
  path = tmp_path / 'a.flac'
  soundfile.write(path, fleurs_tree.tone('x', 0.25), 16_000)
  data = bytearray(path.read_bytes())
  (bits,) = struct.unpack_from('>Q', data, 18)
  data[18:26] = struct.pack('>Q', bits | (1 << 36) - 1)
  path.write_bytes(data)
  with pytest.raises(InputError, match=r'a\.flac: '):
    waveform.read(path)


@pytest.mark.parametrize('rate', [1, 2**31 - 1])
def test_a_rate_that_no_speech_has_is_refused(tmp_path, rate):
  path = tmp_path / 'a.wav'
  soundfile.write(path, fleurs_tree.tone('x', 0.25), 16_000)
  data = bytearray(path.read_bytes())
  data[24:28] = struct.pack('<I', rate)
  path.write_bytes(data)
  for call in (waveform.read, waveform.probe):
    with pytest.raises(InputError, match=rf'a\.wav: claims {rate} samples'):
      call(path)
