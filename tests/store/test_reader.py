import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxrep import store
from jaxrep.types import Dropped, InputError
from tests.store import entries


def view(workdir, **options) -> store.View:
  return store.open_store(str(workdir)).view(*entries.NAME, **options)


def recorded(*keys: tuple[str, int]) -> list[store.Row]:
  return [
    store.Row(id=id, language='eng', text='', recording=recording)
    for id, recording in keys
  ]


def stored(writer: store.Writer, tap: str) -> np.ndarray:
  units = range(writer.entry.units)
  return np.concatenate([entries.values(writer, unit)[tap] for unit in units])


@pytest.mark.parametrize('dtype', ['float32', 'float16', 'bfloat16'])
def test_what_was_written_is_read(tmp_path, dtype):
  writer = entries.create(tmp_path, entries.rows(10), dtype=dtype)
  entries.write(writer)
  found = view(tmp_path)
  assert found.ids == tuple(f's{i:03d}' for i in range(10))
  assert found.rows == tuple(entries.rows(10))
  assert found.taps == entries.TAPS
  everything = found.read_all()
  assert [*everything] == [name for name, _ in entries.TAPS]
  for tap, values in everything.items():
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, stored(writer, tap))
    np.testing.assert_array_equal(found.read(tap), values)


def test_rows_come_sorted_by_id_without_the_dropped(tmp_path):
  writer = entries.create(
    tmp_path, recorded(('c', 0), ('b', 0), ('d', 0), ('a', 0), ('e', 0))
  )
  entries.write(writer, {2: 'silent', 4: 'no such file'})
  found = view(tmp_path)
  assert found.ids == ('a', 'b', 'c')
  np.testing.assert_array_equal(
    found.read('embed'), stored(writer, 'embed')[[3, 1, 0]]
  )
  assert found.dropped == (
    Dropped('eng', 'speech', 'd', 'silent'),
    Dropped('eng', 'speech', 'e', 'no such file'),
  )


RECORDINGS = (('b', 1), ('a', 0), ('b', 0), ('a', 1), ('c', 2), ('a', 2))


@pytest.mark.parametrize(
  'recordings, picked',
  [
    ('first', [[3], [2], [4]]),
    ('second', [[5], [0]]),
    ('mean', [[3, 5], [2, 0], [4]]),
    ('all', [[3], [5], [2], [0], [4]]),
  ],
)
def test_several_recordings_of_an_id(tmp_path, recordings, picked):
  writer = entries.create(tmp_path, recorded(*RECORDINGS))
  entries.write(writer, {1: 'silent'})
  found = view(tmp_path, recordings=recordings)
  values = stored(writer, 'adaptor').astype(np.float64)
  expected = np.float32([values[rows].mean(0) for rows in picked])
  np.testing.assert_array_equal(found.read('adaptor'), expected)
  np.testing.assert_array_equal(found.read_all()['adaptor'], expected)
  first = [RECORDINGS[rows[0]] for rows in picked]
  assert [(row.id, row.recording) for row in found.rows] == first


def test_recordings_are_averaged_in_float64(tmp_path):
  writer = entries.create(
    tmp_path, recorded(*(('a', i) for i in range(4))), taps=(('embed', 1),)
  )
  values = np.float32([[0], [2**24], [1], [-(2**24)]])
  writer.write_unit(0, {'embed': values})
  mean = view(tmp_path, recordings='mean').read('embed')
  assert mean == 1 / 4


