"""The encoders of SeamlessM4T v2 (Seamless Communication, 2023).

Text: an NLLB encoder (`ports.nllb`). Speech: a w2v-BERT 2.0 conformer
(`ports.w2vbert`), an extra feed-forward block, and a length adaptor that turns
8 frames into one. Reference: `SeamlessM4Tv2Encoder` and
`SeamlessM4Tv2SpeechEncoder` of transformers 5.23, with sdpa attention.

Where we differ on purpose: the reference's adaptor convolutions read padded
frames, so that its result for an utterance depends on the batch. We zero the
convolutions' input behind each utterance's end, which gives what the reference
gives for the utterance alone.

Speech taps after those of `ports.w2vbert`:

| tap | reference | compared with |
|---|---|---|
| speech/norm | encoder.layer_norm | text/output |
| speech/pre_adaptor | after intermediate_ffn (*before*) | text/output |
| speech/adaptor/residual, pool | GLU of residual_conv, self_attn_conv | |
| speech/adaptor/attn | the stream after the adaptor's attention | |
| speech/adaptor | output of adapter.layers (*after*) | text/output |
| speech/output | inner_layer_norm | text/output |

speech/embed is compared with text/embed, speech/layer_NN with the text layer of
the same relative depth. With several adaptor layers the finer taps are named
speech/adaptor/N/….
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from ports import nllb, w2vbert
from ports.layers import (
  LayerNorm,
  StridedConv,
  Tap,
  TapSpec,
  glu,
  select,
  zero_padding,
)
from ports.loading import (
  TRANSFORMERS_FIELDS,
  ConfigError,
  Network,
  read_config,
  take,
)

# What a config may say without changing these two encoders.
UNREAD = (
  r'^(t2u|decoder|char|unit|vocoder|upsample|resblock|var_pred|output)_',
  r'^(lang|spkr)_embed_dim$',
  r'^variance_predictor_kernel_size$',
  r'dropout$',
  r'layerdrop$',
  r'^max_(position_embeddings|source_positions|new_tokens)$',
  r'^(bos|eos)_token_id$',
  r'^(initializer_range|leaky_relu_slope|sampling_rate)$',
  r'^num_(hidden_layers|attention_heads)$',
  *TRANSFORMERS_FIELDS,
)
REQUIRED = {
  'model_type': 'seamless_m4t_v2',
  'activation_function': 'relu',
  'speech_encoder_hidden_act': 'swish',
  'position_embeddings_type': 'relative_key',
  'add_adapter': True,
}
# Released values, which the reference's class takes where a config is silent.
DEFAULTS = {
  'vocab_size': 256102,
  'hidden_size': 1024,
  'layer_norm_eps': 1e-5,
  'scale_embedding': True,
  'pad_token_id': 0,
  'encoder_layers': 24,
  'encoder_attention_heads': 16,
  'encoder_ffn_dim': 8192,
  'speech_encoder_layers': 24,
  'speech_encoder_attention_heads': 16,
  'speech_encoder_intermediate_size': 4096,
  'feature_projection_input_dim': 160,
  'conv_depthwise_kernel_size': 31,
  'left_max_position_embeddings': 64,
  'right_max_position_embeddings': 8,
  'speech_encoder_chunk_size': 20000,
  'speech_encoder_left_chunk_num': 128,
  'adaptor_kernel_size': 8,
  'adaptor_stride': 8,
  'num_adapter_layers': 1,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechConfig(w2vbert.SpeechConfig):
  """A conformer's sizes and the adaptor's."""

  adaptor_kernel_size: int = 8
  num_adapter_layers: int = 1


def text_config(config: Mapping[str, Any]) -> nllb.TextConfig:
  """From the hub's config.json; refuses what the port does not handle."""
  values = read_config(config, DEFAULTS, REQUIRED, UNREAD)
  return nllb.TextConfig(
    **take(nllb.TextConfig, values),
    first_position=values['pad_token_id'] + 1,
  )


def speech_config(config: Mapping[str, Any]) -> SpeechConfig:
  """From the hub's config.json; refuses what the port does not handle."""
  values = read_config(config, DEFAULTS, REQUIRED, UNREAD)
  kernel, stride = values['adaptor_kernel_size'], values['adaptor_stride']
  if kernel != stride or kernel % 2:
    raise ConfigError(
      f'adaptor_kernel_size={kernel} with adaptor_stride={stride}: only equal,'
      ' even values are handled.'
    )
  return SpeechConfig(**take(SpeechConfig, values))


class AdaptorLayer(nnx.Module):
  """Shortens time by its stride: M-adaptor (Zhao et al., 2022)."""

  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    dim, size = config.hidden_size, config.adaptor_kernel_size
    self.residual_layer_norm = LayerNorm(dim, rngs=rngs)
    self.residual_conv = StridedConv(dim, 2 * dim, size, rngs=rngs)
    self.self_attn_layer_norm = LayerNorm(dim, rngs=rngs)
    self.self_attn_conv = StridedConv(dim, 2 * dim, size, rngs=rngs)
    self.self_attn = w2vbert.SelfAttention(config, rngs=rngs)
    self.ffn_layer_norm = LayerNorm(dim, rngs=rngs)
    self.ffn = w2vbert.FeedForward(config, jax.nn.relu, rngs=rngs)

  def __call__(
    self,
    x: Float[Array, 'batch time dim'],
    mask: Bool[Array, 'batch time'],
    pooled_mask: Bool[Array, 'batch window'],
  ) -> list[tuple[str, Float[Array, 'batch window dim']]]:
    """The parts, then the layer's output (name '')."""
    residual = zero_padding(self.residual_layer_norm(x), mask)
    residual = glu(self.residual_conv(residual))
    pool = zero_padding(self.self_attn_layer_norm(x), mask)
    pool = glu(self.self_attn_conv(pool))
    attn = residual + self.self_attn(pool, pooled_mask[:, None])
    return [
      ('/residual', residual),
      ('/pool', pool),
      ('/attn', attn),
      ('', attn + self.ffn(self.ffn_layer_norm(attn))),
    ]


