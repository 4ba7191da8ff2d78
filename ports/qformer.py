"""SALMONN's Q-Former: one learned query reads each window of audio.

A post-norm BERT with cross-attention in every layer (Li et al., 2023).
References: `Blip2QFormerModel` of transformers 5.23, SALMONN's own `Qformer`.

Easily got wrong: ε is 1e-12 in all its norms; the query goes through a norm and
has no position; the feed-forward of a query is the `*_query` one; a window has
no mask.

| tap | reference |
|---|---|
| speech/qformer/embed | the query behind `embeddings.LayerNorm` |
| speech/qformer_NN/self, cross | after the norms behind both attentions |
| speech/qformer_NN | output of encoder.layer.(NN-1) |

One step a window; the query itself is one step.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ports.attention import attention, split_heads
from ports.configs import check_parts, read_config, take
from ports.layers import LayerNorm, Linear, TapSpec, gelu
from ports.loading import Table

Parts = list[tuple[str, Float[Array, '#window query dim']]]

REQUIRED = {'cross_attention_freq': 1, 'num_query_tokens': 1}
# Of SALMONN: the geometry of bert-base.
DEFAULTS = {
  'hidden_size': 768,
  'layers': 2,
  'heads': 12,
  'intermediate_size': 3072,
  'layer_norm_eps': 1e-12,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Sizes; `encoder_width` is of the frames that are read."""

  hidden_size: int
  layers: int
  heads: int
  intermediate_size: int
  layer_norm_eps: float
  encoder_width: int


def read(config: Mapping[str, Any], encoder_width: int) -> Config:
  """From a table of sizes; `encoder_width` in it has to be the one given."""
  required = REQUIRED | {'encoder_width': encoder_width}
  values = read_config(config, DEFAULTS, required, ())
  check_parts(values, 'hidden_size', 'heads')
  return Config(encoder_width=encoder_width, **take(Config, values))


class Attention(nnx.Module):
  """Attention of queries to rows of any width, a residual and its norm."""

  def __init__(self, config: Config, width: int, *, rngs: nnx.Rngs):
    dim = config.hidden_size
    self.heads = config.heads
    self.query = Linear(dim, dim, rngs=rngs)
    self.key = Linear(width, dim, rngs=rngs)
    self.value = Linear(width, dim, rngs=rngs)
    self.dense = Linear(dim, dim, rngs=rngs)
    self.norm = LayerNorm(dim, epsilon=config.layer_norm_eps, rngs=rngs)

  @jax.named_scope('attention')
  def __call__(
    self,
    x: Float[Array, 'window query dim'],
    rows: Float[Array, 'window row width'],
  ) -> Float[Array, 'window query dim']:
    q, k, v = (
      split_heads(proj(y), self.heads)
      for proj, y in ((self.query, x), (self.key, rows), (self.value, rows))
    )
    found = attention(q, k, v, jnp.ones((1, 1, k.shape[1]), bool))
    return self.norm(x + self.dense(found))


class Layer(nnx.Module):
  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    dim, inner = config.hidden_size, config.intermediate_size
    self.attention = Attention(config, dim, rngs=rngs)
    self.crossattention = Attention(config, config.encoder_width, rngs=rngs)
    self.fc1 = Linear(dim, inner, rngs=rngs)
    self.fc2 = Linear(inner, dim, rngs=rngs)
    self.norm = LayerNorm(dim, epsilon=config.layer_norm_eps, rngs=rngs)

  def __call__(
    self,
    x: Float[Array, 'window query dim'],
    frames: Float[Array, 'window time width'],
  ) -> Parts:
    own = self.attention(x, x)
    cross = self.crossattention(own, frames)
    output = self.norm(cross + self.fc2(gelu(self.fc1(cross))))
    return [('/self', own), ('/cross', cross), ('', output)]


class QFormer(nnx.Module):
  """Queries read the frames of each window."""

  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    self.norm = LayerNorm(
      config.hidden_size, epsilon=config.layer_norm_eps, rngs=rngs
    )
    self.layers = nnx.List(
      [Layer(config, rngs=rngs) for _ in range(config.layers)]
    )

  @jax.named_scope('adaptor')
  def __call__(
    self,
    queries: Float[Array, '1 query dim'],
    frames: Float[Array, 'window time width'],
  ) -> Parts:
    """The queries as they go in, then each layer's parts."""
    x = self.norm(queries).astype(frames.dtype)
    parts = [('qformer/embed', x)]
    x = jnp.broadcast_to(x, (len(frames), *x.shape[1:]))
    for i, layer in enumerate(self.layers, 1):
      with jax.named_scope(f'layer_{i:02}'):
        states = layer(x, frames)
      parts += [(f'qformer_{i:02}{part}', y) for part, y in states]
      x = parts[-1][1]
    return parts


def stages(config: Config) -> list[str]:
  return [f'speech/qformer_{i:02}' for i in range(1, config.layers + 1)]


def specs_of(config: Config) -> list[TapSpec]:
  """Every tap of a QFormer, in order."""
  names = ['speech/qformer/embed']
  for name in stages(config):
    names += [name + part for part in ('/self', '/cross', '')]
  return [TapSpec(name, config.hidden_size) for name in names]


# Behind the prefix of the Q-Former itself.
RENAMES: Table = (
  (r'^qformer\.bert\.embeddings\.LayerNorm\.', 'qformer.norm.'),
  (r'^qformer\.bert\.encoder\.layer\.', 'qformer.layers.'),
  (r'^(qformer\..*attention)\.self\.', r'\1.'),
  (r'^(qformer\..*attention)\.output\.dense\.', r'\1.dense.'),
  (r'^(qformer\..*attention)\.output\.LayerNorm\.', r'\1.norm.'),
  (r'^(qformer\..*)\.intermediate_query\.dense\.', r'\1.fc1.'),
  (r'^(qformer\..*)\.output_query\.dense\.', r'\1.fc2.'),
  (r'^(qformer\..*)\.output_query\.LayerNorm\.', r'\1.norm.'),
)
IGNORED: Table = (
  (r'^qformer\.bert\.embeddings\.position_ids$', 'a query has no position'),
)
