"""safetensors files as lazy tensors."""

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ports.checkpoints.tensors import (
  CheckpointError,
  File,
  Tensor,
  check_shape,
  is_count,
  shown,
)

DTYPES = {
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
  if type(kind) is not str or kind not in DTYPES:
    raise ValueError(f'{shown(key)} has a type that is not read here')
  if type(shape) is not list or type(offsets) is not list:
    raise ValueError(f'{shown(key)} lacks a shape or a place')
  dtype = np.dtype(DTYPES[kind])
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
