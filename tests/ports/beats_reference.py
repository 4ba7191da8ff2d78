"""A tiny BEATs in PyTorch's own modules, and its file as it is released.

`tests/golden/beats` holds what a published implementation computes.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from tests.ports import reference

TINY = {
  'encoder_layers': 3,
  'encoder_embed_dim': 24,
  'encoder_ffn_embed_dim': 40,
  'encoder_attention_heads': 3,
  'activation_fn': 'gelu',
  'dropout': 0.0,
  'attention_dropout': 0.0,
  'activation_dropout': 0.0,
  'encoder_layerdrop': 0.05,
  'dropout_input': 0.0,
  'layer_norm_first': False,
  'conv_bias': False,
  'conv_pos': 128,
  'conv_pos_groups': 4,
  'relative_position_embedding': True,
  'num_buckets': 320,
  'max_distance': 800,
  'gru_rel_pos': True,
  'deep_norm': True,
  'input_patch_size': 16,
  'layer_wise_gradient_decay_ratio': 0.6,
  'embed_dim': 16,
  'finetuned_model': True,
  'predictor_dropout': 0.0,
  'predictor_class': 11,
}


class SelfAttention(nn.Module):
  def __init__(self, cfg: dict, positions: nn.Embedding):
    super().__init__()
    dim, self.heads = cfg['encoder_embed_dim'], cfg['encoder_attention_heads']
    for name in ('q_proj', 'k_proj', 'v_proj', 'out_proj'):
      setattr(self, name, nn.Linear(dim, dim))
    self.grep_linear = nn.Linear(dim // self.heads, 8)
    self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))
    self.relative_attention_bias = positions

  def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    q, k, v = (
      proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
      for proj in (self.q_proj, self.k_proj, self.v_proj)
    )
    gates = self.grep_linear(q).unflatten(-1, (2, 4)).sum(-1).sigmoid()
    update, reset = gates.split(1, dim=-1)
    weight = update * (reset * self.grep_a - 1) + 2
    mixed = functional.scaled_dot_product_attention(
      q, k, v, attn_mask=weight * bias
    )
    return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
  def __init__(self, cfg: dict, positions: nn.Embedding):
    super().__init__()
    dim, inner = cfg['encoder_embed_dim'], cfg['encoder_ffn_embed_dim']
    self.alpha = (2 * cfg['encoder_layers']) ** 0.25
    self.self_attn = SelfAttention(cfg, positions)
    self.self_attn_layer_norm = nn.LayerNorm(dim)
    self.fc1, self.fc2 = nn.Linear(dim, inner), nn.Linear(inner, dim)
    self.final_layer_norm = nn.LayerNorm(dim)

  def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    x = self.self_attn_layer_norm(self.alpha * x + self.self_attn(x, bias))
    inner = functional.gelu(self.fc1(x))
    return self.final_layer_norm(self.alpha * x + self.fc2(inner))


class Encoder(nn.Module):
  def __init__(self, cfg: dict):
    super().__init__()
    self.cfg = cfg
    dim, size = cfg['encoder_embed_dim'], cfg['conv_pos']
    conv = nn.Conv1d(
      dim, dim, size, padding=size // 2, groups=cfg['conv_pos_groups']
    )
    self.pos_conv = nn.Sequential(
      parametrizations.weight_norm(conv, dim=2), nn.GELU()
    )
    self.layer_norm = nn.LayerNorm(dim)
    positions = nn.Embedding(cfg['num_buckets'], cfg['encoder_attention_heads'])
    self.layers = nn.ModuleList(
      Layer(cfg, positions) for _ in range(cfg['encoder_layers'])
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    positions = self.pos_conv(x.transpose(1, 2)).transpose(1, 2)
    x = self.layer_norm(x + positions[:, : x.shape[1]])
    steps = torch.arange(x.shape[1], device=x.device)
    found = buckets(steps - steps[:, None], self.cfg)
    table = self.layers[0].self_attn.relative_attention_bias
    bias = table(found).permute(2, 0, 1)
    for layer in self.layers:
      x = layer(x, bias)
    return x


class Beats(nn.Module):
  """A normalised fbank [batch, frame, bin] to the last layer's states."""

  def __init__(self, cfg: dict):
    super().__init__()
    inner, dim = cfg['embed_dim'], cfg['encoder_embed_dim']
    patch = cfg['input_patch_size']
    self.patch_embedding = nn.Conv2d(1, inner, patch, patch, bias=False)
    self.layer_norm = nn.LayerNorm(inner)
    self.post_extract_proj = nn.Linear(inner, dim)
    self.encoder = Encoder(cfg)
    self.predictor = nn.Linear(dim, cfg['predictor_class'])

  def forward(self, fbank: torch.Tensor) -> torch.Tensor:
    patches = self.patch_embedding(fbank[:, None]).flatten(2).transpose(1, 2)
    return self.encoder(self.post_extract_proj(self.layer_norm(patches)))


def buckets(distance: torch.Tensor, cfg: dict) -> torch.Tensor:
  """T5's buckets of key − query, in both directions."""
  each = cfg['num_buckets'] // 2
  exact = each // 2
  size = distance.abs()
  octaves = torch.log(size.clamp(min=1) / exact)
  octaves = octaves / math.log(cfg['max_distance'] / exact)
  shared = exact + (octaves * (each - exact)).long()
  found = torch.where(size < exact, size, shared.clamp(max=each - 1))
  return found + each * (distance > 0)


def model(seed: int = 6, **changes) -> Beats:
  made = reference.redraw(Beats(TINY | changes), seed)
  conv = made.encoder.pos_conv[0]
  with torch.no_grad():
    # As large as what it is added to.
    conv.parametrizations.weight.original0.mul_(conv.out_channels**0.5)
  return made


def released(made: Beats) -> dict[str, torch.Tensor]:
  """The state under the names of the released files."""
  weight = 'parametrizations.weight.original'
  return {
    key.replace(f'{weight}0', 'weight_g').replace(f'{weight}1', 'weight_v'): x
    for key, x in made.state_dict().items()
  }


def save(path, **changes) -> Beats:
  made = model(**changes)
  path.parent.mkdir(parents=True, exist_ok=True)
  torch.save({'cfg': TINY | changes, 'model': released(made)}, path)
  return made


def read(path) -> Beats:
  """From a file as it is released."""
  saved = torch.load(path)
  made = Beats(saved['cfg'])
  made.load_state_dict(saved['model'])
  return made.eval()


def states(made: Beats, fbank: np.ndarray) -> dict[str, np.ndarray]:
  """Our tap → [time, dim] of one unpadded utterance [frame, bin]."""
  hooks = {
    'speech/embed/patch': (made.layer_norm, 'input'),
    'speech/embed/norm': (made.layer_norm, 'output'),
    'speech/embed/proj': (made.post_extract_proj, 'output'),
    'speech/embed': (made.encoder.layer_norm, 'output'),
  }
  for i, layer in enumerate(made.encoder.layers, 1):
    norm = layer.self_attn_layer_norm
    hooks[f'speech/layer_{i:02}/attn'] = (norm, 'output')
    hooks[f'speech/layer_{i:02}'] = (layer, 'output')
  found = reference.hooked(hooks, made, torch.as_tensor(fbank)[None])
  return {'speech/embed/fbank': fbank, **found}
