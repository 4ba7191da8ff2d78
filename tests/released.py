"""Configs of released sizes, without weights: what `open_model` needs."""

import json

import torch

from jaxrep.models import BEATS

WHISPER = {
  'model_type': 'whisper',
  'activation_function': 'gelu',
  'd_model': 1280,
  'encoder_layers': 32,
  'encoder_attention_heads': 20,
  'encoder_ffn_dim': 5120,
  'num_mel_bins': 80,
  'max_source_positions': 1500,
}
VICUNA = {
  '7b': {
    'hidden_size': 4096,
    'intermediate_size': 11008,
    'num_hidden_layers': 32,
    'num_attention_heads': 32,
    'rms_norm_eps': 1e-5,
  },
  '13b': {
    'hidden_size': 5120,
    'intermediate_size': 13824,
    'num_hidden_layers': 40,
    'num_attention_heads': 40,
    'rms_norm_eps': 1e-6,
  },
}


def save_salmonn(folder, size, llm=None, whisper=None, beats=None):
  """A folder of SALMONN; changes of the released sizes by part."""
  vicuna = {'model_type': 'llama', 'hidden_act': 'silu', 'vocab_size': 32000}
  for name, config in (
    ('whisper', WHISPER | (whisper or {})),
    ('vicuna', vicuna | VICUNA[size] | (llm or {})),
  ):
    (folder / name).mkdir(parents=True)
    (folder / name / 'config.json').write_text(json.dumps(config))
  cfg = BEATS['sizes'] | (beats or {})
  torch.save({'cfg': cfg, 'model': {}}, folder / 'beats.pt')
  (folder / 'salmonn.pth').touch()
  return folder
