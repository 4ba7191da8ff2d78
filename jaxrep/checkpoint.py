"""The weights of an encoder and their config, in one place or in several."""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from jaxrep.model_row import Files, Part, Released
from jaxrep.models import row_of
from jaxrep.sources import Folder, Hub, local, open_source
from jaxrep.types import InputError
from ports import checkpoints
from ports.checkpoints import Tensor

CONFIG = 'config.json'
Places = str | Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """Weights in one source.

  `known` is their config as far as it is known without them, or None;
  `embedded` is the key in the file of weights that has it. `released` is the
  file's own name where its maker has one for it; otherwise weights have the
  hub's usual names.
  """

  source: Folder | Hub
  licence: str
  released: str = ''
  known: Mapping[str, Any] | None = None
  embedded: str = ''

  @functools.cached_property
  def file(self) -> str:
    """The file of weights, or the index that names several.

    Raises:
      InputError: Nothing of a known name is there.
    """
    if isinstance(self.source, Folder) and self.source.only:
      return self.source.only
    names = [self.released] if self.released else []
    names += checkpoints.NAMES
    for there in (self.source.here, self.source.has):
      for name in names:
        if there(name):
          return name
    raise InputError(
      f'No checkpoint in {self.source.name}; looked for {", ".join(names)}.'
    )

  @property
  def each(self) -> tuple['Checkpoint', ...]:
    """Itself, as `Joined.each`."""
    return (self,)

  @property
  def title(self) -> str:
    """Where it is, as people say it."""
    own = self.released and self.file == self.released
    return f'{self.source.name}/{self.released}' if own else self.source.name

  @property
  def where(self) -> str:
    """The file of weights, for messages."""
    only = isinstance(self.source, Folder) and self.source.only
    return self.source.name if only else f'{self.source.name}/{self.file}'

  @functools.cached_property
  def config(self) -> Mapping[str, Any] | None:
    """What is said of its sizes, over what is known; None where nothing is."""
    if not self.embedded:
      path = self.source.file(CONFIG)
      found = _json(path) if path else None
      if found is None and self.known is None:
        return None
      return _merged(self.known or {}, found or {})
    path = self.source.here(self.file)
    return self._table(path) if path else self.known

  @functools.cached_property
  def fingerprint(self) -> str:
    """Names the contents of all files of weights; nothing large is fetched."""
    parts = [self.source.identity(name) for name in self._parts()]
    return hashlib.sha256(' '.join(parts).encode()).hexdigest()

  def tensors(self) -> dict[str, Tensor]:
    """The weights, not yet read; tells the licence before a download.

    Raises:
      CheckpointError: A file that cannot be read.
      InputError: A file that cannot be fetched, or is not what was planned.
    """
    path = self.fetch()
    if self.embedded:
      found, planned = self._table(path), self.config
      other = [name for name, x in planned.items() if found.get(name) != x]
      if other:
        raise InputError(
          f'{path}: says otherwise of {", ".join(other)} than was known before '
          'it was downloaded. Run the same command again.'
        )
    return checkpoints.open_checkpoint(path)

  def fetch(self) -> Path:
    """The path for `ports.checkpoints`."""
    for name in self._parts():
      if not self.source.here(name):
        logging.warning(
          'Downloading %s of %s. Licence: %s',
          name,
          self.source.name,
          self.licence,
        )
      if self.source.file(name) is None:
        raise InputError(f'{self.source.name} has no {name} any more.')
    return self.source.file(self.file)

  def _parts(self) -> Iterator[str]:
    """The files that tensors are read from."""
    if self.file not in checkpoints.INDEXES:
      return iter((self.file,))
    index = self.source.file(self.file)
    return iter(sorted(set(checkpoints.weight_map(index).values())))

  def _table(self, path: Path) -> Mapping[str, Any]:
    try:
      return checkpoints.table(path, self.embedded)
    except checkpoints.CheckpointError as error:
      raise InputError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class Joined:
  """Several checkpoints that make one network, by the names of its parts."""

  parts: Mapping[str, Checkpoint]

  @property
  def each(self) -> tuple[Checkpoint, ...]:
    """The checkpoints of its parts."""
    return tuple(self.parts.values())

  @property
  def file(self) -> str:
    return ' + '.join(part.file for part in self.parts.values())

  @property
  def title(self) -> str:
    return ' + '.join(part.title for part in self.parts.values())

  @property
  def where(self) -> str:
    return ', '.join(f'{n} {part.where}' for n, part in self.parts.items())

  @functools.cached_property
  def config(self) -> Mapping[str, Any]:
    """A table of each part's.

    Raises:
      InputError: A part has none.
    """
    found = {name: part.config for name, part in self.parts.items()}
    for name, config in found.items():
      if config is None:
        raise InputError(f'{self.parts[name].source.name} has no {CONFIG}.')
    return found

  @functools.cached_property
  def fingerprint(self) -> str:
    found = ' '.join(part.fingerprint for part in self.parts.values())
    return hashlib.sha256(found.encode()).hexdigest()

  def tensors(self) -> dict[str, Tensor]:
    """Those of all parts, each behind the name of its part."""
    return {
      f'{name}.{key}': tensor
      for name, part in self.parts.items()
      for key, tensor in part.tensors().items()
    }


