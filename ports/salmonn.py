"""SALMONN (Tang et al., 2024): Whisper and BEATs, read by Vicuna.

Every 0.34 s of both audio encoders' frames, side by side, a Q-Former makes one
vector of; 88 of them stand for 30 s of audio in the language model's sequence,
silence included. A text stands there with its own tokens. The language model
has LoRA. Reference: the branch `salmonn` of bytedance/SALMONN. Checkpoints: the
hub's Whisper and Vicuna, BEATs' `.pt`, and SALMONN's own `.pth`, in one mapping
under `whisper.`, `beats.`, `llm.` and `connector.`.

Easily got wrong: norms come before BEATs' frames are filled up with zeros, so
these stay zeros; Whisper's channels are the first ones; there are 88 windows of
17 frames, and the last 4 of 1,500 frames are left out; `<s>` is put in front
once and the prompt's two pieces are tokenised apart.

Whisper's and BEATs' taps have the names of `ports.whisper` and `ports.beats`
behind speech/whisper_ and speech/beats_; the others:

| tap | reference | compared with |
|---|---|---|
| speech/fused/speech, audio | ln_speech, ln_audio | |
| speech/fused | both side by side (*before*) | text/embed |
| speech/qformer… | as in `ports.qformer` | text/embed |
| speech/audio_tokens | speech_llama_proj (*after*) | text/embed |
| speech/layer_NN/attn | the stream after layer NN-1's attention | |
| speech/layer_NN | output of the decoder's layer NN-1 | text/layer_NN |
| speech/output | its norm | text/output |

and for text as in `ports.llama`. The audio encoders' own layers know no text
and are compared with none.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ports import beats, llama, qformer, whisper
from ports.configs import ConfigError, fault, read_config, short
from ports.layers import (
  AdaptorParameters,
  LayerNorm,
  Linear,
  Tap,
  TapSpec,
  select,
  zero_padding,
)
from ports.loading import Layout, Network, Table

# A config.json beside SALMONN's own file; the released ones have none.
UNREAD = (
  r'^(reference|seed|utterances|checks|versions|tokenizer_cases)$',
  r'^(whisper|beats|llama|prompt_template)$',
)
FRAMES = 17  # round(1500 * 0.333333 / 30)
WINDOWS = whisper.POSITIONS // FRAMES
WINDOW = {
  'second_per_window': 0.333333,
  'second_stride': 0.333333,
  'frames': FRAMES,
  'stride': FRAMES,
  'windows': WINDOWS,
}
LORA = {'r': 8, 'alpha': 32, 'scaling': None}
LORA_REQUIRED = {'targets': ['q_proj', 'v_proj']}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechConfig:
  """Sizes of all parts."""

  whisper: whisper.Config
  beats: beats.Config
  qformer: qformer.Config
  llm: llama.Config

  @property
  def num_mel_bins(self) -> int:
    return self.whisper.num_mel_bins


def text_config(config: Mapping[str, Any]) -> llama.Config:
  """From the tables `llm` and `connector`.

  Raises:
    ConfigError: They ask for what the port does not handle.
  """
  connector = _connector(config)
  values = read_config(connector['lora'], LORA, LORA_REQUIRED, ())
  scale = values['scaling']
  if scale is None:
    scale = values['alpha'] / values['r']
  elif why := fault('scaling', scale, 1.0):
    raise ConfigError(f'lora: scaling={short(repr(scale))}: {why}.')
  lora = llama.Lora(rank=values['r'], scale=float(scale))
  return dataclasses.replace(llama.read(config['llm']), lora=lora)


def speech_config(config: Mapping[str, Any]) -> SpeechConfig:
  """From the tables `whisper`, `beats`, `llm` and `connector`.

  Raises:
    ConfigError: They ask for what the port does not handle.
  """
  connector = _connector(config)
  read_config(connector['window'], {}, WINDOW, ())
  frames = whisper.read(config['whisper'])
  sounds = beats.read(config['beats'])
  width = frames.d_model + sounds.encoder_embed_dim
  return SpeechConfig(
    whisper=frames,
    beats=sounds,
    qformer=qformer.read(connector['qformer'], width),
    llm=text_config(config),
  )


def _connector(config: Mapping[str, Any]) -> dict[str, Any]:
  tables: dict[str, Any] = {'qformer': {}, 'window': {}, 'lora': {}}
  return read_config(config['connector'], tables, {}, UNREAD)


class TextEncoder(nnx.Module):
  """Token ids to the states of every stage of the language model."""

  def __init__(self, config: llama.Config, *, rngs: nnx.Rngs):
    self.llm = llama.Decoder(config, rngs=rngs)

  def __call__(
    self, ids: Int[Array, 'batch time'], mask: Bool[Array, 'batch time']
  ) -> tuple[Tap, ...]:
    """Every tap, fine ones too: what a jitted caller drops is not computed."""
    return self.llm.text(ids, mask)


class SpeechEncoder(nnx.Module):
  """30 s of log-mel frames and their fbank to the states of every stage."""

  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    self.config = config
    dim = config.llm.hidden_size
    self.whisper = whisper.Encoder(config.whisper, rngs=rngs)
    self.beats = beats.Encoder(config.beats, rngs=rngs)
    self.ln_speech = LayerNorm(config.whisper.d_model, rngs=rngs)
    self.ln_audio = LayerNorm(config.beats.encoder_embed_dim, rngs=rngs)
    self.speech_query_tokens = nnx.Param(
      jnp.ones((1, 1, config.qformer.hidden_size))
    )
    self.qformer = qformer.QFormer(config.qformer, rngs=rngs)
    self.speech_llama_proj = Linear(config.qformer.hidden_size, dim, rngs=rngs)
    self.llm = llama.Decoder(config.llm, rngs=rngs)

  def __call__(
    self,
    features: tuple[
      Float[Array, 'batch 3000 mel'], Float[Array, 'batch n bin']
    ],
    masks: tuple[Bool[Array, 'batch 3000'], Bool[Array, 'batch n']],
  ) -> tuple[Tap, ...]:
    """Every tap, fine ones too: what a jitted caller drops is not computed.

    Args:
      features: Whisper's log-mel frames and BEATs' fbank of the same audio.
      masks: Of the frames that hold audio, and of those of the fbank.
    """
    mels, fbank = features
    heard, frames = masks
    spoken = _named('whisper', self.whisper(mels, heard))
    sound = _named('beats', self.beats(fbank, frames))
    fused = self._fused(spoken[-1], sound[-1])
    read = self._windows(fused[-1])
    return (*spoken, *sound, *fused, *read, *self._decoded(read[-1]))

  def _fused(self, spoken: Tap, sound: Tap) -> list[Tap]:
    """Both encoders' last states side by side, as long as Whisper's."""
    speech = self.ln_speech(spoken.states)
    audio = zero_padding(self.ln_audio(sound.states), sound.mask)
    missing = speech.shape[1] - audio.shape[1]
    audio = jnp.pad(audio, ((0, 0), (0, missing), (0, 0)))
    both = jnp.concatenate([speech, audio], axis=-1)
    found = [('/speech', speech), ('/audio', audio), ('', both)]
    return [
      spoken._replace(name=f'speech/fused{part}', states=x) for part, x in found
    ]

  def _windows(self, fused: Tap) -> list[Tap]:
    """What the Q-Former makes of each window, and its projection."""
    batch, _, dim = fused.states.shape
    cut = WINDOWS * FRAMES
    frames = fused.states[:, :cut].reshape(batch * WINDOWS, FRAMES, dim)
    query, *parts = self.qformer(self.speech_query_tokens[...], frames)
    there = fused.mask[:, :WINDOWS]
    heard = fused.heard[:, :cut].reshape(batch, WINDOWS, FRAMES).any(axis=-1)
    embed = jnp.broadcast_to(query[1], (batch, *query[1].shape[1:]))
    taps = [Tap(f'speech/{query[0]}', embed, there[:, :1])]
    for name, x in parts:
      x = x.reshape(batch, WINDOWS, -1)
      taps.append(Tap(f'speech/{name}', x, there, heard=heard))
    tokens = self.speech_llama_proj(taps[-1].states)
    return [*taps, Tap('speech/audio_tokens', tokens, there, heard=heard)]

  def _decoded(self, tokens: Tap) -> list[Tap]:
    """The language model over `<s>`, the prompt and the audio's vectors."""
    config = self.config.llm
    rows = len(tokens.states)
    before = self._prompt((llama.BOS, *config.before), rows)
    after = self._prompt(config.after, rows)
    audio = tokens.states.astype(before.dtype)
    x = jnp.concatenate([before, audio, after], axis=1)
    first, rest = before.shape[1], after.shape[1]
    whole = jnp.broadcast_to(tokens.mask[:, :1], x.shape[:2])
    sides = ((0, 0), (first, rest))
    own, heard = (jnp.pad(m, sides) for m in (tokens.mask, tokens.heard))
    return [
      Tap(f'speech/{name}', y, own, whole, heard)
      for name, y in self.llm.states(x, whole)
    ]

  def _prompt(
    self, ids: tuple[int, ...], rows: int
  ) -> Float[Array, 'batch time dim']:
    embedded = self.llm.embed(jnp.asarray(ids, int).reshape(1, -1))
    return jnp.broadcast_to(embedded, (rows, *embedded.shape[1:]))


