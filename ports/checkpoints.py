"""Checkpoint files as lazy tensors, without torch and without running code.

Three layouts: safetensors, several files with an index that names them, and
the zip files of torch.save. Nothing is read before `Tensor.read`, which maps
the tensor's bytes alone.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ports.tensors import (
  CheckpointError,
  File,
  Tensor,
  check_shape,
  is_count,
  shown,
  unreadable,
)
from ports.torchfile import open_torch

INDEXES = ('model.safetensors.index.json', 'pytorch_model.bin.index.json')
FILES = ('model.safetensors', 'pytorch_model.bin', 'checkpoint.pt')
SAFETENSORS_DTYPES = {
  'F64': np.float64,
  'F32': np.float32,
  'F16': np.float16,
  'BF16': ml_dtypes.bfloat16,
  'I64': np.int64,
  'I32': np.int32,
  'I16': np.int16,
  'I8': np.int8,
  'U8': np.uint8,
  'BOOL': np.bool_,
}
MAX_HEADER = 100_000_000  # the format's own limit


def open_checkpoint(path: str | Path) -> dict[str, Tensor]:
  """Lazy tensors by key.

  Args:
    path: A file, or a folder that holds an index, `model.safetensors`,
      `pytorch_model.bin`, or `checkpoint.pt`.

  Raises:
    CheckpointError: Nothing there, a damaged file, or a file that would need
      code of its own to run.
  """
  path = Path(path)
  try:
    return _open(path)
  except OSError as error:
    raise unreadable(path, error) from error


def _open(path: Path) -> dict[str, Tensor]:
  if not path.exists():
    raise CheckpointError(f'{path}: no such checkpoint.')
  if path.is_file():
    return _open_index(path) if path.name in INDEXES else _open_file(path)
  for name in INDEXES:
    if (path / name).exists():
      return _open_index(path / name)
  for name in FILES:
    if (path / name).exists():
      return _open_file(path / name)
  raise CheckpointError(
    f'{path}: no checkpoint in this folder; looked for '
    f'{", ".join((*INDEXES, *FILES))}.'
  )


def _open_file(path: Path) -> dict[str, Tensor]:
  if path.suffix == '.safetensors':
    tensors = open_safetensors(path)
  else:
    tensors = state_dict(open_torch(path), path)
  if not all(type(key) is str and key.isprintable() for key in tensors):
    raise CheckpointError(f'{path}: holds tensors without a proper name.')
  return tensors


def weight_map(index: Path) -> dict[str, str]:
  """Tensor → the file beside the index that holds it."""
  try:
    names = json.loads(index.read_bytes().decode())['weight_map']
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    raise CheckpointError(f'{index}: not an index of shards.') from error
  if type(names) is not dict or {type(n) for n in names.values()} - {str}:
    raise CheckpointError(f'{index}: not an index of shards.')
  for name in set(names.values()):
    if (index.parent / name).parent != index.parent:
      raise CheckpointError(
        f'{index}: {shown(name)!r} lies outside its folder.'
      )
  return names


def _open_index(index: Path) -> dict[str, Tensor]:
  files_of = weight_map(index)
  shards = {}
  for name in sorted(set(files_of.values())):
    shard = index.parent / name
    if not shard.is_file():
      raise CheckpointError(
        f'{index.parent / shown(name)}: {index.name} names this shard, but it'
        ' is not there; download it again.'
      )
    shards[name] = _open_file(shard)
  absent = [shown(k) for k, n in files_of.items() if k not in shards[n]]
  if absent:
    raise CheckpointError(
      f'{index}: names tensors that its shards lack: {", ".join(absent)}.'
    )
  return {key: shards[name][key] for key, name in files_of.items()}


def open_safetensors(path: Path) -> dict[str, Tensor]:
  """Reads the header; every tensor's bytes must lie inside the file."""
  file = File.of(path)
  try:
    start, header = _safe_header(file)
    return {k: _safe_tensor(file, start, k, e) for k, e in header.items()}
  except CheckpointError:
    raise
  except (ValueError, RecursionError) as error:
    raise CheckpointError(
      f'{path}: not a whole safetensors file ({str(error)[:200]}); download it'
      ' again.'
    ) from error


def _safe_header(file: File) -> tuple[int, dict[str, Any]]:
  """Where the tensors begin, and what the header says of each."""
  if file.size < 8:
    raise ValueError('it has no header')
  (length,) = struct.unpack('<Q', file.read(0, 8))
  if length > file.size - 8:
    raise ValueError('the header is longer than the file')
  if length > MAX_HEADER:
    raise ValueError('the header is longer than the format allows')
  text = file.read(8, length).decode()
  header = json.loads(text, object_pairs_hook=_unique)
  if type(header) is not dict:
    raise ValueError('the header is not a mapping')
  header.pop('__metadata__', None)
  return 8 + length, header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) != len(pairs):
    raise ValueError('the header has two entries of one name')
  return found


def _safe_tensor(file: File, start: int, key: str, entry: Any) -> Tensor:
  fields = ('dtype', 'shape', 'data_offsets')
  if type(entry) is not dict or any(field not in entry for field in fields):
    raise ValueError(f'{shown(key)} lacks a type, a shape or a place')
  kind, shape, offsets = (entry[field] for field in fields)
  if type(kind) is not str or kind not in SAFETENSORS_DTYPES:
    raise ValueError(f'{shown(key)} has a type that is not read here')
  if type(shape) is not list or type(offsets) is not list:
    raise ValueError(f'{shown(key)} lacks a shape or a place')
  dtype = np.dtype(SAFETENSORS_DTYPES[kind])
  count = check_shape(tuple(shape), dtype, shown(key))
  if len(offsets) != 2 or not all(map(is_count, offsets)):
    raise ValueError(f'{shown(key)} is at no place')
  begin, end = offsets
  if not begin <= end <= file.size - start:
    raise ValueError(f'{shown(key)} ends behind the file')
  if end - begin != count * dtype.itemsize:
    raise ValueError(
      f'{shown(key)} has {end - begin} bytes for {count} numbers'
    )

  def read() -> np.ndarray:
    return file.map(dtype, start + begin, count).reshape(shape)

  return Tensor(tuple(shape), dtype, read)


def state_dict(tree: Any, path: Path) -> dict[str, Tensor]:
  """The tensors under 'model', or at the top where there is no 'model'."""
  if isinstance(tree, Mapping) and isinstance(tree.get('model'), Mapping):
    tree = tree['model']
  if not isinstance(tree, Mapping):
    raise CheckpointError(f'{path}: holds no mapping of names to tensors.')
  tensors = {k: v for k, v in tree.items() if isinstance(v, Tensor)}
  if not tensors:
    raise CheckpointError(f'{path}: holds no tensors.')
  return tensors
