"""Checkpoint files as lazy tensors, without torch and without running code.

Three layouts: safetensors, the zip files of torch.save, and several files of
either with an index that names them. Nothing is read before `Tensor.read`,
which maps the tensor's bytes alone.
"""

from ports.checkpoints.folder import (
  INDEXES,
  NAMES,
  open_checkpoint,
  table,
  weight_map,
)
from ports.checkpoints.tensors import CheckpointError, Tensor
from ports.checkpoints.torchfile import fingerprint

__all__ = (
  'INDEXES',
  'NAMES',
  'CheckpointError',
  'Tensor',
  'fingerprint',
  'open_checkpoint',
  'table',
  'weight_map',
)
