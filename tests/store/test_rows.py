import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrep.store import rows as rows_lib
from jaxrep.store.rows import Row

int32 = st.integers(-(2**31), 2**31 - 1)
fields = st.fixed_dictionaries(
  {
    'id': st.text(),
    'language': st.text(),
    'text': st.text(),
    'recording': st.integers(0, 9),
    'speaker': st.text(),
    'split': st.text(),
    'samples': st.integers(0, 2**40),
    'length': st.integers(0, 2**40),
    'token_ids': st.none() | st.lists(int32, max_size=5).map(tuple),
    'checksum': st.text(),
  }
)


@given(st.lists(fields, max_size=5))
def test_rows_survive_the_file(records):
  rows = tuple(Row(**record) for record in records)
  assert rows_lib.decode(rows_lib.encode(rows)) == rows


@pytest.mark.parametrize('field', dataclasses.fields(Row), ids=lambda f: f.name)
def test_the_digest_covers_every_field_but_the_checksum(field):
  row = Row(id='1', language='eng', text='one', token_ids=(1, 2))
  other = {str: 'x', int: 7}.get(field.type, (1, 2, 3))
  changed = dataclasses.replace(row, **{field.name: other})
  same = rows_lib.digest([row]) == rows_lib.digest([changed])
  assert same == (field.name == 'checksum')


def test_the_digest_covers_the_order():
  rows = [Row(id=id, language='eng', text='') for id in 'ab']
  assert rows_lib.digest(rows) != rows_lib.digest(rows[::-1])
