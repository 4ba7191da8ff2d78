"""Files, each whole or not there, on a local disk or in a bucket."""

import contextlib
import io
import uuid
from collections.abc import Iterator
from typing import BinaryIO

from etils import epath

from jaxrep.types import InputError


def write(path: epath.PathLike, data: bytes | str) -> None:
  """`replacing`, with what is at hand."""
  with replacing(path) as file:
    file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replacing(path: epath.PathLike) -> Iterator[BinaryIO]:
  """A file to write, which is put in its place when all is written.

  Its folder is made where there is none. A killed process leaves the file that
  was there before, and at most a `.new` beside it, of a name that no other
  process has. What goes to a bucket is held in memory until then.

  Raises:
    InputError: There is no room or no access. What was there before stays.
  """
  path = epath.Path(path)
  if '://' in str(path):
    buffer = io.BytesIO()
    yield buffer
    with _told(path, Exception):  # a bucket's library has errors of its own
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(buffer.getbuffer())
    return
  new = path.with_name(f'{path.name}.{uuid.uuid4().hex[:8]}.new')
  with _told(path, OSError):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      with new.open('wb') as file:
        yield file
      new.replace(path)
    finally:
      new.unlink(missing_ok=True)


@contextlib.contextmanager
def _told(path: epath.Path, failures: type[Exception]) -> Iterator[None]:
  try:
    yield
  except failures as error:
    reason = getattr(error, 'strerror', None) or error
    raise InputError(
      f'Cannot write {path} ({reason}). What was finished before stays usable: '
      'make room or grant access, then run the same command again.'
    ) from error
