"""The conformers of w2v-BERT 2.0, both of its architectures.

| | `batch_norm=False` (v2) | `batch_norm=True` (v1) |
|---|---|---|
| in | SeamlessM4T v2, w2v-BERT 2.0 on the hub | SeamlessM4T v1, SONAR |
| convolution | causal, then a layer norm | centred, then a batch norm |
| positions | keys by clipped distance (Shaw et al., 2018) | Transformer-XL |

References: `SeamlessM4Tv2ConformerEncoder` (its sdpa attention only: the eager
one adds the boolean chunk mask instead of masking with it) and
`SeamlessM4TConformerEncoder` of transformers 5.23; for SONAR fairseq2 0.8.

Easily got wrong: Shaw's distances are key − query, clipped to [−left, right],
Transformer-XL's are query − key, sine and cosine in turn; attention inside a
chunk is not causal. Padded frames are zeroed at the input of every centred
convolution; behind the valid frames a causal one never reads them.

| tap | reference |
|---|---|
| speech/embed/fbank | the extractor's frames, two to a stacked frame |
| speech/embed/stacked | input_features |
| speech/embed/norm | feature_projection.layer_norm |
| speech/embed | feature_projection.projection |
| speech/layer_NN/ffn1, attn, conv, ffn2 | the stream after each part |
| speech/layer_NN | output of encoder.layers.(NN-1) |
| speech/norm | encoder.layer_norm, where there is one |
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from ports.attention import Relative, attention, split_heads
from ports.convolutions import (
  DepthwiseConv,
  InnerPointwiseConv,
  PointwiseConv,
)
from ports.layers import (
  BatchNorm,
  InnerLinear,
  LayerNorm,
  Linear,
  Tap,
  TapSpec,
  glu,
  relative_sinusoid,
  zero_padding,
)
from ports.loading import Table

States = list[tuple[str, Float[Array, 'batch _ _']]]
Queries = Float[Array, 'batch time head d']
Positions = Float[Array, 'distance dim'] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechConfig:
  """Sizes, by the names of Seamless's config.json.

  `layer_norm_eps` is that of the norms in front of the layers and behind them.
  """

  hidden_size: int
  speech_encoder_layers: int
  speech_encoder_attention_heads: int
  speech_encoder_intermediate_size: int
  feature_projection_input_dim: int = 160
  conv_depthwise_kernel_size: int = 31
  batch_norm: bool = False
  left_max_position_embeddings: int = 64
  right_max_position_embeddings: int = 8
  speech_encoder_chunk_size: int | None = None
  speech_encoder_left_chunk_num: int = 128
  layer_norm_eps: float = 1e-5


class FeatureProjection(nnx.Module):
  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    p = config.feature_projection_input_dim
    self.layer_norm = LayerNorm(p, epsilon=config.layer_norm_eps, rngs=rngs)
    self.projection = Linear(p, config.hidden_size, rngs=rngs)

  @jax.named_scope('embed')
  def __call__(
    self,
    features: Float[Array, 'batch time p'],
    mask: Bool[Array, 'batch time'],
  ) -> States:
    features = zero_padding(features, mask)
    normed = self.layer_norm(features)
    batch, time, p = features.shape
    return [
      ('speech/embed/fbank', features.reshape(batch, 2 * time, p // 2)),
      ('speech/embed/stacked', features),
      ('speech/embed/norm', normed),
      ('speech/embed', self.projection(normed)),
    ]


class FeedForward(nnx.Module):
  def __init__(self, config: SpeechConfig, activation, *, rngs: nnx.Rngs):
    dim, ffn = config.hidden_size, config.speech_encoder_intermediate_size
    self.activation = activation
    self.intermediate_dense = InnerLinear(dim, ffn, rngs=rngs)
    self.output_dense = Linear(ffn, dim, rngs=rngs)

  @jax.named_scope('feed_forward')
  def __call__(
    self, x: Float[Array, 'batch time dim']
  ) -> Float[Array, 'batch time dim']:
    return self.output_dense(self.activation(self.intermediate_dense(x)))


class SelfAttention(nnx.Module):
  """Attention without positions."""

  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    dim = config.hidden_size
    self.heads = config.speech_encoder_attention_heads
    self.linear_q = Linear(dim, dim, rngs=rngs)
    self.linear_k = Linear(dim, dim, rngs=rngs)
    self.linear_v = Linear(dim, dim, rngs=rngs)
    self.linear_out = Linear(dim, dim, rngs=rngs)

  @jax.named_scope('attention')
  def __call__(
    self,
    x: Float[Array, 'batch time dim'],
    allowed: Bool[Array, 'batch #time time'],
    positions: Positions = None,
  ) -> Float[Array, 'batch time dim']:
    q, k, v = (
      split_heads(linear(x), self.heads)
      for linear in (self.linear_q, self.linear_k, self.linear_v)
    )
    q, bias = self.placed(q, positions)
    return self.linear_out(attention(q, k, v, allowed, bias))

  def placed(
    self, q: Queries, positions: Positions
  ) -> tuple[Queries, Relative | None]:
    """The queries that meet the keys, and what positions add to the scores."""
    return q, None


class ShawAttention(SelfAttention):
  """Adds the relative keys of Shaw et al. (2018), without their values."""

  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    self.left = config.left_max_position_embeddings
    self.right = config.right_max_position_embeddings
    self.distance_embedding = nnx.Embed(
      self.left + self.right + 1, config.hidden_size // self.heads, rngs=rngs
    )

  def placed(
    self, q: Queries, positions: Positions
  ) -> tuple[Queries, Relative | None]:
    """Adds q · E[clip(key − query)] / √d, by the products with all of E."""

    table = self.distance_embedding.embedding[...]
    return q, Relative(q.swapaxes(1, 2), table[None, None], self.left)


class TransformerXLAttention(SelfAttention):
  """Relative positions of Dai et al. (2019), equation at the end of §3.3."""

  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    dim = config.hidden_size
    self.linear_pos = Linear(dim, dim, use_bias=False, rngs=rngs)
    self.pos_bias_u = nnx.Param(jnp.zeros((self.heads, dim // self.heads)))
    self.pos_bias_v = nnx.Param(jnp.zeros((self.heads, dim // self.heads)))

  def placed(
    self, q: Queries, positions: Positions
  ) -> tuple[Queries, Relative | None]:
    """(q + u) for the keys, and (q + v) · R(query − key) / √d."""
    relative = split_heads(self.linear_pos(positions)[None], self.heads)
    shifted = q + self.pos_bias_v[...].astype(q.dtype)
    bias = Relative(
      shifted.swapaxes(1, 2), relative.swapaxes(1, 2), q.shape[1] - 1
    )
    return q + self.pos_bias_u[...].astype(q.dtype), bias


class ConvModule(nnx.Module):
  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    dim, size = config.hidden_size, config.conv_depthwise_kernel_size
    self.centred = config.batch_norm
    self.layer_norm = LayerNorm(dim, rngs=rngs)
    self.pointwise_conv1 = InnerPointwiseConv(dim, 2 * dim, rngs=rngs)
    self.depthwise_conv = DepthwiseConv(
      dim, size, causal=not self.centred, rngs=rngs
    )
    if self.centred:
      self.batch_norm = BatchNorm(dim)
    else:
      self.depthwise_layer_norm = LayerNorm(dim, rngs=rngs)
    self.pointwise_conv2 = PointwiseConv(dim, dim, rngs=rngs)

  @jax.named_scope('convolution')
  def __call__(
    self, x: Float[Array, 'batch time dim'], mask: Bool[Array, 'batch time']
  ) -> Float[Array, 'batch time dim']:
    x = self.layer_norm(x)
    if self.centred:
      x = zero_padding(x, mask)
    x = self.depthwise_conv(glu(self.pointwise_conv1(x)))
    norm = self.batch_norm if self.centred else self.depthwise_layer_norm
    return self.pointwise_conv2(jax.nn.silu(norm(x)))


class Layer(nnx.Module):
  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    dim = config.hidden_size
    self.ffn1_layer_norm = LayerNorm(dim, rngs=rngs)
    self.ffn1 = FeedForward(config, jax.nn.silu, rngs=rngs)
    self.self_attn_layer_norm = LayerNorm(dim, rngs=rngs)
    attention = TransformerXLAttention if config.batch_norm else ShawAttention
    self.self_attn = attention(config, rngs=rngs)
    self.conv_module = ConvModule(config, rngs=rngs)
    self.ffn2_layer_norm = LayerNorm(dim, rngs=rngs)
    self.ffn2 = FeedForward(config, jax.nn.silu, rngs=rngs)
    self.final_layer_norm = LayerNorm(dim, rngs=rngs)

  def __call__(
    self,
    x: Float[Array, 'batch time dim'],
    mask: Bool[Array, 'batch time'],
    allowed: Bool[Array, 'batch #time time'],
    positions: Positions,
  ) -> States:
    """The stream after each part, then the layer's output (name '')."""
    ffn1 = x + 0.5 * self.ffn1(self.ffn1_layer_norm(x))
    normed = self.self_attn_layer_norm(ffn1)
    attn = ffn1 + self.self_attn(normed, allowed, positions)
    conv = attn + self.conv_module(attn, mask)
    ffn2 = conv + 0.5 * self.ffn2(self.ffn2_layer_norm(conv))
    return [
      ('/ffn1', ffn1),
      ('/attn', attn),
      ('/conv', conv),
      ('/ffn2', ffn2),
      ('', self.final_layer_norm(ffn2)),
    ]


