"""The NLLB-200 text encoder (NLLB Team, 2022): a pre-norm transformer.

Seamless and SONAR have the same network with their own numbering of positions
and tokens. References: `M2M100Encoder` and `SeamlessM4Tv2Encoder` of
transformers 5.23.

Easily got wrong: embeddings are scaled by √dim; the sinusoid's halves are not
interleaved and its frequencies divide by dim/2 − 1; the first token stands at
position `first_position`, and positions count tokens, not padding.

| tap | reference |
|---|---|
| text/embed/tokens | embed_tokens, scaled |
| text/embed | input of layers.0 (tokens + positions) |
| text/layer_NN/attn | the stream after layer NN-1's attention |
| text/layer_NN | output of layers.(NN-1) |
| text/output | layer_norm |
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ports.attention import attention, split_heads
from ports.configs import TRANSFORMERS_FIELDS, check_parts, read_config, take
from ports.layers import (
  InnerLinear,
  LayerNorm,
  Linear,
  Tap,
  TapSpec,
  select,
  sinusoid,
)
from ports.loading import Layout, Network, Table

# What a config may say without changing the encoder.
UNREAD = (
  r'^decoder_',
  r'dropout$',
  r'layerdrop$',
  r'^max_(position_embeddings|length)$',
  r'^(bos|eos|forced_bos|forced_eos)_token_id$',
  r'^(init_std|num_hidden_layers|num_beams|tokenizer_class)$',
  *TRANSFORMERS_FIELDS,
)
REQUIRED = {
  'model_type': 'm2m_100',
  'activation_function': 'relu',
  'pad_token_id': 1,
}
# NLLB-200 distilled, 600M.
DEFAULTS = {
  'vocab_size': 256206,
  'd_model': 1024,
  'encoder_layers': 12,
  'encoder_attention_heads': 16,
  'encoder_ffn_dim': 4096,
  'scale_embedding': True,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
  """Sizes, by the names of Seamless's config.json.

  The first token stands at `first_position`. A model that reads no more than
  `max_tokens` of a sentence gets it cut there.
  """

  vocab_size: int
  hidden_size: int
  encoder_layers: int
  encoder_attention_heads: int
  encoder_ffn_dim: int
  scale_embedding: bool = True
  first_position: int = 2
  max_tokens: int | None = None


def text_config(config: Mapping[str, Any]) -> TextConfig:
  """From the hub's config.json; refuses what the port does not handle."""
  values = read_config(config, DEFAULTS, REQUIRED, UNREAD)
  check_parts(values, 'd_model', 'encoder_attention_heads')
  dim = values.pop('d_model')
  return TextConfig(hidden_size=dim, **take(TextConfig, values))


class SelfAttention(nnx.Module):
  def __init__(self, dim: int, heads: int, *, rngs: nnx.Rngs):
    self.heads = heads
    self.q_proj = Linear(dim, dim, rngs=rngs)
    self.k_proj = Linear(dim, dim, rngs=rngs)
    self.v_proj = Linear(dim, dim, rngs=rngs)
    self.out_proj = Linear(dim, dim, rngs=rngs)

  @jax.named_scope('attention')
  def __call__(
    self, x: Float[Array, 'batch time dim'], mask: Bool[Array, 'batch time']
  ) -> Float[Array, 'batch time dim']:
    q, k, v = (
      split_heads(proj(x), self.heads)
      for proj in (self.q_proj, self.k_proj, self.v_proj)
    )
    return self.out_proj(attention(q, k, v, mask[:, None]))


class FeedForward(nnx.Module):
  def __init__(self, dim: int, ffn: int, *, rngs: nnx.Rngs):
    self.fc1 = InnerLinear(dim, ffn, rngs=rngs)
    self.fc2 = Linear(ffn, dim, rngs=rngs)

  @jax.named_scope('feed_forward')
  def __call__(
    self, x: Float[Array, 'batch time dim']
  ) -> Float[Array, 'batch time dim']:
    return self.fc2(jax.nn.relu(self.fc1(x)))


