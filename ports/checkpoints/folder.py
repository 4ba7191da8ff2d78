"""What a file or a folder of a checkpoint holds, by the names in it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ports.checkpoints.safetensors import open_safetensors
from ports.checkpoints.tensors import (
  CheckpointError,
  Tensor,
  shown,
  unreadable,
)
from ports.checkpoints.torchfile import open_torch

_TENSORS, _TORCH = 'model.safetensors', 'pytorch_model.bin'
INDEXES = (f'{_TENSORS}.index.json', f'{_TORCH}.index.json')
NAMES = (INDEXES[0], _TENSORS, INDEXES[1], _TORCH, 'checkpoint.pt')
"""What weights are called, the first that is there being taken."""


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
  if path.is_dir():
    there = [path / name for name in NAMES if (path / name).exists()]
    if not there:
      raise CheckpointError(
        f'{path}: no checkpoint in this folder; looked for {", ".join(NAMES)}.'
      )
    path = there[0]
  return _open_index(path) if path.name in INDEXES else _open_file(path)


def _open_file(path: Path) -> dict[str, Tensor]:
  if path.suffix == '.safetensors':
    tensors = open_safetensors(path)
  else:
    tensors = state_dict(open_torch(path), path)
  if not all(type(key) is str and key.isprintable() for key in tensors):
    raise CheckpointError(f'{path}: holds tensors without a proper name.')
  return tensors


def table(path: str | Path, key: str) -> dict[str, Any]:
  """What a file of torch.save says under a key, as a config.

  Raises:
    CheckpointError: A damaged file, or no such table in it.
  """
  path = Path(path)
  tree = open_torch(path)
  found = tree.get(key) if isinstance(tree, Mapping) else None
  if type(found) is not dict or any(type(name) is not str for name in found):
    raise CheckpointError(f'{path}: holds no table {key!r}.')
  return found


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
