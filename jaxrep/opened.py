"""One encoder of a model, opened: its inputs, taps and where its weights are.

Opening reads a config and no weights, so that a run can be planned.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Int, Shaped

from jaxrep import tokenizers
from jaxrep.audio.frontends import Frontend
from jaxrep.checkpoint import (
  CONFIG,
  Checkpoint,
  Joined,
  Places,
  open_checkpoint,
)
from jaxrep.inputs import Device, SpeechInputs, TextInputs
from jaxrep.model_row import Part, Row
from jaxrep.models import language_code, row_of
from jaxrep.precision import PRECISIONS
from jaxrep.registry import resolve
from jaxrep.sources import Folder, Hub, open_source
from jaxrep.types import InputError, Modality
from ports import checkpoints, loading, variants
from ports.layers import Tap, TapSpec


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

  def shapes(
    self,
    precision: str,
    placement: loading.Placement = lambda split: None,
  ) -> Any:
    """The parameters, by shape and place."""
    dtype = jnp.dtype(PRECISIONS[precision].parameters)
    return loading.cast_shapes(self.abstract, dtype, placement)

  def forward(
    self,
    state: Any,
    batch: Shaped[Array, 'batch _'],
    lengths: Int[Array, ' batch'],
  ) -> tuple[Tap, ...]:
    """The taps of a padded batch; to be called inside a jit."""
    with jax.named_scope('front_end'):
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
  checkpoint: Checkpoint | Joined
  edit: variants.Edit | None = None

  @property
  def modality(self) -> Modality:
    return self.program.modality

  @property
  def sizes(self) -> Any:
    return self.program.sizes

  @property
  def taps(self) -> tuple[TapSpec, ...]:
    return self.program.taps

  @functools.cached_property
  def fingerprint(self) -> str:
    """Names the weights: of their files' contents, or of seed and sizes."""
    made_of = f'{self.sizes} {self.origin}'
    return hashlib.sha256(made_of.encode()).hexdigest()[:16]

  @property
  def origin(self) -> str:
    """What the weights come from, whatever network they fill."""
    weights = f'seed {self.row.seed}'
    if self.row.seed is None:
      weights = self.checkpoint.fingerprint
    return f'{weights} {self.row.edit}' if self.edit else weights

  def weights(
    self,
    precision: str,
    placement: loading.Placement = lambda split: None,
  ) -> Any:
    """Reads (or draws) the parameters, each straight to its devices."""
    module = self._filled(precision, placement)
    return nnx.state(self.edit.apply(module) if self.edit else module)

  def _filled(self, precision: str, placement: loading.Placement) -> nnx.Module:
    dtype = jnp.dtype(PRECISIONS[precision].parameters)
    abstract = self.program.abstract
    if self.row.seed is not None:
      return loading.initialise(abstract, self.row.seed, dtype, placement)
    try:
      tensors = self.checkpoint.tensors()
      layouts = self.program.network.layouts
      return loading.load(abstract, tensors, layouts, dtype, placement)
    except loading.MismatchError as error:
      raise InputError(f'{self.checkpoint.where}: {error}') from error
    except checkpoints.CheckpointError as error:
      raise InputError(str(error)) from error


def open_model(
  name: str,
  modality: Modality,
  places: Places = '',
  fine: bool = False,
  language: str = '',
  prompt: str = '',
) -> Model:
  """Describes one encoder; of a hub's checkpoint only small files are read.

  Args:
    name: A name in `MODELS`, or of a variant, as 'model@variant'.
    modality: 'text' or 'speech'.
    places: A folder, a file or a hub id; '' for the released one. Of a model of
      several checkpoints also each by its name.
    fine: Also the taps inside each stage.
    language: ISO 639-3; of a model that has an encoder for each language.
    prompt: An instruction around each item, or a prompt with <SpeechHere> in
      the place of the item; of a model that reads one.

  Raises:
    InputError: Unknown name, a modality, a prompt or a variant that the model
      lacks, nothing at the checkpoint, or a config that the port does not
      handle.
  """
  row = row_of(name)
  part = _part(name, row, modality, language, prompt)
  edit = _edit(name, row, modality)
  checkpoint = open_checkpoint(name, part, places, part.released(language))
  config = _config(name, row, checkpoint)
  network, reader = resolve(part.network), resolve(part.reader)
  tokenizer = None
  if part.template:
    tokenizer = _llama(checkpoint, part.template, prompt)
    config = _prompted(config, tokenizer)
  elif modality == 'text':
    place = _tokenizer_place(part, checkpoint.source, reader.FILES)
    tokenizer = reader(place, config)
  try:
    sizes = network.config(config)
  except checkpoints.CheckpointError as error:
    raise InputError(f'{checkpoint.title}: {error}') from error
  if modality == 'text':
    inputs = TextInputs(tokenizer, sizes.max_tokens)
  else:
    inputs = SpeechInputs(
      reader if isinstance(reader, Frontend) else reader(sizes)
    )
  taps = network.taps(sizes, fine)
  program = Program(modality, network, sizes, taps, inputs.device)
  return Model(name, row, program, inputs, checkpoint, edit)


def _edit(name: str, row: Row, modality: Modality) -> variants.Edit | None:
  """What a variant does to the encoder that has the length adaptor.

  A variant that there is not is refused with either modality.
  """
  if not row.edit:
    return None
  found = {kind: resolve(part.network) for kind, part in row.parts.items()}
  try:
    edits = {
      kind: resolve(row.edit)(network.adaptor)
      for kind, network in found.items()
      if network.adaptor
    }
  except variants.VariantError as error:
    raise InputError(f'{name}: {error}') from error
  return edits.get(modality)


def _part(
  name: str, row: Row, modality: Modality, language: str, prompt: str
) -> Part:
  """The part of a row that is asked for, and can do what is asked of it."""
  if modality not in row.parts:
    raise InputError(f'{name} reads {", ".join(row.parts)}, not {modality}.')
  if language and not language_code(row, modality, language):
    raise InputError(f'{name} does not cover {language} as {modality}.')
  if prompt and not row.parts[modality].template:
    raise InputError(f'{name} reads no prompt.')
  return row.parts[modality]


def _config(
  name: str, row: Row, checkpoint: Checkpoint | Joined
) -> Mapping[str, Any]:
  if checkpoint.config is not None:
    return checkpoint.config
  one = any(part.by_language for part in row.parts.values())
  reason = ' where no language is named; load_encoder takes language=.'
  raise InputError(
    f'{checkpoint.title} has no {CONFIG}, which a checkpoint of {name} needs'
    + (reason if one else '.')
  )


def _llama(
  checkpoint: Checkpoint | Joined, template: str, prompt: str
) -> tokenizers.Llama:
  """The language model's tokenizer, with the prompt's pieces."""
  own = checkpoint
  if isinstance(checkpoint, Joined):
    own = checkpoint.parts['llm']
    table = checkpoint.config['connector']
    template = table.get('prompt_template', template)
    if not isinstance(template, str) or '{}' not in template:
      raise InputError(
        f'{checkpoint.parts["connector"].title}: prompt_template={template!r} '
        'has no {} for the instruction.'
      )
  return tokenizers.Llama(own.source).around(prompt, template)


def _prompted(
  config: Mapping[str, Any], tokenizer: tokenizers.Llama
) -> Mapping[str, Any]:
  """A language model's config, with the prompt's tokens in it."""
  pieces = {'before': tokenizer.before, 'after': tokenizer.after}
  if 'llm' in config:
    return {**config, 'llm': {**config['llm'], **pieces}}
  return {**config, **pieces}


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
