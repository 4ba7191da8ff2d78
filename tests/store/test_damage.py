"""Files of a store that were changed behind its back are named."""

import json

import pyarrow.parquet as pq
import pytest

from jaxrep import store
from jaxrep.store import rows as rows_lib
from jaxrep.types import InputError
from tests.store import entries


@pytest.fixture
def folder(tmp_path):
  writer = entries.create(tmp_path, entries.rows(6))
  entries.write(writer, {1: 'is silent'})
  return entries.folder(tmp_path)


def view(folder):
  return store.open_store(str(folder.parents[3])).view(*entries.NAME)


def test_other_rows_than_the_states_are_of(folder):
  rows = entries.rows(6)
  (folder / 'rows.parquet').write_bytes(rows_lib.encode(rows))
  assert len(view(folder).ids) == 5
  rows[2], rows[3] = rows[3], rows[2]
  (folder / 'rows.parquet').write_bytes(rows_lib.encode(rows))
  with pytest.raises(InputError, match=r'rows\.parquet: its rows are not'):
    view(folder)


def test_rows_of_other_columns(folder):
  path = folder / 'rows.parquet'
  table = pq.read_table(path)
  names = [name.replace('recording', 'recor') for name in table.column_names]
  pq.write_table(table.rename_columns(names), path)
  with pytest.raises(InputError, match=r'rows\.parquet: '):
    view(folder)


@pytest.mark.parametrize(
  'text',
  ['{', '[1]', '{"x": "y"}', '{"5": "silent"}', '[' * 100_000, '{"-1": ""}'],
)
def test_reasons_that_cannot_be_read(folder, text):
  (folder / 'dropped' / '0.json').write_text(text)
  with pytest.raises(InputError, match=r'dropped/0\.json cannot be read'):
    view(folder)
  writer = entries.create(folder.parents[3], entries.rows(6))
  (folder / 'complete.json').unlink()
  with pytest.raises(InputError, match=r'dropped/0\.json cannot be read'):
    writer.finish()


@pytest.mark.parametrize('value', [float('nan'), '[' * 100_000])
def test_an_entry_that_python_does_not_read(folder, value):
  path = folder / 'entry.json'
  fields = json.loads(path.read_text())
  text = json.dumps(fields | {'definition': {'x': value}})
  path.write_text(text if isinstance(value, float) else value)
  with pytest.raises(InputError, match=r'entry\.json cannot be read'):
    view(folder)
