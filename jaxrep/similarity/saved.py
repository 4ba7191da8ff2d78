"""Finished tiles of a comparison on disk, so that a killed one goes on.

A tile's file is named by a hash of all that its numbers depend on, so what is
found is never out of date.
"""

import hashlib
import importlib.metadata
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from jaxrep import files

SUM = 16  # bytes behind the arrays, by which they are known to be whole


def digest(*parts: Any) -> str:
  """A name for arrays, strings and whatever has a telling repr."""
  state = hashlib.blake2b(digest_size=16)
  for package in ('jaxrep', 'jax'):
    state.update(importlib.metadata.version(package).encode())
  for part in parts:
    if isinstance(part, np.ndarray):
      state.update(f'{part.dtype}{part.shape}'.encode())
      state.update(np.ascontiguousarray(part).view(np.uint8))
    else:
      state.update(repr(part).encode())
    state.update(b'\0')
  return state.hexdigest()


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
