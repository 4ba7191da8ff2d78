"""Tiny SONAR encoders in PyTorch and transformers, and their files.

Text: `M2M100Encoder` and a masked mean, its specials renumbered as fairseq2
counts them. Speech: the conformer of SeamlessM4T v1 and PyTorch's own
transformer decoder as pooler, saved in fairseq's names as a training leaves
them. `tests/golden` holds what SONAR's own packages compute.
"""

import argparse
import json
import math
import re

import numpy as np
import torch
from torch import nn
from transformers import M2M100Config
from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder
from transformers.models.seamless_m4t import modeling_seamless_m4t as hf

from tests.ports import reference, test_nllb

SPEECH = {
  'conformer': {
    'model_dim': 24,
    'num_layers': 2,
    'num_heads': 2,
    'ffn_inner_dim': 40,
  },
  'pooler': {'num_heads': 4, 'ffn_inner_dim': 32, 'num_embeddings': 5},
}
TEXT = {
  'model_dim': 24,
  'num_layers': 2,
  'num_heads': 2,
  'ffn_inner_dim': 40,
  'vocab_size': 160,
  'max_tokens': 60,
}
# M2M100 counts <s>, <pad>, </s>, <unk>, fairseq2 <pad>, <unk>, <s>, </s>.
RENUMBERED = (1, 3, 0, 2)


