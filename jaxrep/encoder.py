"""The notebook's face of a model: items in, vectors or states out."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from jaxrep import languages, models, opened
from jaxrep import mesh as meshes
from jaxrep.data import batching
from jaxrep.extract import fit
from jaxrep.extract import pooling as poolings
from jaxrep.extract.plan import Options
from jaxrep.extract.step import frames_step, groups, pooled_step
from jaxrep.inputs import pad
from jaxrep.types import InputError, Modality
from ports.layers import TapSpec

Place = str | os.PathLike


def load_encoder(
  name: str,
  modality: Modality,
  checkpoint: Place | Mapping[str, Place] | None = None,
  dtype: str = 'float32',
  prompt: str | None = None,
  fine: bool = False,
  language: str | None = None,
  model_parallel: int = 0,
) -> 'Encoder':
  """Loads one encoder onto this process' devices.

  Args:
    name: A model of `run.py list models`.
    modality: 'text' or 'speech'.
    checkpoint: A folder, a file, or a hub id; None for the released one. Of a
      model of several checkpoints a folder that holds them, or each by its
      name: {'whisper': …, 'beats': …, 'llm': …, 'connector': …}.
    dtype: 'float32' or 'bfloat16'.
    prompt: Of a language model: an instruction around every item, or a whole
      prompt with <SpeechHere> where the item stands; None for none. Only the
      item's own steps are pooled and given.
    fine: Also give the taps inside each stage.
    language: Whose encoder, of a model that has one for each language; needed
      for a released one, and then the only language that it encodes.
    model_parallel: How many devices share a language model's weights; 0 for as
      few as they fit on.

  Raises:
    InputError: An unknown name, or a checkpoint that does not fit.
  """
  iso = languages.canonical(language) if language else ''
  places: opened.Places = str(checkpoint or '')
  if isinstance(checkpoint, Mapping):
    places = {one: str(place) for one, place in checkpoint.items()}
  model = opened.open_model(name, modality, places, fine, iso, prompt or '')
  mesh = fit.mesh_of(model, dtype, model_parallel)
  state = model.weights(dtype, meshes.placement(mesh))
  own = model.row.parts[modality].by_language
  return Encoder(model, state, dtype, mesh, iso if own else '')


@dataclasses.dataclass(frozen=True)
class Encoder:
  """One encoder with its weights; made by `load_encoder`."""

  model: opened.Model
  state: Any
  dtype: str
  mesh: Mesh
  language: str

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
      pooling: 'mean', 'last', 'first', 'max', 'heard', 'sequence' or
        'sequence_last' (`extract.pooling`), with exceptions by tap as in
        'mean,speech/adaptor=last'; None gives the valid states of every step.

    Returns:
      Tap → float32 [n, dim], or under None tap → a list of float32
      [time, dim], in the order of `items`.

    Raises:
      InputError: No items, a language that the model does not cover, audio
        that is too short, or a pooling that is not known.
    """
    arrays = self._prepare(items, language)
    program = self.model.program
    if pooling is None:
      step = frames_step(program, self.dtype, self.mesh)
      rows = self._run(arrays, step, _frames, self.taps)
      return {name: [row[name] for row in rows] for name, _ in self.taps}
    rule = poolings.parse(pooling)
    rule.check(name for name, _ in self.taps)
    step = pooled_step(program, rule, self.dtype, self.mesh)
    rows = self._run(arrays, step, _vectors, self.taps)
    return {
      name: np.stack([row[name] for row in rows]) for name, _ in self.taps
    }

  def attention(
    self, items: Sequence[np.ndarray], language: str
  ) -> dict[str, list[np.ndarray]]:
    """Where a pooler looks, for models that have one (SONAR's speech).

    Args:
      items: 1-D float32 waveforms at 16 kHz.
      language: As for `encode`.

    Returns:
      Pooler layer's tap → a list of float32 [head, time], in the order of
      `items`; each head's weights sum to 1.

    Raises:
      InputError: The model has no pooler, or as `encode`.
    """
    program = self.model.program
    taps = program.network.weights(program.sizes)
    if not taps:
      raise InputError(f'{self.model.name} has no pooler to look into.')
    arrays = self._prepare(items, language)
    step = frames_step(program._replace(taps=taps), self.dtype, self.mesh)
    rows = self._run(arrays, step, _frames, taps)
    return {
      name.removesuffix('/weights'): [row[name].T for row in rows]
      for name, _ in taps
    }

  def _prepare(self, items: Sequence[Any], language: str) -> list[np.ndarray]:
    iso = languages.canonical(language)
    code = models.language_code(self.model.row, self.model.modality, iso)
    if not code:
      raise InputError(
        f'{self.model.name} does not cover {language} as {self.model.modality}.'
      )
    if self.language not in ('', iso):
      raise InputError(
        f'This is the encoder of {self.language}, not of {language}.'
      )
    if len(items) == 0:
      raise InputError('There is nothing to encode.')
    minimum, limit = self.model.inputs.minimum, self.model.inputs.limit
    arrays = self.model.inputs.whole(items, code)
    cut = [] if limit is None else [x for x in arrays if len(x) > limit]
    if cut:
      logging.warning(
        '%d of %d items are cut to the %d values that %s reads.',
        *(len(cut), len(items), limit, self.model.name),
      )
    for i, array in enumerate(arrays):
      if array.ndim != 1 or len(array) < minimum:
        raise InputError(
          f'Item {i} has shape {array.shape}: {self.model.name} needs one '
          f'dimension of at least {minimum} values.'
        )
      if not np.isfinite(array).all():
        raise InputError(f'Item {i} holds values that are not finite.')
    return [array[:limit] for array in arrays]

  def _run(
    self,
    arrays: list[np.ndarray],
    step: Callable[..., Any],
    unpack: Callable[..., dict[str, np.ndarray]],
    taps: Sequence[TapSpec],
  ) -> list[dict[str, np.ndarray]]:
    """One row of {tap: vector or states} for each array, in their order."""
    lengths = [len(array) for array in arrays]
    order = sorted(range(len(arrays)), key=lengths.__getitem__)
    policy = Options().policy(self.model)
    policy = dataclasses.replace(policy, unit_size=len(arrays))
    units = batching.units([lengths[i] for i in order], policy)
    found: list[Any] = [None] * len(arrays)
    for batch in units[0].batches:
      members = [order[row] for row in batch.rows]
      rows = -(-batch.size // self.mesh.size) * self.mesh.size
      dtype, width = self.model.inputs.dtype, batch.padded_length
      padded = pad([arrays[i] for i in members], rows, width, dtype)
      padded = jax.device_put(padded, meshes.by_row(self.mesh))
      outputs = jax.device_get(step(self.state, *padded))
      for row, i in enumerate(members):
        found[i] = unpack(outputs, row, taps)
    return found


def _vectors(
  outputs: Any, row: int, taps: Sequence[TapSpec]
) -> dict[str, np.ndarray]:
  return {
    name: outputs[width][row, position]
    for width, names in groups(taps).items()
    for position, name in enumerate(names)
  }


def _frames(
  outputs: Any, row: int, taps: Sequence[TapSpec]
) -> dict[str, np.ndarray]:
  return {
    spec.name: states[row][mask[row]].astype(np.float32)
    for spec, (states, mask) in zip(taps, outputs, strict=True)
  }