class Layer(nnx.Module):
  def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
    dim, heads = config.hidden_size, config.encoder_attention_heads
    self.self_attn_layer_norm = LayerNorm(dim, rngs=rngs)
    self.self_attn = SelfAttention(dim, heads, rngs=rngs)
    self.ffn_layer_norm = LayerNorm(dim, rngs=rngs)
    self.ffn = FeedForward(dim, config.encoder_ffn_dim, rngs=rngs)

  def __call__(
    self, x: Float[Array, 'batch time dim'], mask: Bool[Array, 'batch time']
  ) -> tuple[Float[Array, 'batch time dim'], Float[Array, 'batch time dim']]:
    attended = x + self.self_attn(self.self_attn_layer_norm(x), mask)
    return attended, attended + self.ffn(self.ffn_layer_norm(attended))


class TextEncoder(nnx.Module):
  """Token ids to the states of every stage."""

  def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
    self.config = config
    self.embed_tokens = nnx.Embed(
      config.vocab_size, config.hidden_size, rngs=rngs
    )
    self.layers = nnx.List(
      [Layer(config, rngs=rngs) for _ in range(config.encoder_layers)]
    )
    self.layer_norm = LayerNorm(config.hidden_size, rngs=rngs)

  def __call__(
    self, ids: Int[Array, 'batch time'], mask: Bool[Array, 'batch time']
  ) -> tuple[Tap, ...]:
    """Every tap, fine ones too: what a jitted caller drops is not computed."""
    tokens, x = self._embed(jnp.where(mask, ids, 0), mask)
    taps = [('text/embed/tokens', tokens), ('text/embed', x)]
    for i, layer in enumerate(self.layers, 1):
      with jax.named_scope(f'layer_{i:02}'):
        attended, x = layer(x, mask)
      taps += [(f'text/layer_{i:02}/attn', attended), (f'text/layer_{i:02}', x)]
    taps.append(('text/output', self.layer_norm(x)))
    return tuple(Tap(name, states, mask) for name, states in taps)

  @jax.named_scope('embed')
  def _embed(self, ids, mask):
    dim = self.config.hidden_size
    # Cast behind the look-up: nnx.Embed casts all of the table, for each batch.
    table, dtype = self.embed_tokens.embedding[...], self.embed_tokens.dtype
    tokens = jnp.take(table, ids, axis=0).astype(dtype)
    if self.config.scale_embedding:
      tokens = tokens * dim**0.5
    # Positions are added in at least f32: bf16 cannot tell neighbours apart.
    first = self.config.first_position
    positions = jnp.cumsum(mask, axis=1) - 1 + first
    x = tokens + jnp.where(mask[..., None], sinusoid(positions, dim), 0)
    return tokens, x.astype(tokens.dtype)


def specs_of(config: TextConfig) -> list[TapSpec]:
  """Every tap of a TextEncoder, in order."""
  names = ['text/embed/tokens', 'text/embed']
  for i in range(1, config.encoder_layers + 1):
    names += [f'text/layer_{i:02}/attn', f'text/layer_{i:02}']
  names.append('text/output')
  return [TapSpec(name, config.hidden_size) for name in names]


def taps(config: TextConfig, fine: bool = False) -> tuple[TapSpec, ...]:
  """The taps of a TextEncoder, in layer order."""
  return select(specs_of(config), fine)


def renames(layers: str) -> Table:
  """M2M100's and fairseq2's names of a layer → Seamless's on the hub.

  Args:
    layers: pattern of the keys in front of '.<number>.', to which alone these
      renames apply.
  """
  inner = rf'^((?:{layers})\.\d+)'
  return (
    (rf'{inner}\.(fc[12])\.', r'\1.ffn.\2.'),
    (rf'{inner}\.final_layer_norm\.', r'\1.ffn_layer_norm.'),
    (rf'{inner}\.ffn\.inner_proj\.', r'\1.ffn.fc1.'),
    (rf'{inner}\.ffn\.output_proj\.', r'\1.ffn.fc2.'),
    (rf'{inner}\.(\w+_attn)\.output_proj\.', r'\1.\2.out_proj.'),
  )


M2M100 = Layout(
  'M2M100 of transformers',
  r'^(model\.shared|(model\.encoder\.)?embed_tokens)\.',
  renames=(
    (r'^model\.shared\.', 'embed_tokens.'),
    (r'^(model\.)?encoder\.', ''),
    *renames('layers'),
  ),
  ignored=(
    (r'^model\.encoder\.embed_tokens\.', 'a copy of model.shared'),
    (r'\bembed_positions\.', 'computed'),
    (r'^(model\.decoder|lm_head)\.', 'not an encoder'),
  ),
)
TEXT = Network(text_config, TextEncoder, taps, (M2M100,))
