"""The encoders of SeamlessM4T v1 and v2 (Seamless Communication, 2023).

Text: an NLLB encoder (`ports.nllb`). Speech: a w2v-BERT 2.0 conformer
(`ports.conformer`; the two versions differ in nothing else), an extra
feed-forward block, and a length adaptor that turns 8 frames into one.
References: `SeamlessM4Tv2Encoder` and `SeamlessM4Tv2SpeechEncoder` of
transformers 5.23, with sdpa attention, and those of v1 without the v2.
Checkpoints: the hub's, and fairseq2's `.pt` files.

Where we differ on purpose: the reference's adaptor convolutions read padded
frames, so that its result for an utterance depends on the batch. We zero the
convolutions' input behind each utterance's end, which gives what the reference
gives for the utterance alone.

Speech taps after those of `ports.conformer`:

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
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from ports import conformer, nllb
from ports.configs import (
  TRANSFORMERS_FIELDS,
  ConfigError,
  check_parts,
  read_config,
  take,
)
from ports.convolutions import Conv
from ports.layers import (
  AdaptorParameters,
  LayerNorm,
  Tap,
  TapSpec,
  by_depth,
  glu,
  select,
  zero_padding,
)
from ports.loading import Layout, Network

# What a config may say without changing these two encoders.
UNREAD = (
  r'^(t2u|decoder|char|unit|vocoder|upsample|resblock|var_pred)_',
  r'^(lang|spkr)_embed_dim$',
  r'^variance_predictor_kernel_size$',
  r'dropout$',
  r'layerdrop$',
  r'^max_(position_embeddings|source_positions|new_tokens)$',
  r'^(bos|eos)_token_id$',
  r'^(initializer_range|leaky_relu_slope|sampling_rate)$',
  r'^num_(hidden_layers|attention_heads)$',
  r'^num_conv_pos_embedding',
  r'^rotary_embedding_base$',
  *TRANSFORMERS_FIELDS,
)
REQUIRED = {
  'activation_function': 'relu',
  'speech_encoder_hidden_act': 'swish',
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
  'adaptor_kernel_size': 8,
  'adaptor_stride': 8,
  'num_adapter_layers': 1,
}


class Version(NamedTuple):
  """What the configs of one version must say, and what they may."""

  required: dict[str, Any]
  defaults: dict[str, Any]


V1 = Version(
  REQUIRED
  | {'model_type': 'seamless_m4t', 'position_embeddings_type': 'relative'},
  DEFAULTS,
)
V2 = Version(
  REQUIRED
  | {
    'model_type': 'seamless_m4t_v2',
    'position_embeddings_type': 'relative_key',
  },
  DEFAULTS
  | {
    'left_max_position_embeddings': 64,
    'right_max_position_embeddings': 8,
    'speech_encoder_chunk_size': 20000,
    'speech_encoder_left_chunk_num': 128,
  },
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechConfig(conformer.SpeechConfig):
  """A conformer's sizes and the adaptor's."""

  adaptor_kernel_size: int = 8
  num_adapter_layers: int = 1


def text_config(
  config: Mapping[str, Any], version: Version = V2
) -> nllb.TextConfig:
  """From the hub's config.json; refuses what the port does not handle."""
  values = read_config(config, version.defaults, version.required, UNREAD)
  check_parts(values, 'hidden_size', 'encoder_attention_heads')
  return nllb.TextConfig(
    **take(nllb.TextConfig, values),
    first_position=values['pad_token_id'] + 1,
  )


def speech_config(
  config: Mapping[str, Any], version: Version = V2
) -> SpeechConfig:
  """From the hub's config.json; refuses what the port does not handle."""
  values = read_config(config, version.defaults, version.required, UNREAD)
  check_parts(values, 'hidden_size', 'speech_encoder_attention_heads')
  kernel, stride = values['adaptor_kernel_size'], values['adaptor_stride']
  if kernel != stride or kernel % 2:
    raise ConfigError(
      f'adaptor_kernel_size={kernel} with adaptor_stride={stride}: only equal,'
      ' even values are handled.'
    )
  return SpeechConfig(**take(SpeechConfig, values), batch_norm=version is V1)


