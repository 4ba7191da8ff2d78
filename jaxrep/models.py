"""The models: which port, inputs, checkpoint and languages each one has."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Int, Shaped

from jaxrep import languages
from jaxrep.inputs import SpeechInputs, TextInputs
from jaxrep.precision import PRECISIONS
from jaxrep.registry import lookup, resolve
from jaxrep.types import InputError, Modality
from ports import checkpoints, loading
from ports.layers import Tap, TapSpec

BUNDLED = Path(__file__).parent / 'data' / 'bundled'
HUB_FILES = ('*.json', 'tokenizer.model', '*.safetensors')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One model. Code is named as 'module:attribute' (`jaxrep.registry`).

  `networks` are `ports.loading.Network`s by modality. `checkpoint` is a hub id
  or 'bundled:<folder>'. `codes` names the fields of `languages.Language` that
  hold this model's language codes, by modality; where `languages` is given,
  the model knows those alone, by their ISO 639-3 codes. The tokenizer lies in
  the checkpoint, or in `tokenizer_folder`. `adaptor` names the speech taps
  before and after the length adaptor. With a `seed` the weights are random, and
  the checkpoint holds none.
  """

  title: str
  licence: str
  checkpoint: str
  networks: dict[Modality, str]
  counterparts: str
  tokenizer: str
  frontend: str
  minimum_samples: str
  adaptor: tuple[str, str]
  codes: dict[Modality, str] = dataclasses.field(default_factory=dict)
  languages: tuple[str, ...] = ()
  tokenizer_folder: str = ''
  seed: int | None = None
  note: str = ''


SEAMLESS_V2 = {
  'networks': {
    'text': 'ports.seamless:TEXT',
    'speech': 'ports.seamless:SPEECH',
  },
  'counterparts': 'ports.seamless:counterparts',
  'tokenizer': 'transformers:SeamlessM4TTokenizer',
  'frontend': 'jaxrep.audio.frontends:seamless_features',
  'minimum_samples': 'jaxrep.audio.frontends:MIN_SAMPLES',
  'adaptor': ('speech/pre_adaptor', 'speech/adaptor'),
}

MODELS: dict[str, Row] = {
  'tiny-untrained': Row(
    title='A small SeamlessM4T-v2-shaped encoder of random weights',
    licence='Apache-2.0',
    checkpoint='bundled:models/tiny-untrained',
    languages=('eng', 'rus', 'hin', 'arb', 'cmn', 'swh', 'ind', 'tur'),
    tokenizer_folder='bundled:tokenizer',
    seed=0,
    note='An untrained control: what it shows comes from the inputs and the '
    'architecture, not from learning.',
    **SEAMLESS_V2,
  ),
  'seamless-m4t-v2-large': Row(
    title='SeamlessM4T v2 large',
    licence='CC-BY-NC-4.0',
    checkpoint='facebook/seamless-m4t-v2-large',
    codes={'text': 'seamless_text', 'speech': 'seamless_speech'},
    **SEAMLESS_V2,
  ),
}


@dataclasses.dataclass(frozen=True)
class Model:
  """One encoder of a model, described but without weights."""

  name: str
  modality: Modality
  row: Row
  network: loading.Network
  sizes: Any
  taps: tuple[TapSpec, ...]
  inputs: TextInputs | SpeechInputs
  path: Path
  source: str

  @property
  def folder(self) -> Path:
    """Where the config and the tokenizer are: beside the weights."""
    return self.path.parent if self.path.is_file() else self.path

  @functools.cached_property
  def abstract(self) -> nnx.Module:
    return self.network.abstract(self.sizes)

  @functools.cached_property
  def graphdef(self) -> nnx.GraphDef:
    return nnx.graphdef(self.abstract)

  @functools.cached_property
  def fingerprint(self) -> str:
    """Names the weights: of their files' contents, or of seed and sizes."""
    config = (self.folder / 'config.json').read_bytes()
    parts = [hashlib.sha256(config).hexdigest()]
    if self.row.seed is not None:
      parts.append(f'seed {self.row.seed}')
    else:
      parts += [file_hash(file) for file in checkpoints.files(self.path)]
    return hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]

  def forward(
    self,
    state: Any,
    batch: Shaped[Array, 'batch _'],
    lengths: Int[Array, ' batch'],
  ) -> tuple[Tap, ...]:
    """The taps of a padded batch; to be called inside a jit."""
    inputs, mask = self.inputs.device(batch, lengths)
    taps = nnx.merge(self.graphdef, state)(inputs, mask)
    wanted = {spec.name for spec in self.taps}
    return tuple(tap for tap in taps if tap.name in wanted)

  def weights(
    self, precision: str, sharding: jax.sharding.Sharding | None = None
  ) -> Any:
    """Reads (or draws) the parameters, each straight to its sharding."""
    dtype = jnp.dtype(PRECISIONS[precision].parameters)
    try:
      if self.row.seed is not None:
        module = loading.initialise(
          self.abstract, self.row.seed, dtype, sharding
        )
      else:
        module = loading.load(
          self.abstract,
          checkpoints.open_checkpoint(self.path),
          self.network.renames,
          self.network.ignored,
          dtype,
          sharding,
        )
    except checkpoints.CheckpointError as error:
      raise InputError(f'{self.source}: {error}') from error
    return nnx.state(module)

  def shapes(self, precision: str) -> Any:
    """What `weights` gives, as shapes."""
    dtype = jnp.dtype(PRECISIONS[precision].parameters)
    return loading.cast_shapes(self.abstract, dtype)


