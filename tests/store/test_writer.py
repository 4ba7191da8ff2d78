import dataclasses
import json
import re

import numpy as np
import pytest
import zarr

from jaxrep import store
from jaxrep.store import rows as rows_lib
from jaxrep.types import InputError
from tests.store import entries


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_the_public_zarr_library_opens_it(tmp_path, dtype):
  writer = entries.create(tmp_path, entries.rows(10), dtype=dtype)
  writer.write_unit(1, entries.values(writer, 1), {6: 'silent'})
  array = zarr.open_array(entries.folder(tmp_path) / 'dim6', mode='r')
  assert array.shape == (10, 3, 6)
  assert array.dtype == dtype
  assert array.attrs['taps'] == ['embed', 'layer_01', 'layer_02']
  assert array.attrs['key'] == writer.entry.key
  assert array.metadata.dimension_names == ('row', 'tap', 'dim')
  written = entries.values(writer, 1)
  expected = np.full((10, 3, 6), np.nan, np.float32)
  for position, tap in enumerate(array.attrs['taps']):
    expected[4:8, position] = written[tap]
  expected[6] = np.nan
  np.testing.assert_array_equal(array[:], expected)


def test_a_unit_is_one_shard_for_each_width(tmp_path):
  entries.write(entries.create(tmp_path, entries.rows(10)))
  names = {name.split('eng/')[1] for name in entries.contents(tmp_path)}
  assert names == {
    'entry.json',
    'rows.parquet',
    'complete.json',
    *(f'{array}/zarr.json' for array in ('dim6', 'dim10')),
    *(f'{array}/c/{i}/0/0' for array in ('dim6', 'dim10') for i in range(3)),
  }


def test_units_are_runs_of_rows_and_the_last_may_be_short(tmp_path):
  entry = entries.create(tmp_path, entries.rows(10)).entry
  assert entry.units == 3
  runs = [entry.unit_rows(unit) for unit in range(3)]
  assert runs == [range(0, 4), range(4, 8), range(8, 10)]
  with pytest.raises(ValueError, match='units 0 to 2'):
    entry.unit_rows(3)


def test_progress_is_what_all_widths_have(tmp_path):
  writer = entries.create(tmp_path, entries.rows(10))
  assert writer.remaining_units() == [0, 1, 2]
  assert not writer.finish()
  entries.write(writer)
  assert writer.remaining_units() == []
  (entries.folder(tmp_path) / 'dim10' / 'c' / '1' / '0' / '0').unlink()
  assert entries.create(tmp_path, entries.rows(10)).remaining_units() == [1]


def test_complete_says_what_was_dropped(tmp_path):
  writer = entries.create(tmp_path, entries.rows(10))
  entries.write(writer, {2: 'silent', 9: 'corrupt'})
  complete = entries.folder(tmp_path) / 'complete.json'
  assert json.loads(complete.read_text()) == {
    'key': writer.entry.key,
    'rows': 10,
    'dropped': 2,
  }


def test_a_unit_of_dropped_rows_only_is_done(tmp_path):
  writer = entries.create(tmp_path, entries.rows(10))
  writer.write_unit(
    1, entries.values(writer, 1), dict.fromkeys(range(4, 8), 'silent')
  )
  assert not any('/c/' in name for name in entries.contents(tmp_path))
  assert writer.remaining_units() == [0, 2]
  entries.write(writer)


def test_a_row_that_is_no_longer_dropped_counts(tmp_path):
  writer = entries.create(tmp_path, entries.rows(4))
  everything = dict.fromkeys(range(4), 'no such file')
  writer.write_unit(0, entries.values(writer, 0), everything)
  assert writer.remaining_units() == []
  writer.write_unit(0, entries.values(writer, 0))
  view = store.open_store(str(tmp_path)).view(*entries.NAME)
  assert len(view.ids) == 4
  assert view.dropped == ()


def test_another_definition_is_refused_and_named(tmp_path):
  made_by = {'checkpoint': {'sha256': 'a' * 64, 'dtype': 'float32'}, 'seed': 1}
  entries.create(tmp_path, entries.rows(4), definition=made_by)
  before = entries.contents(tmp_path)
  other = {'checkpoint': {'sha256': 'b' * 64, 'dtype': 'float32'}, 'grid': 16}
  with pytest.raises(InputError) as error:
    entries.create(tmp_path, entries.rows(5), definition=other)
  message = str(error.value)
  assert str(entries.folder(tmp_path)) in message
  assert re.search(r'definition\.checkpoint\.sha256: "a+… .* → "b+…', message)
  assert 'definition.grid: null → 16' in message
  assert 'definition.seed: 1 → null' in message
  assert 'rows: 4 → 5' in message
  assert 'dtype' not in message
  assert '--workdir' in message and 'delete that folder' in message
  assert entries.contents(tmp_path) == before


def test_the_order_of_fields_and_of_kinds_of_list_is_no_definition(tmp_path):
  entries.create(tmp_path, entries.rows(4), definition={'a': (1, 2), 'b': 'ü'})
  entries.create(tmp_path, entries.rows(4), definition={'b': 'ü', 'a': [1, 2]})