class AdaptorLayer(nnx.Module):
  """Shortens time by its stride: M-adaptor (Zhao et al., 2022)."""

  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    dim, size = config.hidden_size, config.adaptor_kernel_size
    self.residual_layer_norm = LayerNorm(dim, rngs=rngs)
    strided = {'stride': size, 'padding': size // 2}
    self.residual_conv = Conv(dim, 2 * dim, size, **strided, rngs=rngs)
    self.self_attn_layer_norm = LayerNorm(dim, rngs=rngs)
    self.self_attn_conv = Conv(dim, 2 * dim, size, **strided, rngs=rngs)
    self.self_attn = conformer.SelfAttention(config, rngs=rngs)
    self.ffn_layer_norm = LayerNorm(dim, rngs=rngs)
    self.ffn = conformer.FeedForward(config, jax.nn.relu, rngs=rngs)

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

  @jax.named_scope('adaptor')
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
    self.feature_projection = conformer.FeatureProjection(config, rngs=rngs)
    self.encoder = conformer.Conformer(config, rngs=rngs)
    self.intermediate_ffn = conformer.FeedForward(
      config, jax.nn.relu, rngs=rngs
    )
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
    return (*conformer.taps_of(states, mask), *adaptor, output)


def speech_taps(
  config: SpeechConfig, fine: bool = False
) -> tuple[TapSpec, ...]:
  """The taps of a SpeechEncoder, in layer order."""
  names = ['speech/pre_adaptor']
  for stage in adaptor_stages(config.num_adapter_layers):
    names += [stage + part for part in ('/residual', '/pool', '/attn', '')]
  names.append('speech/output')
  specs = conformer.specs_of(config)
  specs += [TapSpec(name, config.hidden_size) for name in names]
  return select(specs, fine)


def counterparts(text: nllb.TextConfig, speech: SpeechConfig) -> dict[str, str]:
  """Speech stage → the text stage that it is compared with."""
  pairs = by_depth(text.encoder_layers, speech.speech_encoder_layers)
  for stage in ('norm', 'pre_adaptor', 'adaptor', 'output'):
    pairs[f'speech/{stage}'] = 'text/output'
  return pairs


DECODERS = (
  r'^(text_decoder|text_decoder_frontend|final_proj|lm_head|t2u_model|vocoder)\b',
  'not an encoder',
)
OTHER_TEXT = (r'^(shared|text_encoder|text_encoder_frontend)\.', 'text encoder')
OTHER_SPEECH = (r'^speech_encoder(_frontend)?\.', 'speech encoder')
TEXT_LAYOUTS = (
  Layout(
    'hub',
    r'^shared\.',
    renames=(
      (r'^shared\.', 'embed_tokens.'),
      (r'^text_encoder\.', ''),
    ),
    ignored=(
      (r'^text_encoder\.embed_tokens\.', 'a copy of shared.weight'),
      OTHER_SPEECH,
      DECODERS,
    ),
  ),
  Layout(
    'fairseq2',
    r'^text_encoder_frontend\.',
    renames=(
      (r'^text_encoder_frontend\.embed\.', 'embed_tokens.'),
      (r'^text_encoder\.', ''),
      *nllb.renames('layers'),
    ),
    ignored=(OTHER_SPEECH, DECODERS),
  ),
)
SPEECH_LAYOUTS = (
  Layout(
    'hub',
    r'^speech_encoder\.feature_projection\.',
    renames=((r'^speech_encoder\.', ''),),
    ignored=(OTHER_TEXT, conformer.COUNTER, DECODERS),
  ),
  Layout(
    'fairseq2',
    r'^speech_encoder_frontend\.',
    renames=(
      (r'^speech_encoder\.layer_norm\.', 'inner_layer_norm.'),
      (r'^speech_encoder\.inner_layer_norm\.', 'encoder.layer_norm.'),
      (r'^speech_encoder\.inner\.', 'encoder.'),
      (r'^speech_encoder\.proj1\.', 'intermediate_ffn.intermediate_dense.'),
      (r'^speech_encoder\.proj2\.', 'intermediate_ffn.output_dense.'),
      (r'^speech_encoder\.adaptor_layers\.', 'adapter.layers.'),
      (r'^(adapter\..*\.ffn)\.inner_proj\.', r'\1.intermediate_dense.'),
      (r'^(adapter\..*\.ffn)\.output_proj\.', r'\1.output_dense.'),
      *conformer.FAIRSEQ2_FRONTEND,
      *conformer.renames(r'encoder\.layers|adapter\.layers'),
    ),
    ignored=(OTHER_TEXT, conformer.COUNTER, DECODERS),
  ),
)
TEXT = Network(text_config, nllb.TextEncoder, nllb.taps, TEXT_LAYOUTS)
SPEECH = Network(
  speech_config,
  SpeechEncoder,
  speech_taps,
  SPEECH_LAYOUTS,
  adaptor=AdaptorParameters(
    r'^adapter\.',
    r'^adapter\..*\.(self_attn\.linear_out|ffn\.output_dense)\.',
  ),
)
TEXT_V1 = TEXT._replace(config=functools.partial(text_config, version=V1))
SPEECH_V1 = SPEECH._replace(config=functools.partial(speech_config, version=V1))
