"""The notebook's face of a model: items in, vectors or states out."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrep import languages, models
from jaxrep import mesh as meshes
from jaxrep.data import batching
from jaxrep.extract import pooling as poolings
from jaxrep.extract.plan import Options
from jaxrep.extract.step import frames_step, groups, pooled_step
from jaxrep.inputs import pad
from jaxrep.types import InputError, Modality
from ports.layers import TapSpec


def load_encoder(
  name: str,
  modality: Modality,
  checkpoint: str | os.PathLike | None = None,
  dtype: str = 'float32',
  prompt: str | None = None,
  fine: bool = False,
) -> 'Encoder':
  """Loads one encoder onto this process' devices.

  Args:
    name: A model of `run.py list models`.
    modality: 'text' or 'speech'.
    checkpoint: A folder, a file, or a hub id; None for the released one.
    dtype: 'float32' or 'bfloat16'.
    prompt: For models that read one.
    fine: Also give the taps inside each stage.

  Raises:
    InputError: An unknown name, or a checkpoint that does not fit.
  """
  if prompt is not None:
    raise InputError(f'{name} reads no prompt.')
  model = models.open_model(name, modality, str(checkpoint or ''), fine)
  mesh = meshes.local_mesh()
  state = model.weights(dtype, meshes.replicated(mesh))
  return Encoder(model, state, dtype, mesh)


@dataclasses.dataclass(frozen=True)
class Encoder:
  """One encoder with its weights; made by `load_encoder`."""

  model: models.Model
  state: Any
  dtype: str
  mesh: Mesh
  _steps: dict[str | None, Any] = dataclasses.field(default_factory=dict)

  @property
  def taps(self) -> tuple[TapSpec, ...]:
    """(name, dim) of every tap, in layer order."""
    return self.model.taps

  def encode(
    self,
    items: Sequence[str] | Sequence[np.ndarray],
    language: str,
    pooling: str | None = 'mean',
  ) -> dict[str, Any]:
    """Encodes sentences of one language.

    Args:
      items: Strings, or 1-D float32 waveforms at 16 kHz.
      language: ISO 639-3, FLEURS or NLLB code.
      pooling: 'mean', 'last', 'first', 'max', with exceptions by tap as in
        'mean,speech/adaptor=last'; None gives the valid states of every step.

    Returns:
      Tap → float32 [n, dim], or under None tap → a list of float32
      [time, dim], in the order of `items`.

    Raises:
      InputError: No items, a language that the model does not cover, or audio
        that is too short.
    """
    arrays = self._prepare(items, language)
    lengths = [len(array) for array in arrays]
    order = sorted(range(len(arrays)), key=lengths.__getitem__)
    policy = Options().policy(self.model)
    policy = dataclasses.replace(policy, unit_size=len(arrays))
    units = batching.units([lengths[i] for i in order], policy)
    found = [None] * len(arrays)
    for batch in units[0].batches:
      members = [order[row] for row in batch.rows]
      rows = self._run([arrays[i] for i in members], batch, pooling)
      for i, row in zip(members, rows, strict=True):
        found[i] = row
    names = [spec.name for spec in self.taps]
    by_tap = {name: [row[name] for row in found] for name in names}
    if pooling is None:
      return by_tap
    return {name: np.stack(rows) for name, rows in by_tap.items()}

  def _prepare(self, items: Sequence[Any], language: str) -> list[np.ndarray]:
    iso = languages.canonical(language)
    code = models.language_code(self.model.row, self.model.modality, iso)
    if not code:
      raise InputError(
        f'{self.model.name} does not cover {language} as {self.model.modality}.'
      )
    if len(items) == 0:
      raise InputError('There is nothing to encode.')
    arrays = self.model.inputs.prepare(items, code)
    minimum = self.model.inputs.minimum
    for i, array in enumerate(arrays):
      if array.ndim != 1 or len(array) < minimum:
        raise InputError(
          f'Item {i} has shape {array.shape}: {self.model.name} needs one '
          f'dimension of at least {minimum} values.'
        )
      if not np.isfinite(array).all():
        raise InputError(f'Item {i} holds values that are not finite.')
    return arrays

  def _run(
    self, arrays: list[np.ndarray], batch: batching.Batch, pooling: str | None
  ) -> list[dict[str, np.ndarray]]:
    """One row of {tap: vector or states} for each array."""
    devices = self.mesh.size
    rows = -(-batch.size // devices) * devices
    dtype = self.model.inputs.dtype
    padded = pad(arrays, rows, batch.padded_length, dtype)
    padded = jax.device_put(padded, meshes.by_row(self.mesh))
    outputs = jax.device_get(self._step(pooling)(self.state, *padded))
    unpack = self._frames if pooling is None else self._vectors
    return [unpack(outputs, i) for i in range(len(arrays))]

  def _step(self, pooling: str | None) -> Any:
    if pooling not in self._steps:
      arguments = (self.model, self.dtype, self.mesh)
      if pooling is None:
        step = frames_step(*arguments)
      else:
        rule = poolings.parse(pooling)
        step = pooled_step(self.model, rule, self.dtype, self.mesh)
      self._steps[pooling] = step
    return self._steps[pooling]

  def _vectors(self, outputs: Any, row: int) -> dict[str, np.ndarray]:
    return {
      name: outputs[width][row, position]
      for width, names in groups(self.model).items()
      for position, name in enumerate(names)
    }

  def _frames(self, outputs: Any, row: int) -> dict[str, np.ndarray]:
    return {
      spec.name: states[row][mask[row]].astype(np.float32)
      for spec, (states, mask) in zip(self.taps, outputs, strict=True)
    }
