"""w2v-BERT 2.0 (Seamless Communication, 2023): a self-supervised conformer.

Its network is `ports.conformer`, without a norm behind the last layer.
Reference: `Wav2Vec2BertModel` of transformers 5.23, on the extractor's valid
frames. The taps are those of `ports.conformer`.
"""

from collections.abc import Mapping
from typing import Any

from flax import nnx
from jaxtyping import Array, Bool, Float

from ports import conformer, nllb
from ports.configs import TRANSFORMERS_FIELDS, check_parts, read_config
from ports.layers import (
  Tap,
  TapSpec,
  by_depth,
  select,
)
from ports.loading import Layout, Network

# What a config may say without changing the states that are read.
UNREAD = (
  r'dropout$',
  r'^(layerdrop|initializer_range|max_source_positions|vocab_size)$',
  r'^(adapter|mask|ctc|tdnn)_',
  r'^(apply_spec_augment|use_weighted_layer_sum|rotary_embedding_base)$',
  r'^(num_adapter_layers|output_hidden_size|classifier_proj_size)$',
  r'^(xvector_output_dim|codevector_dim|proj_codevector_dim)$',
  r'^num_(codevector|negatives)',
  r'^(contrastive_logits_temperature|diversity_loss_weight)$',
  r'^(bos|eos|pad)_token_id$',
  *TRANSFORMERS_FIELDS,
)
REQUIRED = {
  'model_type': 'wav2vec2-bert',
  'hidden_act': 'swish',
  'position_embeddings_type': 'relative_key',
  'add_adapter': False,
  'use_intermediate_ffn_before_adapter': False,
  'layer_norm_eps': 1e-5,  # of all its norms, most of which SeamlessM4T fixes
}
# Released values, which the reference's class takes where a config is silent.
DEFAULTS = {
  'hidden_size': 1024,
  'num_hidden_layers': 24,
  'num_attention_heads': 16,
  'intermediate_size': 4096,
  'feature_projection_input_dim': 160,
  'conv_depthwise_kernel_size': 31,
  'left_max_position_embeddings': 64,
  'right_max_position_embeddings': 8,
}
OURS = {
  'num_hidden_layers': 'speech_encoder_layers',
  'num_attention_heads': 'speech_encoder_attention_heads',
  'intermediate_size': 'speech_encoder_intermediate_size',
}


def speech_config(config: Mapping[str, Any]) -> conformer.SpeechConfig:
  """From the hub's config.json; refuses what the port does not handle."""
  values = read_config(config, DEFAULTS, REQUIRED, UNREAD)
  check_parts(values, 'hidden_size', 'num_attention_heads')
  return conformer.SpeechConfig(
    **{OURS.get(name, name): value for name, value in values.items()}
  )


class SpeechEncoder(nnx.Module):
  """Stacked log-mel frames to the states of every stage."""

  def __init__(self, config: conformer.SpeechConfig, *, rngs: nnx.Rngs):
    self.feature_projection = conformer.FeatureProjection(config, rngs=rngs)
    self.encoder = conformer.Conformer(config, norm=False, rngs=rngs)

  def __call__(
    self,
    features: Float[Array, 'batch time p'],
    mask: Bool[Array, 'batch time'],
  ) -> tuple[Tap, ...]:
    """Every tap, fine ones too: what a jitted caller drops is not computed."""
    states = self.feature_projection(features, mask)
    states += self.encoder(states[-1][1], mask)
    return tuple(conformer.taps_of(states, mask))


def taps(
  config: conformer.SpeechConfig, fine: bool = False
) -> tuple[TapSpec, ...]:
  """The taps of a SpeechEncoder, in layer order."""
  return select(conformer.specs_of(config, norm=False), fine)


def counterparts(
  text: nllb.TextConfig, speech: conformer.SpeechConfig
) -> dict[str, str]:
  """Speech stage → the stage of an unrelated text encoder at its depth."""
  return by_depth(text.encoder_layers, speech.speech_encoder_layers)


LAYOUT = Layout(
  'hub',
  r'^(wav2vec2_bert\.)?feature_projection\.',
  renames=((r'^wav2vec2_bert\.', ''),),
  ignored=(
    (r'^(wav2vec2_bert\.)?masked_spec_embed$', 'masks in training'),
    (r'^lm_head\.', 'not an encoder'),
  ),
)
SPEECH = Network(speech_config, SpeechEncoder, taps, (LAYOUT,))
