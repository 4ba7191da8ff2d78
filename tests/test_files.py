"""Files that are whole or not there, on disks that have no room."""

import pyarrow as pa
import pytest
from etils import epath

from jaxrep import files
from jaxrep.report import tables
from jaxrep.types import InputError
from tests import disk


def test_a_file_and_its_folder_are_made(tmp_path):
  path = tmp_path / 'a' / 'b.txt'
  files.write(path, b'old')
  files.write(path, 'ü\n')
  assert path.read_bytes() == 'ü\n'.encode()
  assert [*path.parent.iterdir()] == [path]


def test_no_room_is_one_error_and_what_was_there_stays(tmp_path):
  with disk.mounted(tmp_path / 'disk', 100) as small:
    path = small.path / 'run' / 'scores.parquet'
    files.write(path, b'old')
    for data in (b'x' * 200_000, b'x' * 90_000):
      with pytest.raises(
        InputError, match=rf'{path} \(No space left.*make room'
      ):
        small.fill(64)
        files.write(path, data)
      assert path.read_bytes() == b'old'
      assert [*path.parent.iterdir()] == [path]
    small.resize(400)
    files.write(path, b'x' * 200_000)
    assert path.read_bytes() == b'x' * 200_000


def test_what_is_written_piece_by_piece_is_whole_or_not_there(tmp_path):
  with disk.mounted(tmp_path / 'disk', 100) as small:
    path = epath.Path(small.path / 'scores.csv')
    table = pa.table({'score': [0.123456789] * 3000})
    files.write(path, b'old')
    small.fill(64)
    with pytest.raises(InputError, match=rf'{path} \(No space left'):
      tables.write_csv(pa.concat_tables([table] * 9), path)
    assert path.read_bytes() == b'old'
    with pytest.raises(ZeroDivisionError), files.replacing(path) as file:
      file.write(b'half')
      raise ZeroDivisionError
    assert path.read_bytes() == b'old'
    assert [*path.parent.glob('scores*')] == [path]
    tables.write_csv(table[:3], path)
    assert path.read_text() == '"score"\n' + '0.123456789\n' * 3


def test_no_access_is_one_error(tmp_path):
  with disk.mounted(tmp_path / 'disk', 100) as small:
    path = small.path / 'plan.json'
    with (
      small.read_only(),
      pytest.raises(InputError, match=rf'{path} \(Read-only.*grant access'),
    ):
      files.write(path, b'x')
    files.write(path, b'x')


def test_a_file_in_the_way_is_named(tmp_path):
  (tmp_path / 'a').touch()
  with pytest.raises(InputError, match='a/b'):
    files.write(tmp_path / 'a' / 'b', b'x')
