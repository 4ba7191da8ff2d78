"""Configs of released sizes, without weights: what `open_model` needs."""

import collections
import json
import re

import torch

from jaxrep import opened
from jaxrep.models import BEATS, MODELS

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


# Sizes that the ports take where a config is silent are the released ones.
NAMES = (
  *('seamless-m4t-v2-large', 'seamless-m4t-v1-large', 'seamless-m4t-v1-medium'),
  *('sonar', 'whisper-large-v2', 'beats', 'w2v-bert-2.0', 'nllb-200-600m'),
  *('salmonn-7b', 'salmonn-13b'),
)
CONFIGS = {
  'seamless-m4t-v2-large': {'model_type': 'seamless_m4t_v2'},
  'whisper-large-v2': WHISPER,
  'w2v-bert-2.0': {'model_type': 'wav2vec2-bert'},
  'nllb-200-600m': {'model_type': 'm2m_100'},
}
PROGRAMS = tuple(
  (name, modality) for name in NAMES for modality in MODELS[name].parts
)

# Layers whose attention is one kernel, where they are not 24; SeamlessM4T's
# adaptor has one. The Q-Former's windows are too short.
_ATTENDED = {
  'beats speech': 12,
  'nllb-200-600m text': 12,
  'seamless-m4t-v1-large speech': 25,
  'seamless-m4t-v1-medium speech': 13,
  'seamless-m4t-v1-medium text': 12,
  'seamless-m4t-v2-large speech': 25,
  'whisper-large-v2 speech': 32,
  'salmonn-7b speech': 32 + 12 + 32,
  'salmonn-7b text': 32,
  'salmonn-13b speech': 32 + 12 + 40,
  'salmonn-13b text': 40,
}


def attended(name, modality):
  """Layers whose attention is one kernel on an accelerator."""
  return _ATTENDED.get(f'{name} {modality}', 24)


def kernels(program):
  """How many kernels in Pallas a program for TPUs has, by their names."""
  lines = [line for line in program.splitlines() if 'tpu_custom_call' in line]
  names = [re.search(r'/(\w+)/pallas_call"', line)[1] for line in lines]
  return collections.Counter(names)


def open_released(folder, name, modality):
  """One encoder of released size, from a new folder."""
  language = 'eng' if name == 'sonar' and modality == 'speech' else ''
  place = str(save(folder, name, modality))
  return opened.open_model(name, modality, place, language=language)


def save(folder, name, modality):
  """What `open_model` reads of one encoder of NAMES."""
  if name.startswith('salmonn'):
    return save_salmonn(folder, name.removeprefix('salmonn-'))
  if name == 'beats':
    file = folder / BEATS['file']
    torch.save({'cfg': BEATS['sizes'], 'model': {}}, file)
    return folder
  if name in CONFIGS:
    (folder / 'config.json').write_text(json.dumps(CONFIGS[name]))
  language = 'eng' if modality == 'speech' else ''
  file = MODELS[name].parts[modality].released(language).file
  (folder / (file or 'model.safetensors')).touch()
  return folder


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
