"""The NLLB text encoder (NLLB Team, 2022): a pre-norm transformer.

Reference: `SeamlessM4Tv2Encoder` of transformers 5.23, which is this network
with its own numbering of positions.

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

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ports.layers import (
  LayerNorm,
  Linear,
  Tap,
  TapSpec,
  attention,
  select,
  sinusoid,
  split_heads,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
  """Sizes, by the names of the checkpoint's config."""

  vocab_size: int
  hidden_size: int
  encoder_layers: int
  encoder_attention_heads: int
  encoder_ffn_dim: int
  scale_embedding: bool = True
  first_position: int = 2


class SelfAttention(nnx.Module):
  def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
    dim = config.hidden_size
    self.heads = config.encoder_attention_heads
    self.q_proj = Linear(dim, dim, rngs=rngs)
    self.k_proj = Linear(dim, dim, rngs=rngs)
    self.v_proj = Linear(dim, dim, rngs=rngs)
    self.out_proj = Linear(dim, dim, rngs=rngs)

  def __call__(
    self, x: Float[Array, 'batch time dim'], mask: Bool[Array, 'batch time']
  ) -> Float[Array, 'batch time dim']:
    q, k, v = (
      split_heads(proj(x), self.heads)
      for proj in (self.q_proj, self.k_proj, self.v_proj)
    )
    return self.out_proj(attention(q, k, v, mask[:, None]))


class FeedForward(nnx.Module):
  def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
    self.fc1 = Linear(config.hidden_size, config.encoder_ffn_dim, rngs=rngs)
    self.fc2 = Linear(config.encoder_ffn_dim, config.hidden_size, rngs=rngs)

  def __call__(
    self, x: Float[Array, 'batch time dim']
  ) -> Float[Array, 'batch time dim']:
    return self.fc2(jax.nn.relu(self.fc1(x)))


class Layer(nnx.Module):
  def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
    self.self_attn_layer_norm = LayerNorm(config.hidden_size, rngs=rngs)
    self.self_attn = SelfAttention(config, rngs=rngs)
    self.ffn_layer_norm = LayerNorm(config.hidden_size, rngs=rngs)
    self.ffn = FeedForward(config, rngs=rngs)

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
      attended, x = layer(x, mask)
      taps += [(f'text/layer_{i:02}/attn', attended), (f'text/layer_{i:02}', x)]
    taps.append(('text/output', self.layer_norm(x)))
    return tuple(Tap(name, states, mask) for name, states in taps)

  def _embed(self, ids, mask):
    dim = self.config.hidden_size
    tokens = self.embed_tokens(ids)
    if self.config.scale_embedding:
      tokens = tokens * dim**0.5
    # Positions are added in at least f32: bf16 cannot tell neighbours apart.
    first = self.config.first_position
    positions = jnp.cumsum(mask, axis=1) - 1 + first
    x = tokens + jnp.where(mask[..., None], sinusoid(positions, dim), 0)
    return tokens, x.astype(tokens.dtype)


def taps(config: TextConfig, fine: bool = False) -> tuple[TapSpec, ...]:
  """The taps of a TextEncoder, in layer order."""
  names = ['text/embed/tokens', 'text/embed']
  for i in range(1, config.encoder_layers + 1):
    names += [f'text/layer_{i:02}/attn', f'text/layer_{i:02}']
  names.append('text/output')
  return select([TapSpec(n, config.hidden_size) for n in names], fine)