class Speech(nn.Module):
  """Features and their mask to the sentence's vector."""

  def __init__(self, sizes: dict, pooler_layers: int):
    super().__init__()
    frames, pooler = sizes['conformer'], sizes['pooler']
    dim = frames['model_dim']
    made = reference.config(
      'v1',
      hidden_size=dim,
      speech_encoder_layers=frames['num_layers'],
      speech_encoder_attention_heads=frames['num_heads'],
      speech_encoder_intermediate_size=frames['ffn_inner_dim'],
    )
    self.feature_projection = hf.SeamlessM4TConformerFeatureProjection(made)
    self.encoder = hf.SeamlessM4TConformerEncoder(made)
    self.embed_tokens = nn.Embedding(pooler['num_embeddings'], dim)
    self.pooler = nn.ModuleList(
      nn.TransformerDecoderLayer(
        dim, pooler['num_heads'], pooler['ffn_inner_dim'], batch_first=True
      )
      for _ in range(pooler_layers)
    )
    self.embed_out = nn.Linear(dim, dim, bias=False)

  def forward(
    self, input_features: torch.Tensor, attention_mask: torch.Tensor
  ) -> torch.Tensor:
    frames = self.encoder(
      self.feature_projection(input_features), attention_mask
    )
    padding = ~attention_mask.bool()
    t = self.query().expand(len(frames), 1, -1)
    for layer in self.pooler:
      t = layer(t, frames, memory_key_padding_mask=padding)
    return self.embed_out(t)

  def query(self) -> torch.Tensor:
    row = self.embed_tokens.weight[2]
    half = row.new_zeros(len(row) // 2)
    return row * math.sqrt(len(row)) + torch.cat([half, half + 1])


def speech_states(model: Speech, row: np.ndarray) -> dict[str, np.ndarray]:
  """Our tap → [time, dim] of one unpadded utterance [time, 160]."""
  norm = model.feature_projection.layer_norm
  hooks = {
    'speech/embed/stacked': (norm, 'input'),
    'speech/embed/norm': (norm, 'output'),
    'speech/embed': (model.feature_projection, 'output'),
    'speech/norm': (model.encoder.layer_norm, 'output'),
    'speech/pooler/embed': (model.pooler[0], 'input'),
    'speech/sentence': (model.embed_out, 'output'),
  }
  for i, layer in enumerate(model.encoder.layers, 1):
    for part, (name, side) in reference.SPEECH_LAYER.items():
      module = layer.get_submodule(name) if name else layer
      hooks[f'speech/layer_{i:02}{part}'] = (module, side)
  for i, layer in enumerate(model.pooler, 1):
    hooks[f'speech/pooler_{i:02}/self'] = (layer.multihead_attn, 'input')
    hooks[f'speech/pooler_{i:02}/cross'] = (layer.linear1, 'input')
    hooks[f'speech/pooler_{i:02}'] = (layer, 'output')
  mask = torch.ones(1, len(row), dtype=torch.long)
  found = reference.hooked(hooks, model, torch.tensor(row)[None], mask)
  found['speech/embed/fbank'] = row.reshape(2 * len(row), -1)
  frames = torch.tensor(found['speech/norm'])[None]
  for i, layer in enumerate(model.pooler, 1):
    own = torch.tensor(found[f'speech/pooler_{i:02}/self'])[None]
    _, weights = layer.multihead_attn(
      own, frames, frames, average_attn_weights=False
    )
    name = f'speech/pooler_{i:02}/weights'
    found[name] = weights[0, :, 0].T.detach().numpy()
  return found


def speech(pooler_layers: int, seed: int = 0, **frames: int) -> Speech:
  return reference.redraw(Speech(sizes_of(**frames), pooler_layers), seed)


def sizes_of(**frames: int) -> dict:
  return SPEECH | {'conformer': SPEECH['conformer'] | frames}


def fairseq_names(model: Speech) -> dict[str, torch.Tensor]:
  """The state under the names of the released files."""
  tensors = {}
  for key, value in model.state_dict().items():
    if key.startswith('pooler.'):
      tensors |= _pooler_names(key, value)
      continue
    for pattern, name in (
      (r'^feature_projection\.layer_norm', 'encoder.w2v_model.layer_norm'),
      (r'^feature_projection\.proj\w+', 'encoder.w2v_model.post_extract_proj'),
      (r'^encoder\.(layers|layer_norm)', r'encoder.w2v_model.encoder.\1'),
      (r'\.(ffn[12])_layer_norm', r'.\1.layer_norm'),
      (r'\.intermediate_dense', '.w_1'),
      (r'\.output_dense', '.w_2'),
      (r'^embed_out\.weight$', 'decoder.embed_out'),
      (r'^embed_tokens', 'decoder.embed_tokens'),
    ):
      key = re.sub(pattern, name, key)
    tensors[key] = value
  return tensors


def _pooler_names(key: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
  """PyTorch keeps q, k and v of a layer in one matrix."""
  _, layer, rest = key.split('.', 2)
  for theirs, released in (
    ('self_attn', 'self_attn'),
    ('multihead_attn', 'encoder_attn'),
    ('norm1', 'self_attn_layer_norm'),
    ('norm2', 'encoder_attn_layer_norm'),
    ('norm3', 'final_layer_norm'),
    ('linear1', 'fc1'),
    ('linear2', 'fc2'),
  ):
    rest = re.sub(rf'^{theirs}\b', released, rest)
  prefix = f'decoder.layers.{layer}.'
  if 'in_proj' not in rest:
    return {prefix + rest: value}
  owner, kind = rest.split('.in_proj_')
  parts = zip('qkv', value.chunk(3), strict=True)
  return {f'{prefix}{owner}.{x}_proj.{kind}': part for x, part in parts}


def save_speech(
  path, pooler_layers: int, seed: int = 0, **frames: int
) -> Speech:
  """A '.pt' as a training leaves it, and a config.json beside it."""
  model = speech(pooler_layers, seed, **frames)
  path.parent.mkdir(parents=True, exist_ok=True)
  dim = sizes_of(**frames)['conformer']['model_dim']
  left = {
    'encoder.w2v_model.mask_emb': torch.ones(dim),
    'encoder.w2v_model.encoder.pos_conv.0.bias': torch.ones(dim),
    'encoder.version': torch.tensor([3.0]),
    'decoder.version': torch.tensor([3.0]),
  }
  names = fairseq_names(model)
  saved = {
    'args': None,
    'cfg': {'model': argparse.Namespace(arch='sonar', lr=[1e-4])},
    'model': {k: v.clone() for k, v in (names | left).items()},
    'optimizer_history': [{'num_updates': 5, 'optimizer_name': 'FairseqAdam'}],
    'extra_state': {'metrics': [(0, 'loss', argparse.Namespace(sum=1))]},
    'last_optimizer_state': {
      'state': {0: {'step': 5, 'exp_avg': torch.ones(20_000)}}
    },
  }
  torch.save(saved, path)
  (path.parent / 'config.json').write_text(json.dumps(sizes_of(**frames)))
  return model


def text(seed: int = 0, **changes: int) -> M2M100Encoder:
  sizes = TEXT | changes
  made = M2M100Config(
    d_model=sizes['model_dim'],
    encoder_layers=sizes['num_layers'],
    encoder_attention_heads=sizes['num_heads'],
    encoder_ffn_dim=sizes['ffn_inner_dim'],
    vocab_size=sizes['vocab_size'],
  )
  return reference.redraw(M2M100Encoder(made), seed)


def text_states(model: M2M100Encoder, ids: np.ndarray) -> dict[str, np.ndarray]:
  """Our tap → [time, dim] of ids in fairseq2's numbering."""
  renumbered = [RENUMBERED[i] if i < 4 else i for i in ids.tolist()]
  found = test_nllb.states(model, renumbered)
  return found | {'text/sentence': found['text/output'].mean(0, keepdims=True)}


def fairseq2_names(model: M2M100Encoder) -> dict[str, torch.Tensor]:
  """The text encoder's state as SONAR's file has it, rows renumbered."""
  tensors = {}
  for key, value in model.state_dict().items():
    if key == 'embed_tokens.weight':
      rows = list(range(len(value)))
      rows[:4] = RENUMBERED
      value = value[rows]
    for pattern, name in (
      (r'^embed_tokens', 'encoder_frontend.embed'),
      (r'^layers', 'encoder.layers'),
      (r'\.out_proj', '.output_proj'),
      (r'\.fc1', '.ffn.inner_proj'),
      (r'\.fc2', '.ffn.output_proj'),
      (r'\.final_layer_norm', '.ffn_layer_norm'),
    ):
      key = re.sub(pattern, name, key)
    tensors[key] = value.clone()
  return tensors


def save_text(path, seed: int = 0, **changes: int) -> M2M100Encoder:
  """A '.pt' in fairseq2's names, and a config.json beside it."""
  model = text(seed, **changes)
  path.parent.mkdir(parents=True, exist_ok=True)
  torch.save({'model': fairseq2_names(model)}, path)
  (path.parent / 'config.json').write_text(json.dumps(TEXT | changes))
  return model
