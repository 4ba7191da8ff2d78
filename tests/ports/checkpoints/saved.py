"""Checkpoints as training tools save them, and changes to such files."""

import argparse
import io
import zipfile
from collections import OrderedDict

import numpy as np
import torch

from ports.checkpoints.archive import members
from ports.checkpoints.tensors import File


def weights(layers=2, dim=4):
  """A state dict of three types with a transposed, a cut and a shared view."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    return torch.tensor(rng.standard_normal(shape), dtype=torch.float32)

  state = OrderedDict()
  for i in range(layers):
    prefix = f'encoder.w2v_model.encoder.layers.{i}'
    state[f'{prefix}.self_attn.linear_q.weight'] = normal(dim, dim)
    state[f'{prefix}.self_attn.linear_q.bias'] = normal(dim).half()
    state[f'{prefix}.ffn1.w_1.weight'] = normal(2 * dim, dim).bfloat16()
    state[f'{prefix}.conv_module.batch_norm.num_batches_tracked'] = (
      torch.tensor(i + 7)
    )
  table = normal(3 * dim, dim)
  state['decoder.embed_tokens.weight'] = table
  state['decoder.transposed'] = table.T
  state['decoder.part'] = table[1:5, ::2]
  state['decoder.embed_out'] = torch.nn.Parameter(table[:dim])
  return state


def fairseq(model):
  """What fairseq's trainer saves, with the moments of its optimizer."""
  size = sum(tensor.numel() for tensor in model.values())
  moments = {
    'step': 9,
    'exp_avg': torch.full((size,), 0.5),
    'exp_avg_sq': torch.full((size,), 0.25),
  }
  return {
    'args': None,
    'cfg': {
      '_name': None,
      'common': argparse.Namespace(seed=1, fp16=True),
      'model': argparse.Namespace(
        arch='speech_encoder', w2v_args=argparse.Namespace(layers=2)
      ),
      'optimizer': {'adam_betas': (0.9, 0.98), 'lr': [1e-4]},
    },
    'model': model,
    'criterion': OrderedDict(),
    'optimizer_history': [
      {
        'criterion_name': 'SonarLoss',
        'num_updates': 9,
        'lr_scheduler_state': {},
      }
    ],
    'task_state': {'names': {'eng', 'spa'}, 'mean': np.float64(1.5)},
    'extra_state': {
      'train_iterator': {'epoch': 2, 'shuffle': True},
      'metrics': [(0, 'loss', 'AverageMeter', {'val': np.ones(2), 'round': 3})],
    },
    'last_optimizer_state': {
      'state': {0: moments},
      'param_groups': [{'lr': 1e-4, 'betas': (0.9, 0.98), 'params': [0]}],
    },
  }


def places(path):
  """Member name → (offset, size) of its bytes."""
  found = members(File.of(path)).values()
  return {member.name: (member.start, member.size) for member in found}


def flip(path, offset):
  """Inverts one bit of a file."""
  with open(path, 'r+b') as file:
    file.seek(offset)
    byte = file.read(1)[0]
    file.seek(offset)
    file.write(bytes([byte ^ 4]))


def contents(path):
  """Member name → bytes."""
  with zipfile.ZipFile(path) as archive:
    return {name: archive.read(name) for name in archive.namelist()}


def archive(found, method=zipfile.ZIP_STORED):
  """The bytes of a zip file with these members."""
  made = io.BytesIO()
  with zipfile.ZipFile(made, 'w', method) as new:
    for name, data in found.items():
      new.writestr(name, data)
  return made.getvalue()


def put(path, name, data):
  """Replaces or adds a member; its name is relative to the archive's folder."""
  found = contents(path)
  folder = next(iter(found)).split('/')[0]
  path.write_bytes(archive(found | {f'{folder}/{name}': data}))