@settings(
  max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_the_order_of_storing_is_not_seen(tmp_path_factory, data):
  keys = data.draw(
    st.lists(
      st.tuples(st.sampled_from('abc'), st.integers(0, 3)),
      min_size=1,
      unique=True,
    )
  )
  order = data.draw(st.permutations(range(len(keys))))
  recordings = data.draw(st.sampled_from(['first', 'second', 'mean', 'all']))
  values = np.arange(len(keys) * 6, dtype=np.float32).reshape(-1, 6) ** 2
  results = []
  for indices in (range(len(keys)), order):
    workdir = tmp_path_factory.mktemp('store')
    writer = entries.create(
      workdir,
      recorded(*(keys[i] for i in indices)),
      taps=(('embed', 6),),
      unit_size=len(keys),
    )
    writer.write_unit(0, {'embed': values[list(indices)]})
    found = view(workdir, recordings=recordings)
    results.append((found.rows, found.read('embed').tolist()))
  assert results[0] == results[1]


def test_reading_one_tap_reads_no_other(tmp_path):
  entries.write(entries.create(tmp_path, entries.rows(10)))
  shard = entries.folder(tmp_path) / 'dim6' / 'c' / '1' / '0' / '0'
  data = bytearray(shard.read_bytes())
  chunk = 4 * 6 * 4 + 4  # a tap's rows of a unit and their checksum
  data[chunk + 8] ^= 1
  shard.write_bytes(data)
  found = view(tmp_path)
  assert found.read('embed').shape == found.read('layer_02').shape == (10, 6)
  for read in (lambda: found.read('layer_01'), found.read_all):
    with pytest.raises(InputError, match=r'Cannot read .*dim6/c/1/0/0'):
      read()


def test_an_incomplete_entry_says_how_to_go_on(tmp_path):
  writer = entries.create(tmp_path, entries.rows(10))
  writer.write_unit(1, entries.values(writer, 1), {5: 'silent'})
  with pytest.raises(InputError, match=r'2 of 3 units remain.*run.py extract'):
    view(tmp_path)
  partial = view(tmp_path, allow_incomplete=True)
  assert partial.ids == ('s004', 's006', 's007')
  np.testing.assert_array_equal(
    partial.read('embed'), entries.values(writer, 1)['embed'][[0, 2, 3]]
  )


def test_a_removed_shard_is_missed(tmp_path):
  entries.write(entries.create(tmp_path, entries.rows(10)))
  (entries.folder(tmp_path) / 'dim10' / 'c' / '2' / '0' / '0').unlink()
  with pytest.raises(InputError, match='1 of 3 units remain'):
    view(tmp_path)


def test_removed_reasons_are_missed(tmp_path):
  entries.write(entries.create(tmp_path, entries.rows(10)), {5: 'silent'})
  (entries.folder(tmp_path) / 'dropped' / '1.json').unlink()
  for recordings in ('first', 'mean'):
    with pytest.raises(InputError, match='lacks values of embed'):
      view(tmp_path, recordings=recordings).read('embed')


@pytest.mark.parametrize('data', [None, b'', b'PAR1'])
def test_damaged_rows_are_named(tmp_path, data):
  entries.write(entries.create(tmp_path, entries.rows(10)))
  path = entries.folder(tmp_path) / 'rows.parquet'
  path.unlink()
  if data is not None:
    path.write_bytes(data)
  with pytest.raises(InputError, match=r'rows\.parquet'):
    view(tmp_path)


def test_what_is_not_there_is_named(tmp_path):
  empty = store.open_store(str(tmp_path))
  assert empty.entries() == ()
  with pytest.raises(InputError, match='There is: nothing'):
    empty.view(*entries.NAME)
  entries.write(entries.create(tmp_path, entries.rows(4)))
  there = store.open_store(str(tmp_path))
  with pytest.raises(InputError, match=r'swh/.*There is: tiny speech eng'):
    there.view('tiny', 'speech', 'swh')
  with pytest.raises(InputError, match=r"no tap 'layer_09'.*layer_02"):
    there.view(*entries.NAME).read('layer_09')


def test_entries_are_listed_complete_or_not(tmp_path):
  definition = {'checkpoint': 'abc'}
  for model, modality, language in (
    ('b', 'text', 'eng'),
    ('a', 'text', 'swh'),
    ('a', 'speech', 'eng'),
  ):
    store.create_or_open(
      str(tmp_path),
      model,
      modality,
      language,
      definition=definition,
      rows=entries.rows(2),
      taps=entries.TAPS,
      unit_size=250,
    )
  found = store.open_store(str(tmp_path)).entries()
  assert [entry.title for entry in found] == [
    'a speech eng',
    'a text swh',
    'b text eng',
  ]
  assert all(entry.definition == definition for entry in found)


def test_a_relative_workdir_is_the_same_place(tmp_path, monkeypatch):
  entries.write(entries.create(tmp_path / 'run', entries.rows(4)))
  monkeypatch.chdir(tmp_path)
  assert len(view('run').ids) == 4


def test_the_store_needs_no_jax():
  code = 'import sys, jaxrep.store; sys.exit("jax" in sys.modules)'
  subprocess.run([sys.executable, '-c', code], check=True)