def open_checkpoint(
  name: str, part: Part, places: Places, released: Released
) -> Checkpoint | Joined:
  """The checkpoint of one modality of a model; no weights are read.

  Args:
    name: The model's, for messages.
    part: Its row.
    places: A folder, a file or a hub id; of a model of several checkpoints a
      folder that holds them all, or each by its name (the other modality's
      may be named too); '' for the released one.
    released: What the row says of a language.

  Raises:
    InputError: Nothing there, or several that could be meant.
  """
  if not part.components:
    if not isinstance(places, str):
      raise InputError(f'{name} has one checkpoint, not {", ".join(places)}.')
    source = open_source(places or part.checkpoint)
    return Checkpoint(
      source, released.licence, released.file, released.sizes, part.embedded
    )
  chosen = {'': places} if isinstance(places, str) else places
  known = row_of(name).components
  if unknown := set(chosen) - {'', *known}:
    raise InputError(
      f'{name} has the checkpoints {", ".join(known)}, not '
      f'{", ".join(sorted(unknown))}.'
    )
  parts = {
    one: _component(name, one, files, chosen)
    for one, files in part.components.items()
  }
  return Joined(parts)


def _component(
  name: str, one: str, files: Files, chosen: Mapping[str, str]
) -> Checkpoint:
  place, folder = chosen.get(one, ''), chosen.get('', '')
  if place or not folder:
    source = open_source(place or files.checkpoint)
  else:
    source = _inside(name, one, files, Path(folder).expanduser())
  return Checkpoint(
    source, files.licence, files.file, files.sizes, files.embedded
  )


def _inside(name: str, one: str, files: Files, folder: Path) -> Folder:
  """The one thing in a folder whose name says what it is."""
  if not folder.is_dir():
    raise InputError(
      f'{folder} is no folder. {name} has several checkpoints: give a folder '
      f'that holds them, or each by its name, as {name}/{one}=<folder>.'
    )
  pattern = re.compile(files.pattern, re.IGNORECASE)
  found = sorted(p for p in folder.iterdir() if pattern.fullmatch(p.name))
  if len(found) == 1:
    return local(found[0])
  several = ', '.join(path.name for path in found) or 'nothing'
  raise InputError(
    f'{folder}: {several} in it could be the {one} of {name} (by name: '
    f'{files.pattern}). Name it: {name}/{one}=<folder, file or hub id>.'
  )


def _json(path: Path) -> Mapping[str, Any]:
  try:
    config = json.loads(path.read_text())
  except (OSError, ValueError, RecursionError) as error:
    raise InputError(f'{path} is not JSON ({error}).') from error
  if not isinstance(config, dict):
    raise InputError(f'{path} holds no fields.')
  return config


def _merged(
  sizes: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
  """`config` over `sizes`, and so on inside of their tables."""
  both = {**sizes, **config}
  for name, inner in sizes.items():
    if isinstance(inner, Mapping) and isinstance(both[name], Mapping):
      both[name] = _merged(inner, both[name])
  return both
