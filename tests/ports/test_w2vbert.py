"""w2v-BERT 2.0 against Wav2Vec2BertModel, every tap."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

from ports import configs, layers, loading, nllb, w2vbert
from ports.checkpoints import open_checkpoint
from tests.ports import batches, reference

TINY = {
  'hidden_size': 32,
  'num_hidden_layers': 3,
  'num_attention_heads': 2,
  'intermediate_size': 56,
  'left_max_position_embeddings': 12,
  'right_max_position_embeddings': 5,
}


def model(**changes):
  made = Wav2Vec2BertConfig(**TINY | changes)
  made._attn_implementation = 'sdpa'
  return reference.redraw(Wav2Vec2BertModel(made), 4)


def save(folder, **changes):
  made = model(**changes)
  folder.mkdir(parents=True, exist_ok=True)
  tensors = {k: v.contiguous() for k, v in made.state_dict().items()}
  save_file(tensors, folder / 'model.safetensors')
  config = made.config.to_json_string(use_diff=False)
  (folder / 'config.json').write_text(config)
  return made


def states(model, row):
  hooks = {
    'speech/embed/stacked': (model.feature_projection.layer_norm, 'input'),
    'speech/embed/norm': (model.feature_projection.layer_norm, 'output'),
    'speech/embed': (model.feature_projection, 'output'),
  }
  for i, layer in enumerate(model.encoder.layers, 1):
    for part, (name, side) in reference.SPEECH_LAYER.items():
      module = layer.get_submodule(name) if name else layer
      hooks[f'speech/layer_{i:02}{part}'] = (module, side)
  found = reference.hooked(
    hooks,
    model,
    torch.tensor(row)[None],
    attention_mask=torch.ones(1, len(row), dtype=torch.long),
  )
  stacked = found['speech/embed/stacked']
  return found | {'speech/embed/fbank': stacked.reshape(2 * len(stacked), -1)}


def test_every_tap_against_each_utterance_alone(tmp_path):
  theirs = save(tmp_path)
  sizes = w2vbert.speech_config(
    json.loads((tmp_path / 'config.json').read_text())
  )
  module = loading.load(
    w2vbert.SPEECH.abstract(sizes),
    open_checkpoint(tmp_path),
    w2vbert.SPEECH.layouts,
  )
  rows = batches.speech_rows((1, 2, 31, 64, 250))
  found = batches.run(module, *batches.pad(rows, np.nan, 8))
  specs = w2vbert.taps(sizes, fine=True)
  batches.compare(found, rows, lambda row: states(theirs, row), specs)


def test_a_config_that_asks_for_another_network_is_refused():
  with pytest.raises(configs.ConfigError, match='add_adapter'):
    w2vbert.speech_config({'model_type': 'wav2vec2-bert', 'add_adapter': True})


def test_an_unaligned_text_encoder_is_compared_by_depth():
  """24 layers of speech with 12 of text, as released."""
  text = nllb.text_config({'model_type': 'm2m_100'})
  spoken = w2vbert.speech_config({'model_type': 'wav2vec2-bert'})
  pairs = w2vbert.counterparts(text, spoken)
  assert list(pairs) == [spec.name for spec in w2vbert.taps(spoken)]
  assert set(pairs.values()) <= {spec.name for spec in nllb.taps(text)}
  assert list(pairs.values()) == [
    'text/embed',
    *(f'text/layer_{i:02}' for i in range(1, 13) for _ in range(2)),
  ]
  assert layers.by_depth(3, 2) == {
    'speech/embed': 'text/embed',
    'speech/layer_01': 'text/layer_02',
    'speech/layer_02': 'text/layer_03',
  }
