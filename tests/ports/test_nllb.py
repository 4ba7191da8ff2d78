"""NLLB-200's encoder against M2M100Encoder, every tap."""

import json

import numpy as np
import pytest
import torch
from transformers import M2M100Config
from transformers.models.m2m_100 import modeling_m2m_100 as hf

from ports import configs, loading, nllb
from ports.checkpoints import open_checkpoint
from tests.ports import batches, reference

TINY = {
  'd_model': 32,
  'vocab_size': 110,
  'encoder_layers': 3,
  'encoder_attention_heads': 4,
  'encoder_ffn_dim': 48,
  'decoder_layers': 1,
  'decoder_attention_heads': 4,
  'decoder_ffn_dim': 40,
}


def save(folder, **changes):
  """The whole model as the hub has it, in one file of torch."""
  made = M2M100Config(**TINY | changes)
  model = reference.redraw(hf.M2M100ForConditionalGeneration(made), 3)
  folder.mkdir(parents=True, exist_ok=True)
  torch.save(model.state_dict(), folder / 'pytorch_model.bin')
  config = json.loads(made.to_json_string()) | {
    'max_length': 200,
    'tokenizer_class': 'NllbTokenizer',
    'num_hidden_layers': 3,
  }
  (folder / 'config.json').write_text(json.dumps(config))
  return model.model.encoder


def encoder(**changes):
  return hf.M2M100Encoder(M2M100Config(**TINY | changes)).eval()


def states(model, row):
  hooks = {
    'text/embed/tokens': (model.embed_tokens, 'output'),
    'text/embed': (model.layers[0], 'input'),
    'text/output': (model.layer_norm, 'output'),
  }
  for i, layer in enumerate(model.layers, 1):
    hooks[f'text/layer_{i:02}/attn'] = (layer.final_layer_norm, 'input')
    hooks[f'text/layer_{i:02}'] = (layer, 'output')
  return reference.hooked(hooks, model, torch.tensor(row)[None])


def test_every_tap_in_a_ragged_batch(tmp_path):
  model = save(tmp_path)
  config = json.loads((tmp_path / 'config.json').read_text())
  sizes = nllb.text_config(config)
  module = loading.load(
    nllb.TEXT.abstract(sizes), open_checkpoint(tmp_path), nllb.TEXT.layouts
  )
  rng = np.random.default_rng(0)
  rows = [rng.integers(2, 90, n) for n in (1, 2, 7, 40, 300)]
  found = batches.run(module, *batches.pad(rows, 1, 16))
  specs = nllb.taps(sizes, fine=True)
  batches.compare(found, rows, lambda row: states(model, row), specs)


def test_a_config_that_asks_for_another_network_is_refused():
  with pytest.raises(configs.ConfigError, match='activation_function'):
    nllb.text_config({'model_type': 'm2m_100', 'activation_function': 'gelu'})