def _named(part: str, taps: tuple[Tap, ...]) -> list[Tap]:
  return [tap._replace(name=_prefixed(part, tap.name)) for tap in taps]


def _prefixed(part: str, name: str) -> str:
  return f'speech/{part}_{name.removeprefix("speech/")}'


def text_taps(config: llama.Config, fine: bool = False) -> tuple[TapSpec, ...]:
  """The taps of a TextEncoder, in layer order."""
  return llama.taps(config, fine)


def speech_taps(
  config: SpeechConfig, fine: bool = False
) -> tuple[TapSpec, ...]:
  """The taps of a SpeechEncoder, in layer order."""
  spoken, sound = config.whisper.d_model, config.beats.encoder_embed_dim
  dim = config.llm.hidden_size
  specs = [
    TapSpec(_prefixed(part, spec.name), spec.dim)
    for part, found in (
      ('whisper', whisper.specs_of(config.whisper)),
      ('beats', beats.specs_of(config.beats)),
    )
    for spec in found
  ]
  specs += [
    TapSpec('speech/fused/speech', spoken),
    TapSpec('speech/fused/audio', sound),
    TapSpec('speech/fused', spoken + sound),
    *qformer.specs_of(config.qformer),
    TapSpec('speech/audio_tokens', dim),
  ]
  names = llama.names_of(config.llm)
  specs += [TapSpec(f'speech/{name}', dim) for name in names]
  return select(specs, fine)


