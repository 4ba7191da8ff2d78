"""SONAR's pooler: one learned query reads the frames of an utterance.

A post-norm transformer decoder over a sequence of one, then a projection.
Reference: `AttentionEncoderOutputPooler` of sonar-space 0.5.0.

Easily got wrong: the query is row `bos_index` of the embeddings, scaled by
√dim, at position 0 (the token positions of SONAR's text begin at 2); there is
no norm behind the last layer. In the padding no frame is read.

| tap | reference |
|---|---|
| speech/pooler/embed | the query, the same for every utterance |
| speech/pooler_NN/self, cross | after the norms behind both attentions |
| speech/pooler_NN | output of decoder.layers.(NN-1) |
| speech/sentence | projection_out |

All have one step. How much each head of a layer looks at each frame is a map
that can be asked for: speech/pooler_NN/weights, [batch, time, head].
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from ports import nllb
from ports.attention import attention_weights, mix, split_heads
from ports.layers import LayerNorm, Linear, Tap, TapSpec, one_step, sinusoid
from ports.loading import Table

Parts = list[tuple[str, Float[Array, 'batch 1 dim']]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Sizes; `bos_index` is the query's row of the embeddings."""

  hidden_size: int
  layers: int
  heads: int
  ffn_dim: int
  vocab_size: int
  bos_index: int


class CrossAttention(nllb.SelfAttention):
  """Queries from one sequence, keys and values from another."""

  @jax.named_scope('attention')
  def __call__(
    self,
    x: Float[Array, 'batch query dim'],
    memory: Float[Array, 'batch time dim'],
    mask: Bool[Array, 'batch time'],
  ) -> tuple[
    Float[Array, 'batch query dim'], Float[Array, 'batch head query time']
  ]:
    """What is read, and the weights that it is read with."""
    q = split_heads(self.q_proj(x), self.heads)
    k = split_heads(self.k_proj(memory), self.heads)
    v = split_heads(self.v_proj(memory), self.heads)
    weights = attention_weights(q, k, mask[:, None])
    return self.out_proj(mix(weights, v)), weights


class PoolerLayer(nnx.Module):
  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    dim, heads = config.hidden_size, config.heads
    self.self_attn = nllb.SelfAttention(dim, heads, rngs=rngs)
    self.self_attn_layer_norm = LayerNorm(dim, rngs=rngs)
    self.encoder_attn = CrossAttention(dim, heads, rngs=rngs)
    self.encoder_attn_layer_norm = LayerNorm(dim, rngs=rngs)
    self.ffn = nllb.FeedForward(dim, config.ffn_dim, rngs=rngs)
    self.ffn_layer_norm = LayerNorm(dim, rngs=rngs)

  def __call__(
    self,
    query: Float[Array, 'batch 1 dim'],
    frames: Float[Array, 'batch time dim'],
    mask: Bool[Array, 'batch time'],
  ) -> tuple[Parts, Float[Array, 'batch head 1 time']]:
    """The parts, then the layer's output (name ''); the weights."""
    here = jnp.ones(query.shape[:2], bool)
    own = self.self_attn_layer_norm(query + self.self_attn(query, here))
    read, weights = self.encoder_attn(own, frames, mask)
    cross = self.encoder_attn_layer_norm(own + read)
    output = self.ffn_layer_norm(cross + self.ffn(cross))
    return [('/self', own), ('/cross', cross), ('', output)], weights


class Pooler(nnx.Module):
  """One query reads the frames."""

  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    dim = config.hidden_size
    self.bos_index = config.bos_index
    self.embed_tokens = nnx.Embed(config.vocab_size, dim, rngs=rngs)
    self.layers = nnx.List(
      [PoolerLayer(config, rngs=rngs) for _ in range(config.layers)]
    )
    self.projection_out = Linear(dim, dim, use_bias=False, rngs=rngs)

  @jax.named_scope('adaptor')
  def __call__(
    self,
    frames: Float[Array, 'batch time dim'],
    mask: Bool[Array, 'batch time'],
  ) -> tuple[Tap, ...]:
    batch, _, dim = frames.shape
    x = jnp.broadcast_to(self._query(dim), (batch, 1, dim))
    x = x.astype(frames.dtype)
    taps = [one_step('speech/pooler/embed', x, mask)]
    for i, layer in enumerate(self.layers, 1):
      name = f'speech/pooler_{i:02}'
      with jax.named_scope(f'layer_{i:02}'):
        parts, weights = layer(x, frames, mask)
      taps += [one_step(name + part, y, mask) for part, y in parts]
      looks = weights[:, :, 0].swapaxes(1, 2)
      taps.append(Tap(f'{name}/weights', looks, mask))
      x = parts[-1][1]
    return *taps, one_step('speech/sentence', self.projection_out(x), mask)

  def _query(self, dim: int) -> Float[Array, ' dim']:
    row = self.embed_tokens.embedding[...][self.bos_index]
    return row * dim**0.5 + sinusoid(jnp.zeros((1, 1), int), dim)[0, 0]


def stages(config: Config) -> list[str]:
  return [f'speech/pooler_{i:02}' for i in range(1, config.layers + 1)]


def specs_of(config: Config) -> list[TapSpec]:
  """Every tap of a Pooler, in order; not its weights."""
  names = ['speech/pooler/embed']
  for name in stages(config):
    names += [name + part for part in ('/self', '/cross', '')]
  names.append('speech/sentence')
  return [TapSpec(name, config.hidden_size) for name in names]


def weights_of(config: Config) -> tuple[TapSpec, ...]:
  """Where the pooler looks: one map a layer, a column a head."""
  return tuple(
    TapSpec(f'{name}/weights', config.heads) for name in stages(config)
  )


# A layer's parts as fairseq2 and as fairseq call them.
RENAMES: Table = (
  (r'^(pooler\.layers\.\d+)\.encoder_decoder_attn', r'\1.encoder_attn'),
  *nllb.renames(r'pooler\.layers'),
)