def allowed_keys(
  config: SpeechConfig, mask: Bool[Array, 'batch time']
) -> Bool[Array, 'batch #time time']:
  """Valid keys of the query's chunk and of the chunks to its left."""
  time, size = mask.shape[1], config.speech_encoder_chunk_size
  if size is None or time <= size:
    return mask[:, None]
  step = np.arange(time)
  chunk = step // size
  first = np.zeros_like(chunk)
  if config.speech_encoder_left_chunk_num >= 0:
    left = chunk - config.speech_encoder_left_chunk_num
    first = np.maximum(left, 0) * size
  inside = (step >= first[:, None]) & (step < (chunk[:, None] + 1) * size)
  return mask[:, None] & inside


class Conformer(nnx.Module):
  """The layers, and the layer norm that some models have behind them."""

  def __init__(
    self, config: SpeechConfig, *, norm: bool = True, rngs: nnx.Rngs
  ):
    self.config = config
    self.layers = nnx.List(
      [Layer(config, rngs=rngs) for _ in range(config.speech_encoder_layers)]
    )
    dim, epsilon = config.hidden_size, config.layer_norm_eps
    self.layer_norm = (
      LayerNorm(dim, epsilon=epsilon, rngs=rngs) if norm else None
    )

  def __call__(
    self, x: Float[Array, 'batch time dim'], mask: Bool[Array, 'batch time']
  ) -> States:
    allowed = allowed_keys(self.config, mask)
    positions = None
    if self.config.batch_norm:
      positions = relative_sinusoid(x.shape[1], x.shape[2])
    states = []
    for i, layer in enumerate(self.layers, 1):
      with jax.named_scope(f'layer_{i:02}'):
        parts = layer(x, mask, allowed, positions)
      states += [(f'speech/layer_{i:02}{part}', y) for part, y in parts]
      x = states[-1][1]
    if self.layer_norm is not None:
      states.append(('speech/norm', self.layer_norm(x)))
    return states


