"""The encoders of SONAR (Duquenne et al., 2023): one vector a sentence.

Text: an NLLB encoder (`ports.nllb`) and the mean over its tokens, language and
`</s>` included. Speech, one network a language: a w2v-BERT conformer as in
SeamlessM4T v1 (`ports.conformer`), and a pooler (`ports.pooler`) in place of a
length adaptor.
References: sonar-space 0.5.0 on fairseq2 0.8.1, `M2M100Encoder` of
transformers 5.23 for text. Checkpoints: the released `.pt` files in fairseq's
and fairseq2's names, and the hub's M2M100 conversion of the text encoder,
whose tokens are numbered otherwise.

Easily got wrong: the first token of a text stands at position 2, the pooler's
query at 0; the norm behind the conformer is an accident of the pre-training
that has to be kept; nothing is normalised to length 1. The reference refuses
more than 4,096 stacked frames (82 s); this goes on, as transformers does.

Taps after those of `ports.nllb` and `ports.conformer`:

| tap | reference | compared with |
|---|---|---|
| text/sentence | mean over text/output | |
| speech/norm | layer_norm, what is pooled (*before*) | text/output |
| speech/pooler_NN | as in `ports.pooler` | text/sentence |
| speech/sentence | as in `ports.pooler` (*after*) | text/sentence |
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ports import conformer, nllb, pooler
from ports.configs import check_parts, read_config, whole
from ports.layers import (
  AdaptorParameters,
  Tap,
  TapSpec,
  by_depth,
  one_step,
  select,
  wide,
  zero_padding,
)
from ports.loading import Layout, Network

# A config.json beside a '.pt' names sizes as fairseq2 does. The released files
# have none: what it leaves out has the released size.
NOTES = r'^(reference|arch|seed|sequences|utterances|checks|versions)$'
TEXT_REQUIRED = {
  'activation': 'relu',
  'norm_order': re.compile('pre.*'),
  'position': re.compile('sinusoid.*offset 2.*'),
  'pooling': 'mean',
  'layer_norm_eps': 1e-5,
}
TEXT_SIZES = {
  'model_dim': 1024,
  'num_layers': 24,
  'num_heads': 16,
  'ffn_inner_dim': 8192,
  'vocab_size': 256206,
  'max_source_positions': 512,
  'max_tokens': None,
  'scale_embedding': True,
}
SPECIALS = 2  # the language and </s>, which max_source_positions leaves out
CONFORMER_REQUIRED = {
  'activation': 'silu',
  'norm': 'batch_norm',
  'position': re.compile('relative.*'),
  'num_fbank_channels': 80,
  'fbank_stride': 2,
}
CONFORMER_SIZES = {
  'model_dim': 1024,
  'num_layers': 24,
  'num_heads': 16,
  'ffn_inner_dim': 4096,
  'depthwise_conv_kernel_size': 31,
  'feature_dim': 160,
}
POOLER_REQUIRED = {'activation': 'relu', 'norm_order': 'post'}
POOLER_SIZES = {
  'num_layers': 6,
  'num_heads': 16,
  'ffn_inner_dim': 4096,
  'bos_idx': 2,
  'num_embeddings': 1024,
}
FBANK_REQUIRED = {
  'sample_rate': 16000,
  'waveform_scale': 32768,
  'num_mel_bins': 80,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechConfig(conformer.SpeechConfig):
  """A conformer's sizes and the pooler's."""

  pooler: pooler.Config


def text_config(config: Mapping[str, Any]) -> nllb.TextConfig:
  """From a config.json, the hub's or one in fairseq2's names.

  Raises:
    ConfigError: It asks for what the port does not handle.
  """
  if config.get('model_type') == nllb.REQUIRED['model_type']:
    sizes = nllb.text_config(config)
    limit = TEXT_SIZES['max_source_positions'] + SPECIALS
    return dataclasses.replace(sizes, max_tokens=limit)
  unread = (NOTES, r'^pad_idx_in_batches$')
  values = read_config(config, TEXT_SIZES, TEXT_REQUIRED, unread)
  check_parts(values, 'model_dim', 'num_heads')
  limit = values['max_source_positions'] + SPECIALS
  if values['max_tokens'] is not None:
    limit = whole('max_tokens', values['max_tokens'])
  return nllb.TextConfig(
    vocab_size=values['vocab_size'],
    hidden_size=values['model_dim'],
    encoder_layers=values['num_layers'],
    encoder_attention_heads=values['num_heads'],
    encoder_ffn_dim=values['ffn_inner_dim'],
    scale_embedding=values['scale_embedding'],
    max_tokens=limit,
  )


def speech_config(config: Mapping[str, Any]) -> SpeechConfig:
  """From a config.json in fairseq2's names.

  Raises:
    ConfigError: It asks for what the port does not handle.
  """
  epsilons = {'layer_norm_eps': 1e-5, 'batch_norm_eps': 1e-5}
  parts = ('conformer', 'pooler', 'fbank')
  read = read_config(config, {p: {} for p in parts}, epsilons, (NOTES,))
  unread = (r'^(max_seq_len|pad_idx|standardize)$',)
  frames = read_config(
    read['conformer'], CONFORMER_SIZES, CONFORMER_REQUIRED, unread
  )
  reader = read_config(read['pooler'], POOLER_SIZES, POOLER_REQUIRED, unread)
  read_config(read['fbank'], {}, FBANK_REQUIRED, unread)
  check_parts(frames, 'model_dim', 'num_heads')
  check_parts({**frames, **reader}, 'model_dim', 'num_heads')
  return SpeechConfig(
    hidden_size=frames['model_dim'],
    speech_encoder_layers=frames['num_layers'],
    speech_encoder_attention_heads=frames['num_heads'],
    speech_encoder_intermediate_size=frames['ffn_inner_dim'],
    feature_projection_input_dim=frames['feature_dim'],
    conv_depthwise_kernel_size=frames['depthwise_conv_kernel_size'],
    batch_norm=True,
    pooler=pooler.Config(
      hidden_size=frames['model_dim'],
      layers=reader['num_layers'],
      heads=reader['num_heads'],
      ffn_dim=reader['ffn_inner_dim'],
      vocab_size=reader['num_embeddings'],
      bos_index=reader['bos_idx'],
    ),
  )


class TextEncoder(nllb.TextEncoder):
  """Token ids to the states of every stage and the sentence's vector."""

  def __call__(
    self, ids: Int[Array, 'batch time'], mask: Bool[Array, 'batch time']
  ) -> tuple[Tap, ...]:
    """Every tap, fine ones too: what a jitted caller drops is not computed."""
    taps = super().__call__(ids, mask)
    states = taps[-1].states
    total = zero_padding(states, mask).astype(wide(states.dtype)).sum(axis=1)
    count = jnp.maximum(mask.sum(axis=1), 1)[:, None]
    vector = (total / count).astype(states.dtype)
    return (*taps, one_step('text/sentence', vector[:, None], mask))