def open_model(
  name: str, modality: Modality, checkpoint: str = '', fine: bool = False
) -> Model:
  """Describes one encoder; downloads its checkpoint where it is a hub id.

  Args:
    name: A name in `MODELS`.
    modality: 'text' or 'speech'.
    checkpoint: A folder, a file or a hub id; by default the released one.
    fine: Also the taps inside each stage.

  Raises:
    InputError: Unknown name, nothing at the checkpoint, or a config that the
      port does not handle.
  """
  row = lookup(MODELS, name, 'model')
  source = checkpoint or row.checkpoint
  path = checkpoint_path(source)
  folder = path.parent if path.is_file() else path
  network = resolve(row.networks[modality])
  config = _read_config(folder)
  try:
    sizes = network.config(config)
  except checkpoints.CheckpointError as error:
    raise InputError(f'{folder}/config.json: {error}') from error
  taps = network.taps(sizes, fine)
  inputs = _inputs(row, modality, folder)
  return Model(name, modality, row, network, sizes, taps, inputs, path, source)


def counterparts(text: Model, speech: Model) -> dict[str, str]:
  """Speech tap → the text tap that it is compared with."""
  return resolve(text.row.counterparts)(text.sizes, speech.sizes)


def language_code(row: Row, modality: Modality, iso: str) -> str:
  """What the model calls a language; empty where it does not cover it."""
  if row.languages:
    return iso if iso in row.languages else ''
  known = languages.LANGUAGES.get(iso)
  return getattr(known, row.codes[modality]) if known else ''


def checkpoint_path(source: str) -> Path:
  """A checkpoint's folder or file: local, bundled, or fetched from the hub."""
  if source.startswith('bundled:'):
    return BUNDLED / source.removeprefix('bundled:')
  path = Path(source).expanduser()
  if path.exists():
    return path
  if source.count('/') != 1 or source.startswith(('.', '~', '/')):
    raise InputError(
      f'--checkpoints: {source} is neither a path nor the id of a '
      'repository on the hub (owner/name).'
    )
  return _download(source)


def _download(repository: str) -> Path:
  import huggingface_hub
  from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

  try:
    folder = huggingface_hub.snapshot_download(
      repository, allow_patterns=list(HUB_FILES)
    )
  except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
    raise InputError(
      f'Cannot download the checkpoint {repository} '
      f'({str(error).splitlines()[0]}). Check the network and HF_ENDPOINT, or '
      'give a downloaded folder: --checkpoints=<model>=<folder>.'
    ) from error
  return Path(folder)


def _read_config(folder: Path) -> dict[str, Any]:
  path = folder / 'config.json'
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise InputError(
      f'{path}: a checkpoint needs its config.json here ({error}).'
    ) from error


def _inputs(
  row: Row, modality: Modality, folder: Path
) -> TextInputs | SpeechInputs:
  if modality == 'text':
    if row.tokenizer_folder:
      folder = checkpoint_path(row.tokenizer_folder)
    return TextInputs(row.tokenizer, folder)
  return SpeechInputs(resolve(row.frontend), resolve(row.minimum_samples))


def file_hash(path: Path) -> str:
  """SHA-256 of a file; the hub's cache already names large files by it."""
  name = path.resolve().name
  if path.is_symlink() and len(name) == 64:
    return name
  status = path.stat()
  return _hash(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache
def _hash(path: Path, size: int, modified: int) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
