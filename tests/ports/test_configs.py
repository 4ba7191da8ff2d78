"""Configs that no network can be built from are refused, field by field."""

import json

import pytest

from jaxrep.opened import open_model
from jaxrep.types import InputError
from ports import (
  beats,
  configs,
  llama,
  nllb,
  qformer,
  salmonn,
  seamless,
  sonar,
  w2vbert,
  whisper,
)

MANY = 'whole number from 1 to 1000 is'
SIZE = 'whole number from 1 to 16777216 is'


@pytest.mark.parametrize(
  ('read', 'config', 'message'),
  [
    (nllb.text_config, {'encoder_layers': '2'}, MANY),
    (nllb.text_config, {'encoder_layers': 2**31}, MANY),
    (nllb.text_config, {'encoder_layers': None}, MANY),
    (nllb.text_config, {'d_model': 16.0}, SIZE),
    (nllb.text_config, {'d_model': True}, SIZE),
    (nllb.text_config, {'d_model': [16]}, SIZE),
    (nllb.text_config, {'encoder_attention_heads': 0}, SIZE),
    (nllb.text_config, {'scale_embedding': 1}, 'true or false'),
    (nllb.text_config, {'encoder_attention_heads': 5}, 'no multiple of'),
    (whisper.read, {'num_mel_bins': {}}, SIZE),
    (whisper.read, {'encoder_attention_heads': 7}, 'no multiple of'),
    (seamless.speech_config, {'layer_norm_eps': 0}, 'above 0'),
    (seamless.speech_config, {'layer_norm_eps': float('nan')}, 'above 0'),
    (seamless.speech_config, {'layer_norm_eps': float('inf')}, 'above 0'),
    (w2vbert.speech_config, {'layer_norm_eps': 1e-6}, 'only 1e-05 is'),
    (w2vbert.speech_config, {'num_attention_heads': 3}, 'no multiple of'),
    (seamless.speech_config, {'speech_encoder_left_chunk_num': -2}, 'from -1'),
    (seamless.text_config, {'pad_token_id': -1}, 'from 0'),
    (llama.read, {'num_key_value_heads': 0}, SIZE),
    (llama.read, {'num_key_value_heads': 5}, 'no multiple of'),
    (llama.read, {'head_dim': 'wide'}, SIZE),
    (llama.read, {'num_attention_heads': 3}, 'no multiple of'),
    (llama.read, {'rope_theta': '1'}, 'above 0'),
    (llama.read, {'rope_parameters': [1]}, 'only the default'),
    (llama.read, {'rope_parameters': {'rope_theta': None}}, 'only the default'),
    (sonar.text_config, {'max_tokens': 1.5}, SIZE),
    (sonar.text_config, {'max_source_positions': 'x'}, SIZE),
    (sonar.speech_config, {'pooler': []}, 'a table of fields'),
    (lambda made: qformer.read(made, 28), {'heads': 7}, 'no multiple of'),
  ],
)
def test_what_is_no_size_is_refused(read, config, message):
  with pytest.raises(configs.ConfigError) as error:
    read(config)
  assert message in str(error.value)
  assert next(iter(config)) in str(error.value)


@pytest.mark.parametrize(
  ('table', 'message'),
  [
    ({'scaling': 'x'}, 'scaling'),
    ({'r': 0}, 'r=0'),
    ({'alpha': None}, 'alpha'),
  ],
)
def test_what_is_no_scale_of_an_adapter_is_refused(table, message):
  config = {'llm': {}, 'connector': {'lora': table}}
  with pytest.raises(configs.ConfigError, match=message):
    salmonn.text_config(config)


def test_groups_of_a_convolution_divide_its_width():
  sizes = dict.fromkeys(beats.Config.__dataclass_fields__, 4)
  with pytest.raises(configs.ConfigError, match='conv_pos_groups=3'):
    beats.read({**sizes, **beats.REQUIRED, 'conv_pos_groups': 3})


def test_heads_of_a_part_divide_its_width():
  with pytest.raises(configs.ConfigError, match='of num_heads=3'):
    sonar.speech_config({'pooler': {'num_heads': 3}})


def test_what_the_hubs_own_configs_say_is_taken():
  """Speech that is not cut, all that went before, no position apart."""
  config = {
    'speech_encoder_chunk_size': None,
    'speech_encoder_left_chunk_num': -1,
    'left_max_position_embeddings': 0,
    'layer_norm_eps': 1,
  }
  found = seamless.speech_config(config)
  assert found.speech_encoder_chunk_size is None
  assert found.left_max_position_embeddings == 0


def test_a_message_stays_short_and_printable(tmp_path):
  config = {'model_type': 'm2m_100', 'd_model': 'a' * 70_000, '\ud800': 1}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  with pytest.raises(InputError) as error:
    open_model('nllb-200-600m', 'text', str(tmp_path))
  assert str(tmp_path) in str(error.value)
  assert len(str(error.value).encode()) < 1000
