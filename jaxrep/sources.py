"""Where a model's files are: in a folder, in the package, or on the hub.

A hub's files are fetched one by one when they are first needed, so that a run
can be planned before gigabytes are downloaded for it.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Protocol, runtime_checkable

from absl import logging

from jaxrep.types import InputError
from ports import checkpoints

_EVERYWHERE = '.gitattributes'  # of no use to a model, and in each repository
_SMALL = ('.json', '.model')
BUNDLED = Path(__file__).parent / 'data' / 'bundled'


@runtime_checkable
class Source(Protocol):
  """Files by name; `name` is what people call the place."""

  name: str

  def file(self, name: str) -> Path | None:
    """A file's path, fetched if need be; None where there is none."""
    ...

  def here(self, name: str) -> Path | None:
    """As `file`, of what need not be fetched."""
    ...

  def has(self, name: str) -> bool: ...

  def identity(self, name: str) -> str:
    """Names the contents of a file that is there, without fetching it."""
    ...


@dataclasses.dataclass(frozen=True)
class Folder:
  """A folder; `only` is the one file of weights that was asked for."""

  name: str
  path: Path
  only: str = ''

  def file(self, name: str) -> Path | None:
    path = self.path / name
    return path if path.is_file() else None

  def here(self, name: str) -> Path | None:
    return self.file(name)

  def has(self, name: str) -> bool:
    return self.file(name) is not None

  def identity(self, name: str) -> str:
    return contents(self.path / name)


@dataclasses.dataclass(frozen=True)
class Hub:
  """A repository of the Hugging Face hub, through its own cache.

  HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE act as in huggingface_hub.
  """

  name: str

  def file(self, name: str) -> Path | None:
    import huggingface_hub
    from huggingface_hub.errors import HTTPError, RemoteEntryNotFoundError

    try:
      return Path(huggingface_hub.hf_hub_download(self.name, name))
    except RemoteEntryNotFoundError:
      return None
    except (HTTPError, OSError) as error:
      if self._lacking(name):
        return None
      raise self._unreachable(name, error) from error

  def _lacking(self, name: str) -> bool:
    """Whether a file is known not to be there, when there is no network.

    The cache notes what was asked for in vain. A repository that was downloaded
    as a whole has no such notes: there what is small and missing is not in it.
    """
    import huggingface_hub

    known = huggingface_hub.try_to_load_from_cache(self.name, name)
    if known is not None:
      return not isinstance(known, str)
    if Path(name).suffix not in _SMALL:
      return False
    whole = self.here(_EVERYWHERE) is not None
    if whole:
      logging.log_first_n(
        logging.WARNING,
        'No network: what the downloaded %s lacks is taken to be nowhere.',
        *(1, self.name),
      )
    return whole

  def here(self, name: str) -> Path | None:
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(self.name, name)
    return Path(found) if isinstance(found, str) else None

  def has(self, name: str) -> bool:
    return self._etag(name) is not None

  def identity(self, name: str) -> str:
    """The hub's own name of the contents, which its cache keeps as well."""
    return str(self._etag(name))

  def _etag(self, name: str) -> str | None:
    import huggingface_hub
    from huggingface_hub.errors import HTTPError, RemoteEntryNotFoundError

    if path := self.here(name):
      return contents(path)
    url = huggingface_hub.hf_hub_url(self.name, name)
    try:
      return huggingface_hub.get_hf_file_metadata(url).etag
    except RemoteEntryNotFoundError:
      return None
    except (HTTPError, OSError) as error:
      if self._lacking(name):
        return None
      raise self._unreachable(name, error) from error

  def _unreachable(self, name: str, error: Exception) -> InputError:
    reason = str(error.__cause__ or error).split('\n', 1)[0]
    return InputError(
      f'Cannot download {name} of {self.name} ({reason}). Check the network '
      'and HF_ENDPOINT, or give a downloaded folder: '
      '--checkpoints=<model>=<folder>.'
    )


def open_source(place: str) -> Folder | Hub:
  """What a folder, a file, 'bundled:<folder>' or the id of a repository means.

  Raises:
    InputError: Neither a path nor a repository's id.
  """
  if place.startswith('bundled:'):
    return Folder(place, BUNDLED / place.removeprefix('bundled:'))
  path = Path(place).expanduser()
  if path.exists():
    return local(path)
  if place.count('/') != 1 or not _is_repository(place):
    raise InputError(
      f'--checkpoints: {place} is neither a path nor the id of a '
      'repository on the hub (owner/name).'
    )
  return Hub(place)


def _is_repository(place: str) -> bool:
  from huggingface_hub.utils import HFValidationError, validate_repo_id

  try:
    validate_repo_id(place)
  except HFValidationError:
    return False
  return True


def local(path: Path) -> Folder:
  """A folder, or the folder of a file, of which it is the weights."""
  if path.is_dir():
    return Folder(str(path), path)
  return Folder(str(path), path.parent, path.name)


def contents(path: Path) -> str:
  """Names a file's contents: as the hub does, by sums in it, or by SHA-256.

  A link in the hub's cache points at a blob that is named by its contents. The
  sums that a torch file keeps of its parts spare reading gigabytes of what a
  training left behind.
  """
  link = path
  while link.is_symlink():  # a blob may itself be a link into a shared store
    link = link.parent / link.readlink()
    if link.parent.name == 'blobs':
      return link.name
  status = path.stat()
  return _contents(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _contents(path: Path, size: int, modified: int) -> str:
  if found := checkpoints.fingerprint(path):
    return found
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
