"""The encoder of Whisper (Radford et al., 2022): 30 s of audio, always.

Reference: `WhisperModel.encoder` of transformers 5.23. All sizes, tiny to
large-v3; they differ in widths and in the 80 or 128 mel bins.

Easily got wrong: `k_proj` has no bias; positions are a stored table, to be read
and not to be computed; GELU is exact. There is no mask: the silence that audio
is filled up with to 30 s is attended to like any audio, so every state counts
as valid, and `heard` says which ones hold audio.

| tap | reference |
|---|---|
| speech/embed/mel | the log-mel frames, 100 a second |
| speech/embed/conv1, conv2 | after the GELU behind each convolution |
| speech/embed | conv2 + embed_positions, 50 steps a second |
| speech/layer_NN/attn | the stream after layer NN-1's attention |
| speech/layer_NN | output of layers.(NN-1) |
| speech/output | layer_norm |
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from ports.attention import attention, split_heads
from ports.configs import TRANSFORMERS_FIELDS, check_parts, read_config, take
from ports.convolutions import Conv
from ports.layers import (
  InnerLinear,
  LayerNorm,
  Linear,
  Tap,
  TapSpec,
  gelu,
  select,
)
from ports.loading import Layout, Network

Parts = list[tuple[str, Float[Array, 'batch time _']]]

UNREAD = (
  r'^decoder_',
  r'dropout$',
  r'layerdrop$',
  r'^mask_(time|feature)_',
  r'^(apply_spec_augment|use_weighted_layer_sum|classifier_proj_size)$',
  r'^(bos|eos|pad|decoder_start)_token_id$',
  r'^(max_target_positions|max_length|vocab_size|median_filter_width)$',
  r'^(begin_)?suppress_tokens$',
  r'^(forced_decoder_ids|init_std|num_hidden_layers)$',
  *TRANSFORMERS_FIELDS,
)
REQUIRED = {
  'model_type': 'whisper',
  'activation_function': 'gelu',
  'scale_embedding': False,
  'max_source_positions': 1500,
}
# Of large-v2.
DEFAULTS = {
  'd_model': 1280,
  'encoder_layers': 32,
  'encoder_attention_heads': 20,
  'encoder_ffn_dim': 5120,
  'num_mel_bins': 80,
}
POSITIONS = REQUIRED['max_source_positions']


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Sizes, by the names of the hub's config.json."""

  d_model: int
  encoder_layers: int
  encoder_attention_heads: int
  encoder_ffn_dim: int
  num_mel_bins: int


def read(config: Mapping[str, Any]) -> Config:
  """From the hub's config.json; refuses what the port does not handle."""
  values = read_config(config, DEFAULTS, REQUIRED, UNREAD)
  check_parts(values, 'd_model', 'encoder_attention_heads')
  return Config(**take(Config, values))


class SelfAttention(nnx.Module):
  def __init__(self, dim: int, heads: int, *, rngs: nnx.Rngs):
    self.heads = heads
    self.q_proj = Linear(dim, dim, rngs=rngs)
    self.k_proj = Linear(dim, dim, use_bias=False, rngs=rngs)
    self.v_proj = Linear(dim, dim, rngs=rngs)
    self.out_proj = Linear(dim, dim, rngs=rngs)

  @jax.named_scope('attention')
  def __call__(
    self, x: Float[Array, 'batch time dim']
  ) -> Float[Array, 'batch time dim']:
    q, k, v = (
      split_heads(proj(x), self.heads)
      for proj in (self.q_proj, self.k_proj, self.v_proj)
    )
    return self.out_proj(attention(q, k, v, jnp.ones((1, 1, k.shape[1]), bool)))


class Layer(nnx.Module):
  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    dim, heads = config.d_model, config.encoder_attention_heads
    self.self_attn_layer_norm = LayerNorm(dim, rngs=rngs)
    self.self_attn = SelfAttention(dim, heads, rngs=rngs)
    self.final_layer_norm = LayerNorm(dim, rngs=rngs)
    self.fc1 = InnerLinear(dim, config.encoder_ffn_dim, rngs=rngs)
    self.fc2 = Linear(config.encoder_ffn_dim, dim, rngs=rngs)

  def __call__(
    self, x: Float[Array, 'batch time dim']
  ) -> tuple[Float[Array, 'batch time dim'], Float[Array, 'batch time dim']]:
    attended = x + self.self_attn(self.self_attn_layer_norm(x))
    inner = gelu(self.fc1(self.final_layer_norm(attended)))
    return attended, attended + self.fc2(inner)


class Encoder(nnx.Module):
  """Log-mel frames of 30 s to the states of every stage."""

  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    dim = config.d_model
    self.conv1 = Conv(config.num_mel_bins, dim, 3, padding=1, rngs=rngs)
    self.conv2 = Conv(dim, dim, 3, stride=2, padding=1, rngs=rngs)
    self.embed_positions = nnx.Embed(POSITIONS, dim, rngs=rngs)
    self.layers = nnx.List(
      [Layer(config, rngs=rngs) for _ in range(config.encoder_layers)]
    )
    self.layer_norm = LayerNorm(dim, rngs=rngs)

  def __call__(
    self,
    mels: Float[Array, 'batch 3000 mel'],
    heard: Bool[Array, 'batch 3000'],
  ) -> tuple[Tap, ...]:
    """Every tap, fine ones too: what a jitted caller drops is not computed."""
    first = gelu(self.conv1(mels))
    second = gelu(self.conv2(first))
    x = (second + self.embed_positions.embedding[...]).astype(mels.dtype)
    parts: Parts = [('embed/conv2', second), ('embed', x)]
    for i, layer in enumerate(self.layers, 1):
      with jax.named_scope(f'layer_{i:02}'):
        attended, x = layer(x)
      parts += [(f'layer_{i:02}/attn', attended), (f'layer_{i:02}', x)]
    parts.append(('output', self.layer_norm(x)))
    fast = [('embed/mel', mels), ('embed/conv1', first)]
    return (*_taps(fast, heard), *_taps(parts, heard[:, ::2]))


def _taps(parts: Parts, heard: Bool[Array, 'batch time']) -> list[Tap]:
  """Taps of which every step is valid, but for rows without any audio."""
  there = jnp.broadcast_to(heard.any(axis=1, keepdims=True), heard.shape)
  return [Tap(f'speech/{name}', x, there, heard=heard) for name, x in parts]


def specs_of(config: Config) -> list[TapSpec]:
  """Every tap of an Encoder, in order."""
  names = ['embed/conv1', 'embed/conv2', 'embed']
  for i in range(1, config.encoder_layers + 1):
    names += [f'layer_{i:02}/attn', f'layer_{i:02}']
  specs = [TapSpec('speech/embed/mel', config.num_mel_bins)]
  return specs + [
    TapSpec(f'speech/{name}', config.d_model) for name in (*names, 'output')
  ]


def taps(config: Config, fine: bool = False) -> tuple[TapSpec, ...]:
  """The taps of an Encoder, in layer order."""
  return select(specs_of(config), fine)


LAYOUT = Layout(
  'the hub',
  r'^(model\.)?encoder\.conv1\.',
  renames=((r'^(model\.)?encoder\.', ''),),
  ignored=((r'^(model\.decoder|decoder|proj_out)\.', 'not an encoder'),),
)
SPEECH = Network(read, Encoder, taps, (LAYOUT,))
