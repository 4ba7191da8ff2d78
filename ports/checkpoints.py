"""Checkpoint files as lazy tensors, without torch and without running code.

Three layouts: safetensors, several files with an index that names them, and
the zip files of torch.save. Nothing is read before `Tensor.read`, which maps
the tensor's bytes alone.
"""

import json
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

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
}
# Classes that training tools leave in checkpoints. Their place is taken by an
# empty object: neither the class nor its state is ever built.
INERT = {('argparse', 'Namespace'), ('torch', 'device'), ('torch', 'Size')}


class CheckpointError(ValueError):
  """A checkpoint that cannot be used; the message names the file and why."""


class Tensor(NamedTuple):
  """A tensor in a file: `read` maps it, and the map goes with the array."""

  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[], np.ndarray]


class Inert:
  """Stands for an object of a checkpoint that is not a tensor."""

  def __init__(self, *args: Any):
    pass

  def __setstate__(self, state: Any):
    pass


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
  if not path.exists():
    raise CheckpointError(f'{path}: no such checkpoint.')
  if path.is_file():
    return _open_file(path)
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


def files(path: str | Path) -> list[Path]:
  """The files that `open_checkpoint` reads tensors from."""
  path = Path(path)
  if path.is_file():
    return [path]
  for name in INDEXES:
    if (path / name).exists():
      return sorted({path / part for part in _weight_map(path / name).values()})
  return [path / name for name in FILES if (path / name).exists()][:1]


def _open_file(path: Path) -> dict[str, Tensor]:
  if path.suffix == '.safetensors':
    return open_safetensors(path)
  return state_dict(open_torch(path), path)


def _weight_map(index: Path) -> dict[str, str]:
  try:
    return json.loads(index.read_text())['weight_map']
  except (ValueError, KeyError, TypeError) as error:
    raise CheckpointError(f'{index}: not an index of shards.') from error


def _open_index(index: Path) -> dict[str, Tensor]:
  weight_map = _weight_map(index)
  shards = {}
  for name in sorted(set(weight_map.values())):
    shard = index.parent / name
    if shard.parent != index.parent:
      raise CheckpointError(f'{index}: {name!r} lies outside its folder.')
    if not shard.exists():
      raise CheckpointError(
        f'{shard}: {index.name} names this shard, but it is not there;'
        ' download it again.'
      )
    shards[name] = _open_file(shard)
  absent = [k for k, name in weight_map.items() if k not in shards[name]]
  if absent:
    raise CheckpointError(
      f'{index}: names tensors that its shards lack: {", ".join(absent)}.'
    )
  return {key: shards[name][key] for key, name in weight_map.items()}


def _mapped(path: Path, dtype: Any, offset: int, count: int) -> np.ndarray:
  if not count:
    return np.zeros(0, dtype)
  return np.memmap(path, dtype, 'r', offset, (count,))


def open_safetensors(path: Path) -> dict[str, Tensor]:
  """Reads the header; every tensor's bytes must lie inside the file."""
  size = path.stat().st_size
  try:
    with open(path, 'rb') as file:
      (length,) = struct.unpack('<Q', file.read(8))
      if length > size - 8:
        raise ValueError('the header is longer than the file')
      header = json.loads(file.read(length))
    header.pop('__metadata__', None)
    start = 8 + length
    return {k: _safe_tensor(path, start, size, e) for k, e in header.items()}
  except (ValueError, KeyError, TypeError, struct.error) as error:
    raise CheckpointError(
      f'{path}: not a whole safetensors file ({error}); download it again.'
    ) from error


def _safe_tensor(path: Path, start: int, size: int, entry: Mapping) -> Tensor:
  dtype = np.dtype(SAFETENSORS_DTYPES[entry['dtype']])
  shape = tuple(entry['shape'])
  begin, end = entry['data_offsets']
  count = math.prod(shape)
  if not 0 <= begin <= end <= size - start:
    raise ValueError(f'a tensor ends at byte {start + end} of {size}')
  if end - begin != count * dtype.itemsize:
    raise ValueError(f'{end - begin} bytes for shape {shape} of {dtype}')
  return Tensor(
    shape,
    dtype,
    lambda: _mapped(path, dtype, start + begin, count).reshape(shape),
  )


