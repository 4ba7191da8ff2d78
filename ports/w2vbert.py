"""The conformer of w2v-BERT 2.0 (Seamless Communication, 2023).

Reference: `SeamlessM4Tv2ConformerEncoder` of transformers 5.23
(modeling_seamless_m4t_v2); its sdpa attention only, since eager attention adds
the boolean chunk mask there instead of masking with it.

Easily got wrong: the depthwise convolution is causal and followed by a layer
norm; distances are key − query, clipped to [−left, right]; attention inside a
chunk is not causal. The reference zeroes padded frames at the input of every
convolution; behind the valid frames a causal one never reads them.

| tap | reference |
|---|---|
| speech/embed/fbank | the extractor's frames, two to a stacked frame |
| speech/embed/stacked | input_features |
| speech/embed/norm | feature_projection.layer_norm |
| speech/embed | feature_projection.projection |
| speech/layer_NN/ffn1, attn, conv, ffn2 | the stream after each part |
| speech/layer_NN | output of encoder.layers.(NN-1) |
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from ports.layers import (
  DepthwiseConv,
  LayerNorm,
  Linear,
  PointwiseConv,
  TapSpec,
  attention,
  glu,
  split_heads,
  wide,
  zero_padding,
)

States = list[tuple[str, Float[Array, 'batch _ _']]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechConfig:
  """Sizes, by the names of the checkpoint's config."""

  hidden_size: int
  speech_encoder_layers: int
  speech_encoder_attention_heads: int
  speech_encoder_intermediate_size: int
  feature_projection_input_dim: int = 160
  conv_depthwise_kernel_size: int = 31
  left_max_position_embeddings: int = 64
  right_max_position_embeddings: int = 8
  speech_encoder_chunk_size: int | None = 20000
  speech_encoder_left_chunk_num: int = 128
  layer_norm_eps: float = 1e-5


class FeatureProjection(nnx.Module):
  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    p = config.feature_projection_input_dim
    self.layer_norm = LayerNorm(p, epsilon=config.layer_norm_eps, rngs=rngs)
    self.projection = Linear(p, config.hidden_size, rngs=rngs)

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
    self.intermediate_dense = Linear(dim, ffn, rngs=rngs)
    self.output_dense = Linear(ffn, dim, rngs=rngs)

  def __call__(
    self, x: Float[Array, 'batch time dim']
  ) -> Float[Array, 'batch time dim']:
    return self.output_dense(self.activation(self.intermediate_dense(x)))


class SelfAttention(nnx.Module):
  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    dim = config.hidden_size
    self.heads = config.speech_encoder_attention_heads
    self.linear_q = Linear(dim, dim, rngs=rngs)
    self.linear_k = Linear(dim, dim, rngs=rngs)
    self.linear_v = Linear(dim, dim, rngs=rngs)
    self.linear_out = Linear(dim, dim, rngs=rngs)

  def __call__(
    self,
    x: Float[Array, 'batch time dim'],
    allowed: Bool[Array, 'batch #time time'],
  ) -> Float[Array, 'batch time dim']:
    q, k, v = (
      split_heads(linear(x), self.heads)
      for linear in (self.linear_q, self.linear_k, self.linear_v)
    )
    return self.linear_out(attention(q, k, v, allowed, self.bias(q)))

  def bias(self, q: Float[Array, 'batch time head d']) -> None:
    return None


class RelativeSelfAttention(SelfAttention):
  """Adds the relative keys of Shaw et al. (2018), without their values."""

  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    super().__init__(config, rngs=rngs)
    self.left = config.left_max_position_embeddings
    self.right = config.right_max_position_embeddings
    self.distance_embedding = nnx.Embed(
      self.left + self.right + 1, config.hidden_size // self.heads, rngs=rngs
    )

  def bias(
    self, q: Float[Array, 'batch time head d']
  ) -> Float[Array, 'batch head time time']:
    """q · E[clip(key − query)] / √d, through the products with all of E."""
    products = jnp.einsum(
      'bqhd,ed->bhqe',
      q,
      self.distance_embedding.embedding[...],
      preferred_element_type=wide(q.dtype),
    )
    step = np.arange(q.shape[1])
    distance = np.clip(step[None] - step[:, None], -self.left, self.right)
    index = jnp.asarray(distance + self.left)[None, None]
    bias = jnp.take_along_axis(products, index, axis=-1)
    return bias * q.shape[-1] ** -0.5


class ConvModule(nnx.Module):
  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    dim, size = config.hidden_size, config.conv_depthwise_kernel_size
    self.layer_norm = LayerNorm(dim, rngs=rngs)
    self.pointwise_conv1 = PointwiseConv(dim, 2 * dim, rngs=rngs)
    self.depthwise_conv = DepthwiseConv(dim, size, rngs=rngs)
    self.depthwise_layer_norm = LayerNorm(dim, rngs=rngs)
    self.pointwise_conv2 = PointwiseConv(dim, dim, rngs=rngs)

  def __call__(
    self, x: Float[Array, 'batch time dim']
  ) -> Float[Array, 'batch time dim']:
    x = self.pointwise_conv1(self.layer_norm(x))
    x = self.depthwise_conv(glu(x))
    return self.pointwise_conv2(jax.nn.silu(self.depthwise_layer_norm(x)))


class Layer(nnx.Module):
  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    dim = config.hidden_size
    self.ffn1_layer_norm = LayerNorm(dim, rngs=rngs)
    self.ffn1 = FeedForward(config, jax.nn.silu, rngs=rngs)
    self.self_attn_layer_norm = LayerNorm(dim, rngs=rngs)
    self.self_attn = RelativeSelfAttention(config, rngs=rngs)
    self.conv_module = ConvModule(config, rngs=rngs)
    self.ffn2_layer_norm = LayerNorm(dim, rngs=rngs)
    self.ffn2 = FeedForward(config, jax.nn.silu, rngs=rngs)
    self.final_layer_norm = LayerNorm(dim, rngs=rngs)

  def __call__(
    self,
    x: Float[Array, 'batch time dim'],
    allowed: Bool[Array, 'batch #time time'],
  ) -> States:
    """The stream after each part, then the layer's output (name '')."""
    ffn1 = x + 0.5 * self.ffn1(self.ffn1_layer_norm(x))
    attn = ffn1 + self.self_attn(self.self_attn_layer_norm(ffn1), allowed)
    conv = attn + self.conv_module(attn)
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
  """The layers, and the layer norm that Seamless puts behind them."""

  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    self.config = config
    self.layers = nnx.List(
      [Layer(config, rngs=rngs) for _ in range(config.speech_encoder_layers)]
    )
    self.layer_norm = LayerNorm(
      config.hidden_size, epsilon=config.layer_norm_eps, rngs=rngs
    )

  def __call__(
    self, x: Float[Array, 'batch time dim'], mask: Bool[Array, 'batch time']
  ) -> States:
    allowed = allowed_keys(self.config, mask)
    states = []
    for i, layer in enumerate(self.layers, 1):
      parts = layer(x, allowed)
      states += [(f'speech/layer_{i:02}{part}', y) for part, y in parts]
      x = states[-1][1]
    return [*states, ('speech/norm', self.layer_norm(x))]


def conformer_taps(config: SpeechConfig) -> list[TapSpec]:
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
  return [*specs, TapSpec('speech/norm', dim)]
