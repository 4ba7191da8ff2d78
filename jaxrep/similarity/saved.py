"""Finished tiles of a comparison on disk, so that a killed one goes on.

A tile's file is named by a hash of all that its numbers depend on, our own code
among it, so what is found is never out of date.
"""

import hashlib
import importlib.metadata
import io
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from jaxrep import code, files

SUM = 16  # bytes behind the arrays, by which they are known to be whole
_KNOWN: dict[int, tuple[weakref.ref, bytes]] = {}  # by id, while it lives


def digest(*parts: Any) -> str:
  """A name for arrays, strings and whatever has a telling repr."""
  state = hashlib.blake2b(digest_size=16)
  state.update(importlib.metadata.version('jax').encode())
  state.update(code.digest('jaxrep.similarity', 'jaxrep.stats').encode())
  for part in parts:
    if isinstance(part, np.ndarray):
      state.update(_contents(part))
    else:
      state.update(repr(part).encode())
    state.update(b'\0')
  return state.hexdigest()


def _contents(x: np.ndarray) -> bytes:
  """A hash of an array; of one that cannot be written to it is made once."""
  known = _KNOWN.get(id(x))
  if known is not None and known[0]() is x:
    return known[1]
  state = hashlib.blake2b(f'{x.dtype}{x.shape}'.encode(), digest_size=16)
  state.update(np.ascontiguousarray(x).view(np.uint8))
  if x.flags.owndata and not x.flags.writeable:
    _KNOWN[id(x)] = weakref.ref(x, _forgetter(id(x))), state.digest()
  return state.digest()


def _forgetter(key: int) -> Callable[[Any], None]:
  return lambda _: _KNOWN.pop(key, None)


def load(folder: epath.Path, name: str) -> dict[str, np.ndarray] | None:
  """The arrays of a finished tile; None if it is not there, or damaged."""
  path = folder / f'{name}.npz'
  if not path.exists():
    return None
  data = path.read_bytes()
  if _sum(data[:-SUM]) != data[-SUM:]:
    return None
  with np.load(io.BytesIO(data[:-SUM]), allow_pickle=False) as found:
    return dict(found)


def _sum(data: bytes) -> bytes:
  return hashlib.blake2b(data, digest_size=SUM).digest()


def save(
  folder: epath.Path, name: str, arrays: Mapping[str, np.ndarray]
) -> None:
  """Writes a tile; it is there as a whole or not at all."""
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  buffer.write(_sum(buffer.getvalue()))
  files.write(folder / f'{name}.npz', buffer.getvalue())
