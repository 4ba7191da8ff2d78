"""Zip files of torch.save as lazy tensors, without torch.

Such a file is an archive of one pickle, `data.pkl`, that describes the saved
object, and under `data/` one member for each storage, of which tensors are
views. Opening reads the archive's directory and the pickle. A storage is read
when a tensor of it is, and its checksum compared then, once: two thirds of a
training checkpoint are its optimizer's, which nobody asks for.
"""

import functools
import hashlib
import struct
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ports.checkpoints.archive import Member, members
from ports.checkpoints.pickles import INERT, Call, Machine, is_harmless
from ports.checkpoints.tensors import (
  CheckpointError,
  File,
  Tensor,
  check_shape,
  is_count,
  shown,
)

STORAGES = {
  'DoubleStorage': np.float64,
  'FloatStorage': np.float32,
  'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'ShortStorage': np.int16,
  'CharStorage': np.int8,
  'ByteStorage': np.uint8,
  'BoolStorage': np.bool_,
  'ComplexFloatStorage': np.complex64,
  'ComplexDoubleStorage': np.complex128,
}
# A quarter of a million tensors. A hostile pickle of this size takes half a
# minute and a few gigabytes, and no more.
MAX_PICKLE = 1 << 25
MAX_KEY = 100


class Storage(NamedTuple):
  """Numbers in a member of the archive."""

  key: str
  dtype: np.dtype
  count: int
  member: Member


def open_torch(path: Path) -> Any:
  """The object that torch.save wrote, with `Tensor`s in place of tensors.

  Only dicts, lists, tuples, numbers, strings and tensors are there; a known
  harmless class becomes `INERT`, and any other has the file refused.

  Raises:
    CheckpointError: A damaged file, or one that would call something.
  """
  found = members(File.of(path))
  pickled = _pickled(path, found)
  folder = pickled.name.removesuffix('data.pkl')
  storages = {
    name.removeprefix(f'{folder}data/'): member
    for name, member in found.items()
    if name.startswith(f'{folder}data/')
  }
  order = found.get(f'{folder}byteorder')
  if order and (order.size > 6 or order.read() != b'little'):
    raise CheckpointError(f'{path}: its byte order is not little-endian.')
  machine = Machine(
    functools.partial(_find, path), functools.partial(_storage, storages)
  )
  try:
    return machine.run(pickled.read())
  except CheckpointError:
    raise
  # pickletools warns of a backslash in a name; `python -W error` raises that.
  except (ValueError, DeprecationWarning) as error:
    raise CheckpointError(
      f'{path}: data.pkl is damaged ({str(error)[:200]}).'
    ) from error


def fingerprint(path: Path) -> str | None:
  """Names the contents of a file of torch.save without reading them.

  A SHA-256 over name, size and CRC-32 of every member, as the archive's
  directory lists them. It tells apart files that differ by training or by
  accident; who sets out to can make two files with one fingerprint.

  Returns:
    None where there is nothing to go by: not a file of torch.save, a damaged
    one, or one saved without checksums. The caller then hashes the file.
  """
  file = File.of(path)
  try:
    found = members(file)
    pickled = _pickled(path, found)
  except CheckpointError:
    return None
  if not pickled.checksummed:
    return None
  digest = hashlib.sha256()
  for member in found.values():
    name = member.raw_name
    digest.update(struct.pack('<HQI', len(name), member.size, member.crc))
    digest.update(name)
  return digest.hexdigest()


def _pickled(path: Path, found: dict[str, Member]) -> Member:
  names = [name for name in found if name.endswith('/data.pkl')]
  if len(names) != 1:
    raise CheckpointError(f'{path}: {len(names)} data.pkl in the archive.')
  pickled = found[names[0]]
  if pickled.size > MAX_PICKLE:
    raise CheckpointError(
      f'{path}: data.pkl has {pickled.size} bytes, more than the names and'
      ' shapes of tensors take.'
    )
  return pickled


def _find(path: Path, module: str, name: str) -> Any:
  """What a global name stands for in a pickle; nothing is imported."""
  if (module, name) in CALLS:
    return CALLS[module, name]
  if module == 'torch' and name in STORAGES:
    return np.dtype(STORAGES[name])
  if is_harmless(module, name):
    return INERT
  raise CheckpointError(
    f'{path}: refused, because loading it would call {shown(module)}.'
    f'{shown(name)}. Nothing of it was run. Ask its author for a safetensors'
    ' file.'
  )


def _storage(storages: dict[str, Member], pid: Any) -> Storage:
  """What a persistent id stands for: ('storage', type, key, device, count)."""
  if type(pid) is not tuple or len(pid) != 5:
    raise ValueError('a persistent id that is not of a storage')
  kind, dtype, key, _, count = pid
  if not isinstance(dtype, np.dtype) or kind != 'storage':
    raise ValueError('a persistent id that is not of a storage')
  if type(key) is not str or len(key) > MAX_KEY:
    raise ValueError('a storage without a name')
  member = storages.get(key)
  if member is None:
    raise ValueError(f'storage {shown(key)} is not in the archive')
  if not is_count(count) or count * dtype.itemsize > member.size:
    raise ValueError(f'storage {shown(key)} is shorter than its tensors')
  return Storage(key, dtype, count, member)


def _tensor(arguments: tuple) -> Tensor:
  """A view: (storage, offset, shape, strides, …), in elements."""
  if len(arguments) < 4:
    raise ValueError('a tensor without a shape')
  storage, offset, shape, strides = arguments[:4]
  if type(storage) is not Storage:
    raise ValueError('a tensor without a storage')
  owner = f'a tensor of storage {shown(storage.key)}'
  if type(shape) is not tuple or type(strides) is not tuple:
    raise ValueError(f'{owner} has no shape')
  size = check_shape(shape, storage.dtype, owner)
  if len(shape) != len(strides) or not all(map(is_count, (offset, *strides))):
    raise ValueError(f'{owner} begins in front of it')
  steps = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  if size and offset + steps >= storage.count:
    raise ValueError(f'{owner} ends behind it')
  count = steps + 1 if size else 0
  return Tensor(
    shape,
    storage.dtype,
    functools.partial(_view, storage, offset, count, shape, strides),
  )


def _view(
  storage: Storage, offset: int, count: int, shape: tuple, strides: tuple
) -> np.ndarray:
  if not count:
    return np.zeros(shape, storage.dtype)
  size = storage.dtype.itemsize
  start = storage.member.start + offset * size
  flat = storage.member.file.map(storage.dtype, start, count)
  # An axis of length 1 may have any stride.
  steps = tuple(s * size * (n > 1) for n, s in zip(shape, strides, strict=True))
  return np.lib.stride_tricks.as_strided(flat, shape, steps)


def _parameter(arguments: tuple) -> Tensor:
  if not arguments or type(arguments[0]) is not Tensor:
    raise ValueError('a parameter without a tensor')
  return arguments[0]


def _ordered_dict(arguments: tuple) -> dict:
  if arguments:
    raise ValueError('an OrderedDict with arguments')
  return {}


CALLS = {
  ('torch._utils', '_rebuild_tensor_v2'): Call(_tensor),
  ('torch._utils', '_rebuild_parameter'): Call(_parameter),
  ('torch._utils', '_rebuild_parameter_with_state'): Call(_parameter),
  ('collections', 'OrderedDict'): Call(_ordered_dict),
}