def counterparts(text: llama.Config, speech: SpeechConfig) -> dict[str, str]:
  """Speech stage → the text stage that it is compared with."""
  read = qformer.stages(speech.qformer)
  stages = ['speech/fused', *read, 'speech/audio_tokens']
  pairs = dict.fromkeys(stages, 'text/embed')
  shared = min(text.num_hidden_layers, speech.llm.num_hidden_layers)
  same = [f'layer_{i:02}' for i in range(1, shared + 1)]
  return pairs | {f'speech/{n}': f'text/{n}' for n in (*same, 'output')}


ADAPTERS = (r'^connector\.llama_model\.(base_model\.model\.)?model\.', 'llm.')
EXTRAS: Table = (
  (r'\.rotary_emb\.inv_freq$', 'computed'),
  (
    r'^connector\.beats\..*\.relative_attention_bias\.weight$',
    "a copy of BEATs' own",
  ),
)
SPEECH_LAYOUT = Layout(
  'SALMONN',
  r'^connector\.speech_query_tokens$',
  renames=(
    ADAPTERS,
    (r'^connector\.speech_Qformer\.', 'qformer.'),
    (r'^connector\.', ''),
    *qformer.RENAMES,
  ),
  ignored=(
    *EXTRAS,
    (r'\.embeddings\.position_ids$', 'a query has no position'),
  ),
  parts=(
    ('whisper', whisper.LAYOUT),
    ('beats', beats.LAYOUT),
    ('llm', llama.LAYOUT),
  ),
)
TEXT_LAYOUT = Layout(
  'SALMONN',
  r'^connector\.llama_model\.',
  renames=(ADAPTERS,),
  ignored=(
    *EXTRAS,
    (r'^connector\.(speech_|ln_speech|ln_audio|beats)', 'for speech'),
  ),
  parts=(('llm', llama.LAYOUT),),
)
TEXT = Network(text_config, TextEncoder, text_taps, (TEXT_LAYOUT,))
SPEECH = Network(
  speech_config,
  SpeechEncoder,
  speech_taps,
  (SPEECH_LAYOUT,),
  adaptor=AdaptorParameters(
    r'^(speech_query_tokens$|qformer\.|speech_llama_proj\.)'
  ),
)
