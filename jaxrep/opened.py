"""One encoder of a model, opened: its inputs, taps and where its weights are.

Opening reads a config and no weights, so that a run can be planned.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Int, Shaped

from jaxrep.inputs import Device, SpeechInputs, TextInputs
from jaxrep.models import MODELS, Part, Released, Row, language_code
from jaxrep.precision import PRECISIONS
from jaxrep.registry import lookup, resolve
from jaxrep.sources import Checkpoint, Folder, Hub, open_source
from jaxrep.types import InputError, Modality
from ports import checkpoints, loading
from ports.layers import Tap, TapSpec

CONFIG = 'config.json'


class Program(NamedTuple):
  """What runs on the devices. Equal programs share what is compiled of them."""

  modality: Modality
  network: loading.Network
  sizes: Any
  taps: tuple[TapSpec, ...]
  device: Device

  @property
  def abstract(self) -> nnx.Module:
    return _abstract(self.network, self.sizes)

  def forward(
    self,
    state: Any,
    batch: Shaped[Array, 'batch _'],
    lengths: Int[Array, ' batch'],
  ) -> tuple[Tap, ...]:
    """The taps of a padded batch; to be called inside a jit."""
    inputs, mask = self.device(batch, lengths)
    graphdef = nnx.graphdef(self.abstract)
    taps = nnx.merge(graphdef, state)(inputs, mask)
    wanted = {spec.name for spec in self.taps}
    return tuple(tap for tap in taps if tap.name in wanted)


@functools.lru_cache(maxsize=8)
def _abstract(network: loading.Network, sizes: Any) -> nnx.Module:
  return network.abstract(sizes)


@dataclasses.dataclass(frozen=True)
class Model:
  """One encoder of a model, described but without weights."""

  name: str
  row: Row
  program: Program
  inputs: TextInputs | SpeechInputs
  checkpoint: Checkpoint

  @property
  def modality(self) -> Modality:
    return self.program.modality

  @property
  def sizes(self) -> Any:
    return self.program.sizes

  @property
  def taps(self) -> tuple[TapSpec, ...]:
    return self.program.taps

  @property
  def source(self) -> str:
    """Where the checkpoint is, as people say it."""
    place, released = self.checkpoint.source.name, self.checkpoint.released
    own = released and self.checkpoint.file == released
    return f'{place}/{released}' if own else place

  @functools.cached_property
  def fingerprint(self) -> str:
    """Names the weights: of their files' contents, or of seed and sizes."""
    weights = f'seed {self.row.seed}'
    if self.row.seed is None:
      weights = self.checkpoint.fingerprint
    return hashlib.sha256(f'{self.sizes} {weights}'.encode()).hexdigest()[:16]

  def weights(
    self, precision: str, sharding: jax.sharding.Sharding | None = None
  ) -> Any:
    """Reads (or draws) the parameters, each straight to its sharding."""
    dtype = jnp.dtype(PRECISIONS[precision].parameters)
    abstract = self.program.abstract
    if self.row.seed is not None:
      module = loading.initialise(abstract, self.row.seed, dtype, sharding)
      return nnx.state(module)
    path = self.checkpoint.fetch()
    try:
      module = loading.load(
        abstract,
        checkpoints.open_checkpoint(path),
        self.program.network.layouts,
        dtype,
        sharding,
      )
    except checkpoints.CheckpointError as error:
      named = str(path.parent) in str(error)
      where = '' if named else f'{path}: '
      raise InputError(f'{where}{error}') from error
    return nnx.state(module)

  def shapes(self, precision: str) -> Any:
    """What `weights` gives, as shapes."""
    dtype = jnp.dtype(PRECISIONS[precision].parameters)
    return loading.cast_shapes(self.program.abstract, dtype)


def open_model(
  name: str,
  modality: Modality,
  checkpoint: str = '',
  fine: bool = False,
  language: str = '',
) -> Model:
  """Describes one encoder; of a hub's checkpoint only small files are read.

  Args:
    name: A name in `MODELS`.
    modality: 'text' or 'speech'.
    checkpoint: A folder, a file or a hub id; by default the released one.
    fine: Also the taps inside each stage.
    language: ISO 639-3; of a model that has an encoder for each language.

  Raises:
    InputError: Unknown name, a modality that the model lacks, nothing at the
      checkpoint, or a config that the port does not handle.
  """
  row = lookup(MODELS, name, 'model')
  if modality not in row.parts:
    raise InputError(f'{name} reads {", ".join(row.parts)}, not {modality}.')
  part = row.parts[modality]
  if language and not language_code(row, modality, language):
    raise InputError(f'{name} does not cover {language} as {modality}.')
  released = part.released(language)
  source = open_source(checkpoint or part.checkpoint)
  config = _read_config(name, source, released)
  network, reader = resolve(part.network), resolve(part.reader)
  try:
    sizes = network.config(config)
  except checkpoints.CheckpointError as error:
    raise InputError(f'{source.name}/{CONFIG}: {error}') from error
  if modality == 'text':
    place = _tokenizer_place(part, source, reader.FILES)
    inputs = TextInputs(reader(place, config), sizes.max_tokens)
  else:
    inputs = SpeechInputs(reader)
  taps = network.taps(sizes, fine)
  program = Program(modality, network, sizes, taps, inputs.device)
  where = Checkpoint(source, released.licence, released.file)
  return Model(name, row, program, inputs, where)


def _read_config(
  name: str, source: Folder | Hub, released: Released
) -> Mapping[str, Any]:
  """The config.json; what it leaves out is as released."""
  path, config = source.file(CONFIG), {}
  if path is not None:
    try:
      config = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
      raise InputError(f'{path} is not JSON ({error}).') from error
    if not isinstance(config, dict):
      raise InputError(f'{path} holds no fields.')
  elif released.sizes is None:
    raise InputError(
      f'{source.name} has no {CONFIG}, which a checkpoint of {name} needs'
      + (
        ' where no language is named; load_encoder takes language=.'
        if any(part.by_language for part in MODELS[name].parts.values())
        else '.'
      )
    )
  return _merged(released.sizes or {}, config)


def _merged(
  sizes: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
  """`config` over `sizes`, and so on inside of their tables."""
  both = {**sizes, **config}
  for name, inner in sizes.items():
    if isinstance(inner, Mapping) and isinstance(both[name], Mapping):
      both[name] = _merged(inner, both[name])
  return both


def _tokenizer_place(
  part: Part, source: Folder | Hub, names: tuple[str, ...]
) -> Folder | Hub:
  """The checkpoint's own tokenizer, else the released one's."""
  if not part.tokenizer or any(source.has(name) for name in names):
    return source
  return open_source(part.tokenizer)


def counterparts(text: Model, speech: Model) -> dict[str, str]:
  """Speech tap → the text tap that it is compared with."""
  if not text.row.counterparts:
    return {}
  return resolve(text.row.counterparts)(text.sizes, speech.sizes)
