"""Every layout of a checkpoint, damaged ones, and ones that contain code."""

import itertools
import json
import os
import struct
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ports.checkpoints import CheckpointError, open_checkpoint


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
  check(open_checkpoint(index), plain)
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


def test_safetensors_are_taken_before_what_torch_left(tmp_path):
  """A folder without `*.bin` may still have their index."""
  index = tmp_path / 'pytorch_model.bin.index.json'
  index.write_text(json.dumps({'weight_map': {'a': 'pytorch_model-1.bin'}}))
  save_file({'a': torch.ones(1)}, tmp_path / 'model.safetensors')
  found = open_checkpoint(tmp_path)['a'].read()
  np.testing.assert_array_equal(found, [1])


def test_an_index_cannot_point_outside_its_folder(tmp_path):
  save_file({'a': torch.ones(1)}, tmp_path / 'outside.safetensors')
  inside = tmp_path / 'inside'
  inside.mkdir()
  weight_map = {'weight_map': {'a': '../outside.safetensors'}}
  index = inside / 'model.safetensors.index.json'
  index.write_text(json.dumps(weight_map))
  with pytest.raises(CheckpointError, match='outside its folder'):
    open_checkpoint(inside)


GOOD = '{"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}'


def safetensors(path, header):
  header = header if isinstance(header, bytes) else header.encode()
  path.write_bytes(struct.pack('<Q', len(header)) + header + bytes(24))
  return open_checkpoint(path)


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    ('"F32"', '"F8_E4M3"', 'a has a type that is not read'),
    ('"F32"', '32', 'a has a type that is not read'),
    ('"F32"', '["F32"]', 'a has a type that is not read'),
    ('"F32"', '"F64"', 'a has 24 bytes for 6 numbers'),
    ('[2, 3]', '[2, 4]', 'a has 24 bytes for 8 numbers'),
    ('[2, 3]', '[-2, -3]', 'a has a shape that no tensor'),
    ('[2, 3]', '[2.0, 3]', 'a has a shape that no tensor'),
    ('[2, 3]', '[true, 6]', 'a has a shape that no tensor'),
    ('[2, 3]', f'[{2**63}, 0]', 'a has a shape that no tensor'),
    ('[2, 3]', f'[0, {2**62}]', 'a has a shape that no memory'),
    ('[2, 3]', '6', 'a lacks a shape'),
    ('[2, 3]', '[' + '9' * 5000 + ']', 'digits'),
    ('[0, 24]', '[0]', 'a is at no place'),
    ('[0, 24]', '[-24, 0]', 'a is at no place'),
    ('[0, 24]', '[0.0, 24.0]', 'a is at no place'),
    ('[0, 24]', '[24, 0]', 'a ends behind the file'),
    ('[0, 24]', '[4, 28]', 'a ends behind the file'),
    ('"shape"', '"form"', 'a lacks'),
    (GOOD, '[1]', 'the header is not a mapping'),
    (GOOD, '{"a": 1}', 'a lacks'),
    (GOOD, '{"a": 1, "a": 1}', 'two entries of one name'),
    (GOOD, '[' * 100_000, 'recursion'),
    (GOOD, b'{"\xff": 1}', 'utf-8'),
    ('"a"', '"\\ud800"', 'without a proper name'),
  ],
  ids=map(str, itertools.count()),
)
def test_a_damaged_header_says_what_is_wrong(tmp_path, old, new, message):
  path = tmp_path / 'model.safetensors'
  assert safetensors(path, GOOD)['a'].read().shape == (2, 3)
  header = new if isinstance(new, bytes) else GOOD.replace(old, new)
  with pytest.raises(CheckpointError, match=rf'\.safetensors: .*{message}'):
    safetensors(path, header)


def test_a_header_of_no_end(tmp_path):
  path = tmp_path / 'model.safetensors'
  path.write_bytes(struct.pack('<Q', 100_000_001))
  with pytest.raises(CheckpointError, match='longer than the file'):
    open_checkpoint(path)
  os.truncate(path, 200_000_000)
  with pytest.raises(CheckpointError, match='longer than the format allows'):
    open_checkpoint(path)


def test_a_safetensors_file_that_changes_after_opening(tmp_path):
  path = tmp_path / 'model.safetensors'
  for change in (path.unlink, lambda: path.write_bytes(b''), path.touch):
    save_file({'a': torch.ones(3)}, path)
    tensor = open_checkpoint(path)['a']
    change()
    with pytest.raises(CheckpointError, match=r'tensors: .*(No such|changed)'):
      tensor.read()


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{}', 'not an index'),
    ('[]', 'not an index'),
    ('{"weight_map": ["model-0.safetensors"]}', 'not an index'),
    ('{"weight_map": {"a": 3}}', 'not an index'),
    ('{"weight_map": {"a": ["b"]}}', 'not an index'),
    ('[' * 100_000, 'not an index'),
    ('{"weight_map": {"a": ".."}}', 'not there'),
    ('{"weight_map": {"a": "."}}', 'outside its folder'),
    ('{"weight_map": {"a": "x/model-0.safetensors"}}', 'outside its folder'),
    ('{"weight_map": {"a": "/model-0.safetensors"}}', 'outside its folder'),
    ('{"weight_map": {"a": "\\u0000"}}', 'not there'),
    ('{"weight_map": {"a": "%s"}}' % ('x' * 300), 'too long'),
    ('{"weight_map": {"\\ud800": "model-0.safetensors"}}', 'shards lack'),
  ],
  ids=map(str, itertools.count()),
)
def test_a_damaged_index_says_what_is_wrong(tmp_path, text, message):
  save_file({'a': torch.ones(3)}, tmp_path / 'model-0.safetensors')
  (tmp_path / 'model.safetensors.index.json').write_text(text)
  with pytest.raises(CheckpointError, match=f'{tmp_path}.*{message}'):
    open_checkpoint(tmp_path)