@pytest.mark.parametrize(
  'change',
  [
    {'taps': entries.TAPS[::-1]},
    {'taps': entries.TAPS[:-1]},
    {'unit_size': 3},
    {'dtype': 'float16'},
    {'some_rows': entries.rows(4)[::-1]},
    {'definition': {'seed': 2}},
  ],
)
def test_everything_that_makes_the_data_is_in_the_key(tmp_path, change):
  given = {'some_rows': entries.rows(4), 'definition': {'seed': 1}}
  entries.create(tmp_path, **given)
  with pytest.raises(InputError, match='another definition'):
    entries.create(tmp_path, **(given | change))


def test_arrays_of_another_definition_are_not_taken_over(tmp_path):
  entries.create(tmp_path, entries.rows(4), definition={'seed': 1})
  (entries.folder(tmp_path) / 'entry.json').unlink()
  with pytest.raises(InputError, match='delete that folder'):
    entries.create(tmp_path, entries.rows(4), definition={'seed': 2})


@pytest.mark.parametrize('text', ['', '{}', '[]', '{"format": 1', 'null'])
def test_a_damaged_entry_is_named(tmp_path, text):
  entries.create(tmp_path, entries.rows(4))
  path = entries.folder(tmp_path) / 'entry.json'
  path.write_text(text)
  with pytest.raises(InputError, match=r'entry\.json cannot be read'):
    entries.create(tmp_path, entries.rows(4))


def test_an_edited_entry_is_refused(tmp_path):
  entries.create(tmp_path, entries.rows(4), definition={'seed': 1})
  path = entries.folder(tmp_path) / 'entry.json'
  path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
  with pytest.raises(InputError, match='was edited'):
    entries.create(tmp_path, entries.rows(4), definition={'seed': 2})


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named_and_not_written(tmp_path, bad):
  writer = entries.create(tmp_path, entries.rows(10))
  some = entries.values(writer, 1)
  some['layer_02'][2, 3] = bad
  with pytest.raises(InputError) as error:
    writer.write_unit(1, some, {5: 'silent'})
  for name in ('tiny', 'speech', 'eng', 'layer_02', "'s006'"):
    assert name in str(error.value)
  assert writer.remaining_units() == [0, 1, 2]
  writer.write_unit(1, some, {6: 'not finite'})
  assert writer.remaining_units() == [0, 2]


def test_a_value_beyond_float16_is_named(tmp_path):
  writer = entries.create(tmp_path, entries.rows(4), dtype='float16')
  some = entries.values(writer, 0)
  some['adaptor'][1, 0] = 1e5
  with pytest.raises(InputError, match=r"adaptor .*'s001'.* float16"):
    writer.write_unit(0, some)


def test_what_does_not_fit_the_entry_is_refused(tmp_path):
  writer = entries.create(tmp_path, entries.rows(10))
  whole = entries.values(writer, 0)
  with pytest.raises(ValueError, match='other taps'):
    writer.write_unit(0, {'embed': whole['embed']})
  with pytest.raises(ValueError, match='shape'):
    writer.write_unit(2, whole)
  with pytest.raises(ValueError, match='only the rows'):
    writer.write_unit(0, whole, {4: 'silent'})


def test_no_rows_and_doubled_rows_are_refused(tmp_path):
  with pytest.raises(InputError, match='no example'):
    entries.create(tmp_path, [])
  with pytest.raises(InputError, match="'s000' has two"):
    entries.create(tmp_path, [*entries.rows(2), *entries.rows(1)])


@pytest.mark.parametrize('name', ['', '..', 'org/model'])
def test_a_name_that_is_no_folder_is_refused(tmp_path, name):
  with pytest.raises(ValueError, match='name of a folder'):
    store.open_store(str(tmp_path)).view(name, 'speech', 'eng')


def recorded(checksums):
  rows = entries.rows(8)
  return [
    dataclasses.replace(row, checksum=checksum)
    for row, checksum in zip(rows, checksums, strict=True)
  ]


def test_a_recording_may_change_until_it_is_read(tmp_path):
  writer = entries.create(tmp_path, recorded('abcdefgh'))
  writer.write_unit(0, entries.values(writer, 0), {2: 'damaged'})
  # The third could not be read, and the second unit was not come to.
  entries.write(entries.create(tmp_path, recorded('abXdefgX')))
  path = entries.folder(tmp_path) / 'rows.parquet'
  kept = rows_lib.decode(path.read_bytes())
  assert ''.join(row.checksum for row in kept) == 'abXdefgX'
  with pytest.raises(InputError, match=r"id 's001'.*was changed"):
    entries.create(tmp_path, recorded('aXXdefgX'))
  assert rows_lib.decode(path.read_bytes()) == kept


@pytest.mark.parametrize('place', [8, 40, -40, -1])
def test_damaged_rows_are_written_again(tmp_path, place):
  entries.write(entries.create(tmp_path, recorded('abcdefgh')))
  before = entries.contents(tmp_path)
  path = entries.folder(tmp_path) / 'rows.parquet'
  data = bytearray(path.read_bytes())
  data[place] ^= 0xFF
  path.write_bytes(data)
  entries.create(tmp_path, recorded('abcdefgh'))
  assert entries.contents(tmp_path) == before