class SpeechEncoder(nnx.Module):
  """Stacked log-mel frames to the states of every stage and the vector."""

  def __init__(self, config: SpeechConfig, *, rngs: nnx.Rngs):
    self.feature_projection = conformer.FeatureProjection(config, rngs=rngs)
    self.encoder = conformer.Conformer(config, rngs=rngs)
    self.pooler = pooler.Pooler(config.pooler, rngs=rngs)

  def __call__(
    self,
    features: Float[Array, 'batch time p'],
    mask: Bool[Array, 'batch time'],
  ) -> tuple[Tap, ...]:
    """Every tap, fine ones too: what a jitted caller drops is not computed."""
    states = self.feature_projection(features, mask)
    states += self.encoder(states[-1][1], mask)
    pooled = self.pooler(states[-1][1], mask)
    return (*conformer.taps_of(states, mask), *pooled)


def text_taps(
  config: nllb.TextConfig, fine: bool = False
) -> tuple[TapSpec, ...]:
  """The taps of a TextEncoder, in layer order."""
  sentence = TapSpec('text/sentence', config.hidden_size)
  return select([*nllb.specs_of(config), sentence], fine)


def speech_taps(
  config: SpeechConfig, fine: bool = False
) -> tuple[TapSpec, ...]:
  """The taps of a SpeechEncoder, in layer order; not its weights."""
  specs = [*conformer.specs_of(config), *pooler.specs_of(config.pooler)]
  return select(specs, fine)


def weights(config: SpeechConfig) -> tuple[TapSpec, ...]:
  """The pooler's maps: how much each head looks at each frame."""
  return pooler.weights_of(config.pooler)


def counterparts(text: nllb.TextConfig, speech: SpeechConfig) -> dict[str, str]:
  """Speech stage → the text stage that it is compared with."""
  pairs = by_depth(text.encoder_layers, speech.speech_encoder_layers)
  pairs['speech/norm'] = 'text/output'
  for stage in (*pooler.stages(speech.pooler), 'speech/sentence'):
    pairs[stage] = 'text/sentence'
  return pairs


TEXT_LAYOUTS = (
  Layout(
    'fairseq2',
    r'^encoder_frontend\.embed\.',
    renames=(
      (r'^encoder_frontend\.embed\.', 'embed_tokens.'),
      (r'^encoder\.', ''),
      *nllb.renames('layers'),
    ),
  ),
  nllb.M2M100,
)
SPEECH_LAYOUTS = (
  Layout(
    'fairseq',
    r'^encoder\.w2v_model\.',
    renames=(
      (r'^encoder\.w2v_model\.layer_norm\.', 'feature_projection.layer_norm.'),
      (
        r'^encoder\.w2v_model\.post_extract_proj\.',
        'feature_projection.projection.',
      ),
      (r'^encoder\.w2v_model\.encoder\.', 'encoder.'),
      (r'^decoder\.embed_out$', 'pooler.projection_out.weight'),
      (r'^decoder\.', 'pooler.'),
      *conformer.renames(r'encoder\.layers'),
      *pooler.RENAMES,
    ),
    ignored=(
      (r'^encoder\.w2v_model\.mask_emb$', 'masks in training'),
      (r'^encoder\.w2v_model\.encoder\.pos_conv\.', 'not used by a conformer'),
      (r'^(en|de)coder\.version$', 'not a parameter'),
      conformer.COUNTER,
    ),
  ),
  Layout(
    'fairseq2',
    r'^encoder_frontend\.model_dim_proj\.',
    renames=(
      (r'^layer_norm\.', 'encoder.layer_norm.'),
      (r'^encoder_pooler\.decoder_frontend\.embed\.', 'pooler.embed_tokens.'),
      (r'^encoder_pooler\.(decoder\.)?', 'pooler.'),
      *conformer.FAIRSEQ2_FRONTEND,
      *conformer.renames(r'encoder\.layers'),
      *pooler.RENAMES,
    ),
    ignored=(conformer.COUNTER,),
  ),
)
TEXT = Network(text_config, TextEncoder, text_taps, TEXT_LAYOUTS)
SPEECH = Network(
  speech_config,
  SpeechEncoder,
  speech_taps,
  SPEECH_LAYOUTS,
  weights,
  AdaptorParameters(r'^pooler\.'),
)
