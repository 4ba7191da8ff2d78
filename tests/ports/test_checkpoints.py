"""Every layout of a checkpoint, damaged ones, and ones that contain code."""

import argparse
import json
import os
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ports.checkpoints import CheckpointError, files, open_checkpoint


def tensors():
  rng = np.random.default_rng(0)
  base = torch.tensor(rng.standard_normal((6, 4)), dtype=torch.float32)
  return {
    'plain': base,
    'transposed': base.T,
    'part': base[1:3, ::2],
    'scalar': torch.tensor(3, dtype=torch.int64),
    'half': base.half(),
    'bfloat16': base.bfloat16(),
    'double': base.double(),
    'mask': base > 0,
    'empty': base[:0],
    'parameter': torch.nn.Parameter(base + 1),
  }


def check(found, expected):
  assert set(found) == set(expected)
  for key, tensor in expected.items():
    ours = found[key].read()
    assert ours.shape == tuple(tensor.shape) == found[key].shape
    assert ours.dtype == found[key].dtype
    np.testing.assert_array_equal(
      ours.astype(np.float64), tensor.detach().double().numpy()
    )
  assert found['bfloat16'].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(
  'wrap',
  [lambda t: t, OrderedDict, lambda t: {'model': t, 'epoch': 3}],
  ids=['dict', 'ordered', 'under model'],
)
def test_torch_zip_files(tmp_path, wrap):
  torch.save(wrap(tensors()), tmp_path / 'checkpoint.pt')
  check(open_checkpoint(tmp_path), tensors())


def test_training_leftovers_are_inert(tmp_path):
  saved = {
    'model': tensors(),
    'cfg': argparse.Namespace(inner=argparse.Namespace(lr=1.0)),
    'last_optimizer_state': {'state': {0: {'exp_avg': torch.ones(3)}}},
  }
  torch.save(saved, tmp_path / 'checkpoint.pt')
  check(open_checkpoint(tmp_path), tensors())


class Evil:
  def __init__(self, witness):
    self.witness = witness

  def __reduce__(self):
    return os.system, (f'touch {self.witness}',)


def test_code_is_refused_and_not_run(tmp_path):
  witness = tmp_path / 'witness'
  torch.save({'model': {}, 'x': Evil(witness)}, tmp_path / 'pytorch_model.bin')
  with pytest.raises(CheckpointError, match=r'refused.*system'):
    open_checkpoint(tmp_path)
  assert not witness.exists()


def test_safetensors_file_and_shards(tmp_path):
  plain = {k: v.contiguous() for k, v in tensors().items()}
  one, many = tmp_path / 'one', tmp_path / 'many'
  one.mkdir()
  many.mkdir()
  save_file(plain, one / 'model.safetensors')
  check(open_checkpoint(one), plain)
  names = sorted(plain)
  weight_map = {}
  for i, part in enumerate((names[:4], names[4:])):
    shard = f'model-{i}.safetensors'
    save_file({k: plain[k] for k in part}, many / shard)
    weight_map |= dict.fromkeys(part, shard)
  index = many / 'model.safetensors.index.json'
  index.write_text(json.dumps({'weight_map': weight_map}))
  check(open_checkpoint(many), plain)
  assert [f.name for f in files(many)] == [
    'model-0.safetensors',
    'model-1.safetensors',
  ]
  (many / 'model-1.safetensors').unlink()
  with pytest.raises(CheckpointError, match=r'model-1.*not there'):
    open_checkpoint(many)


def test_damaged_files_are_named(tmp_path):
  path = tmp_path / 'model.safetensors'
  save_file({'a': torch.ones(100)}, path)
  path.write_bytes(path.read_bytes()[:-8])
  with pytest.raises(CheckpointError, match=r'model\.safetensors.*whole'):
    open_checkpoint(path)
  path.write_bytes(b'\xff' * 40)
  with pytest.raises(CheckpointError, match='whole'):
    open_checkpoint(path)
  old = tmp_path / 'old.pt'
  torch.save(tensors(), old, _use_new_zipfile_serialization=False)
  with pytest.raises(CheckpointError, match=r'PyTorch 1\.6'):
    open_checkpoint(old)
  with pytest.raises(CheckpointError, match='no such checkpoint'):
    open_checkpoint(tmp_path / 'absent')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(CheckpointError, match='looked for'):
    open_checkpoint(tmp_path / 'empty')


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
  path = tmp_path / 'checkpoint.pt'
  torch.save({'a': torch.ones(64)}, path)
  short = tmp_path / 'short.pt'
  with zipfile.ZipFile(path) as old, zipfile.ZipFile(short, 'w') as new:
    for name in old.namelist():
      data = old.read(name)
      new.writestr(name, data[:16] if name.endswith('data/0') else data)
  with pytest.raises(CheckpointError, match='damaged'):
    open_checkpoint(short)


def test_an_index_cannot_point_outside_its_folder(tmp_path):
  save_file({'a': torch.ones(1)}, tmp_path / 'outside.safetensors')
  inside = tmp_path / 'inside'
  inside.mkdir()
  weight_map = {'weight_map': {'a': '../outside.safetensors'}}
  index = inside / 'model.safetensors.index.json'
  index.write_text(json.dumps(weight_map))
  with pytest.raises(CheckpointError, match='outside its folder'):
    open_checkpoint(inside)
