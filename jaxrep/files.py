"""Small files that are there as a whole or not at all."""

import uuid

from etils import epath


def write_whole(path: epath.PathLike, data: bytes | str) -> None:
  """Writes under a name of its own and renames, whoever else writes it too."""
  path = epath.Path(path)
  new = path.parent / f'{path.name}.{uuid.uuid4().hex[:8]}.new'
  new.write_bytes(data.encode() if isinstance(data, str) else data)
  new.replace(path)