def open_torch(path: Path) -> Any:
  """The object that torch.save wrote, with `Tensor`s in place of tensors.

  Only dicts, lists, numbers, strings and tensors are built; a known inert
  class becomes an empty object, and any other is refused.
  """
  if not zipfile.is_zipfile(path):
    raise CheckpointError(
      f'{path}: not a zip file of torch.save. Files from before PyTorch 1.6 '
      'have to be loaded and saved again with a newer one.'
    )
  with zipfile.ZipFile(path) as archive:
    names = {info.filename: info for info in archive.infolist()}
    pickled = [name for name in names if name.endswith('/data.pkl')]
    if len(pickled) != 1:
      raise CheckpointError(f'{path}: {len(pickled)} data.pkl in the archive.')
    folder = pickled[0].removesuffix('data.pkl')
    with archive.open(pickled[0]) as file:
      unpickler = _Unpickler(file, path, folder, names)
      try:
        return unpickler.load()
      except CheckpointError:
        raise
      except Exception as error:  # a damaged pickle may raise anything
        raise CheckpointError(f'{path}: cannot be read ({error}).') from error


class _Storage(NamedTuple):
  dtype: np.dtype
  count: int
  read: Callable[[], np.ndarray]


class _Unpickler(pickle.Unpickler):
  def __init__(self, file, path: Path, folder: str, names: dict):
    super().__init__(file)
    self.path, self.folder, self.names = path, folder, names

  def find_class(self, module: str, name: str) -> Any:
    if module == 'torch._utils' and name == '_rebuild_tensor_v2':
      return _rebuild_tensor
    if module == 'torch._utils' and name == '_rebuild_parameter':
      return lambda tensor, *_: tensor
    if module == 'collections' and name == 'OrderedDict':
      return OrderedDict
    if module == 'torch' and name in STORAGES:
      return np.dtype(STORAGES[name])
    if (module, name) in INERT:
      return Inert
    raise CheckpointError(
      f'{self.path}: refused, because loading it would call {module}.{name}. '
      'Nothing of it was run. Ask its author for a safetensors file.'
    )

  def persistent_load(self, pid: Any) -> _Storage:
    kind, dtype, key, _, count = pid
    info = self.names.get(f'{self.folder}data/{key}')
    if kind != 'storage' or not isinstance(dtype, np.dtype) or info is None:
      raise CheckpointError(f'{self.path}: storage {key!r} cannot be found.')
    stored = info.compress_type == zipfile.ZIP_STORED
    if not stored or info.file_size < count * dtype.itemsize:
      raise CheckpointError(f'{self.path}: storage {key!r} is damaged.')

    def read() -> np.ndarray:
      return _mapped(self.path, dtype, _data_offset(self.path, info), count)

    return _Storage(dtype, count, read)


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
  """Where a member's bytes begin: behind its local header."""
  with open(path, 'rb') as file:
    file.seek(info.header_offset + 26)
    name, extra = struct.unpack('<HH', file.read(4))
  return info.header_offset + 30 + name + extra


def _rebuild_tensor(
  storage: _Storage, offset: int, shape: tuple, stride: tuple, *_: Any
) -> Tensor:
  last = sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
  empty = 0 in shape
  if offset < 0 or any(s < 0 for s in stride):
    raise CheckpointError('a tensor begins in front of its storage')
  if not empty and offset + last >= storage.count:
    raise CheckpointError('a tensor ends behind its storage')

  def read() -> np.ndarray:
    if empty:
      return np.zeros(shape, storage.dtype)
    steps = tuple(s * storage.dtype.itemsize for s in stride)
    flat = storage.read()[offset:]
    return np.lib.stride_tricks.as_strided(flat, shape, steps, writeable=False)

  return Tensor(tuple(shape), storage.dtype, read)


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