class Adaptor(nnx.Module):
  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    self.size = config.adaptor_kernel_size
    self.layers = nnx.List(
      [
        AdaptorLayer(config, rngs=rngs)
        for _ in range(config.num_adapter_layers)
      ]
    )

  def __call__(
    self, x: Float[Array, 'batch time dim'], mask: Bool[Array, 'batch time']
  ) -> list[Tap]:
    taps = []
    stages = adaptor_stages(len(self.layers))
    for layer, stage in zip(self.layers, stages, strict=True):
      pooled_mask = self._shorten(mask)
      parts = layer(x, mask, pooled_mask)
      taps += [Tap(stage + part, y, pooled_mask) for part, y in parts]
      x, mask = taps[-1].states, pooled_mask
    return taps

  def _shorten(self, mask: Bool[Array, 'batch time']):
    """⌊n/8⌋ + 1 valid states for n valid frames, and none for none."""
    n = mask.sum(axis=1)
    windows = jnp.arange(mask.shape[1] // self.size + 1)
    return (windows <= n[:, None] // self.size) & (n[:, None] > 0)


def adaptor_stages(layers: int) -> list[str]:
  """Each adaptor layer's tap; the last one is the adaptor's own."""
  inner = [f'speech/adaptor/{i}' for i in range(1, layers)]
  return [*inner, 'speech/adaptor']


class SpeechEncoder(nnx.Module):
  """Stacked log-mel frames to the states of every stage."""

  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    self.feature_projection = w2vbert.FeatureProjection(config, rngs=rngs)
    self.encoder = w2vbert.Conformer(config, rngs=rngs)
    self.intermediate_ffn = w2vbert.FeedForward(config, jax.nn.relu, rngs=rngs)
    self.adapter = Adaptor(config, rngs=rngs)
    self.inner_layer_norm = LayerNorm(config.hidden_size, rngs=rngs)

  def __call__(
    self,
    features: Float[Array, 'batch time p'],
    mask: Bool[Array, 'batch time'],
  ) -> tuple[Tap, ...]:
    """Every tap, fine ones too: what a jitted caller drops is not computed."""
    states = self.feature_projection(features, mask)
    states += self.encoder(states[-1][1], mask)
    x = states[-1][1]
    x = x + 0.5 * self.intermediate_ffn(x)
    states.append(('speech/pre_adaptor', x))
    adaptor = self.adapter(x, mask)
    last = adaptor[-1]
    output = Tap('speech/output', self.inner_layer_norm(last.states), last.mask)
    frames = jnp.repeat(mask, 2, axis=1)
    before = [
      Tap(name, x, frames if name == 'speech/embed/fbank' else mask)
      for name, x in states
    ]
    return (*before, *adaptor, output)


def speech_taps(
  config: SpeechConfig, fine: bool = False
) -> tuple[TapSpec, ...]:
  """The taps of a SpeechEncoder, in layer order."""
  names = ['speech/pre_adaptor']
  for stage in adaptor_stages(config.num_adapter_layers):
    names += [stage + part for part in ('/residual', '/pool', '/attn', '')]
  names.append('speech/output')
  specs = w2vbert.conformer_taps(config)
  specs += [TapSpec(name, config.hidden_size) for name in names]
  return select(specs, fine)


def counterparts(text: nllb.TextConfig, speech: SpeechConfig) -> dict[str, str]:
  """Speech stage → the text stage that it is compared with."""
  pairs = {'speech/embed': 'text/embed'}
  depth = speech.speech_encoder_layers
  for i in range(1, depth + 1):
    match = max(round(i * text.encoder_layers / depth), 1)
    pairs[f'speech/layer_{i:02}'] = f'text/layer_{match:02}'
  for stage in ('norm', 'pre_adaptor', 'adaptor', 'output'):
    pairs[f'speech/{stage}'] = 'text/output'
  return pairs


TEXT = Network(
  config=text_config,
  encoder=nllb.TextEncoder,
  taps=nllb.taps,
  renames=((r'^shared\.', 'embed_tokens.'), (r'^text_encoder\.', '')),
  ignored=(
    (r'^text_encoder\.embed_tokens\.', 'a copy of shared.weight'),
    (r'^speech_encoder\.', 'loaded as the speech encoder'),
    (r'^(text_decoder|lm_head|t2u_model|vocoder)\b', 'not an encoder'),
  ),
)
SPEECH = Network(
  config=speech_config,
  encoder=SpeechEncoder,
  taps=speech_taps,
  renames=((r'^speech_encoder\.', ''),),
  ignored=(
    (r'^(shared|text_encoder)\.', 'loaded as the text encoder'),
    (r'^(text_decoder|lm_head|t2u_model|vocoder)\b', 'not an encoder'),
  ),
)