def taps_of(states: States, mask: Bool[Array, 'batch time']) -> list[Tap]:
  """The states with the mask of their steps; frames are two to a step."""
  frames = jnp.repeat(mask, 2, axis=1)
  return [
    Tap(name, x, frames if name == 'speech/embed/fbank' else mask)
    for name, x in states
  ]


def specs_of(config: SpeechConfig, norm: bool = True) -> list[TapSpec]:
  """Every tap of FeatureProjection and Conformer, in order."""
  p, dim = config.feature_projection_input_dim, config.hidden_size
  specs = [
    TapSpec('speech/embed/fbank', p // 2),
    TapSpec('speech/embed/stacked', p),
    TapSpec('speech/embed/norm', p),
    TapSpec('speech/embed', dim),
  ]
  for i in range(1, config.speech_encoder_layers + 1):
    for part in ('/ffn1', '/attn', '/conv', '/ffn2', ''):
      specs.append(TapSpec(f'speech/layer_{i:02}{part}', dim))
  return [*specs, TapSpec('speech/norm', dim)] if norm else specs


def renames(layers: str) -> Table:
  """fairseq's and fairseq2's names of a layer → the hub's.

  Args:
    layers: pattern of the keys in front of '.<number>.', to which alone these
      renames apply.
  """
  inner = rf'^((?:{layers})\.\d+)'
  return (
    (rf'{inner}\.ffn([12])\.layer_norm\.', r'\1.ffn\2_layer_norm.'),
    (
      rf'{inner}\.ffn([12])\.(w_1|inner_proj)\.',
      r'\1.ffn\2.intermediate_dense.',
    ),
    (rf'{inner}\.ffn([12])\.(w_2|output_proj)\.', r'\1.ffn\2.output_dense.'),
    (rf'{inner}\.self_attn\.([qkv])_proj\.', r'\1.self_attn.linear_\2.'),
    (rf'{inner}\.self_attn\.output_proj\.', r'\1.self_attn.linear_out.'),
    (rf'{inner}\.self_attn\.sdpa\.r_proj\.', r'\1.self_attn.linear_pos.'),
    (rf'{inner}\.self_attn\.sdpa\.([uv])_bias$', r'\1.self_attn.pos_bias_\2'),
    (
      rf'{inner}\.self_attn\.sdpa\.rel_k_embed\.',
      r'\1.self_attn.distance_embedding.',
    ),
    (rf'{inner}\.conv_layer_norm\.', r'\1.conv_module.layer_norm.'),
    (rf'{inner}\.conv\.layer_norm\.', r'\1.conv_module.depthwise_layer_norm.'),
    (rf'{inner}\.conv\.', r'\1.conv_module.'),
    (rf'{inner}\.layer_norm\.', r'\1.final_layer_norm.'),
  )


FAIRSEQ2_FRONTEND: Table = (
  (
    r'^(speech_)?encoder_frontend\.post_extract_layer_norm\.',
    'feature_projection.layer_norm.',
  ),
  (
    r'^(speech_)?encoder_frontend\.model_dim_proj\.',
    'feature_projection.projection.',
  ),
)
COUNTER = (r'\.batch_norm\.num_batches_tracked$', 'counts training steps')
