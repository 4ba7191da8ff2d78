"""A name for our own code, for what is kept from one version to the next."""

import functools
import hashlib
import importlib.util
import pathlib


@functools.cache
def digest(*packages: str) -> str:
  """Of all sources of these packages, as 'jaxrep.stats'."""
  hashed = hashlib.sha256()
  for package in packages:
    (folder,) = importlib.util.find_spec(package).submodule_search_locations
    for path in sorted(pathlib.Path(folder).rglob('*.py')):
      hashed.update(path.relative_to(folder).as_posix().encode() + b'\0')
      hashed.update(path.read_bytes())
  return hashed.hexdigest()
