"""Small files, each whole or not there, on a local disk or in a bucket."""

import contextlib
import uuid

from etils import epath

from jaxrep.types import InputError


def write(path: epath.PathLike, data: bytes | str) -> None:
  """Puts a file in its place, and its folder where there is none.

  A killed process leaves the file that was there before, and at most a `.new`
  beside it, of a name that no other process has.

  Raises:
    InputError: There is no room or no access. What was there before stays.
  """
  path = epath.Path(path)
  remote = '://' in str(path)
  failures = Exception if remote else OSError  # a bucket's library has its own
  data = data.encode() if isinstance(data, str) else data
  new = path.with_name(f'{path.name}.{uuid.uuid4().hex[:8]}.new')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    if remote:  # an object of a bucket is written whole
      path.write_bytes(data)
    else:
      new.write_bytes(data)
      new.replace(path)
  except failures as error:
    with contextlib.suppress(failures):
      new.unlink(missing_ok=True)
    reason = getattr(error, 'strerror', None) or error
    raise InputError(
      f'Cannot write {path} ({reason}). What was finished before stays usable: '
      'make room or grant access, then run the same command again.'
    ) from error
