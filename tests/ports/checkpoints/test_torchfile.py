"""Files of torch.save: every layout, lazily; damage is named."""

import os
import shutil
import struct
import subprocess
import sys
import time
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ports.checkpoints import CheckpointError, open_checkpoint
from ports.checkpoints.torchfile import fingerprint
from tests.ports.checkpoints import saved

LAYOUTS = {
  'fairseq2': lambda model: {'model': model},
  'fairseq': saved.fairseq,
  'bare': lambda model: model,
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


def storage(path, tensor):
  """The member that holds a float32 tensor's storage."""
  raw = tensor.detach().contiguous().numpy().tobytes()
  found = saved.contents(path)
  return next(name for name, data in found.items() if data == raw)


@pytest.fixture
def path(tmp_path):
  made = tmp_path / 'checkpoint.pt'
  torch.save(saved.fairseq(saved.weights()), made)
  return made


@pytest.fixture
def without_checksums():
  torch.serialization.set_crc32_options(False)
  yield
  torch.serialization.set_crc32_options(True)


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_in_every_protocol(tmp_path, layout, protocol):
  model = saved.weights()
  path = tmp_path / 'checkpoint.pt'
  torch.save(LAYOUTS[layout](model), path, pickle_protocol=protocol)
  found = open_checkpoint(tmp_path)
  check(found, model)
  kinds = {tensor.dtype for tensor in found.values()}
  assert kinds == {np.dtype(t) for t in ('f4', 'f2', ml_dtypes.bfloat16, 'i8')}


def test_views_of_one_storage(tmp_path):
  base = torch.arange(24.0).reshape(4, 6)
  views = {
    'whole': base,
    'transposed': base.T,
    'row': base[2],
    'column': base[:, 5],
    'steps': base[::3, 1::2],
    'windows': base.as_strided((5, 4), (2, 1), 3),
    'repeated': base[1, 1:2].expand(3, 7),
    'last': base[3, 5],
    'empty': base[4:],
    'one': base.as_strided((1, 3), (1 << 40, 2), 1),
  }
  torch.save(views, tmp_path / 'checkpoint.pt')
  found = open_checkpoint(tmp_path)
  check(found, views)
  with pytest.raises(ValueError, match='read-only'):
    found['steps'].read()[0] = 1


def test_the_optimizer_is_never_read(path):
  """Its bytes are overwritten, headers and all, and nothing notices."""
  model = saved.weights()
  size = sum(tensor.numel() for tensor in model.values())
  names = [storage(path, torch.full((size,), value)) for value in (0.5, 0.25)]
  for offset, count in map(saved.places(path).get, names):
    overwrite(path, offset - 60, os.urandom(60 + count))
  check(open_checkpoint(path), model)


MEASURED = """
import sys, time
from ports.checkpoints import open_checkpoint

def peak():
  for line in open('/proc/self/status'):
    if line.startswith('VmHWM'):
      return int(line.split()[1]) * 1024

before, start = peak(), time.process_time()
tensors = open_checkpoint(sys.argv[1])
seconds, opened = time.process_time() - start, peak()
for tensor in tensors.values():
  assert tensor.read().sum() == tensor.shape[0] * tensor.shape[1]
print(len(tensors), seconds, opened - before, peak() - opened)
"""


def measured(path):
  """(tensors, seconds, bytes to open, bytes to read) of a fresh process."""
  result = subprocess.run(
    [sys.executable, '-c', MEASURED, str(path)],
    capture_output=True,
    text=True,
    check=True,
  )
  return map(float, result.stdout.split())


def test_reading_takes_the_memory_of_one_tensor(tmp_path):
  """300 MB, of which 200 are the optimizer's."""
  path = tmp_path / 'checkpoint.pt'
  one = 10_000_000
  model = {f'layer{i}.weight': torch.ones(1000, 2500) for i in range(10)}
  moments = {i: torch.ones(12_500_000) for i in range(4)}
  torch.save({'model': model, 'last_optimizer_state': moments}, path)
  assert path.stat().st_size > 30 * one
  count, _, opening, reading = measured(path)
  assert count == 10
  assert opening < 4e6, f'opening took {opening} bytes'
  assert reading < 1.5 * one, f'reading took {reading} bytes, one is {one}'


def test_thousands_of_tensors_open_in_a_second(tmp_path):
  path = tmp_path / 'checkpoint.pt'
  model = {f'encoder.layers.{i}.weight': torch.ones(4, 4) for i in range(1000)}
  moments = {i: {j: torch.ones(4, 4) for j in 'abc'} for i in range(1000)}
  torch.save({'model': model, 'last_optimizer_state': moments}, path)
  count, seconds, opening, _ = measured(path)
  assert count == 1000
  assert seconds < 1, f'{seconds} s'
  assert opening < 20e6, f'opening took {opening} bytes'


def test_a_storage_is_summed_once(tmp_path):
  """500 views of 40 MB; summing it for each would take half a minute."""
  path = tmp_path / 'checkpoint.pt'
  flat = torch.ones(10_000_000)
  torch.save({f'part{i}': flat[i : i + 2] for i in range(500)}, path)
  found = open_checkpoint(path)
  start = time.process_time()
  for tensor in found.values():
    np.testing.assert_array_equal(tensor.read(), [1, 1])
  taken = time.process_time() - start
  assert taken < 3, f'{taken:.2f} s'


def test_a_flipped_bit_is_an_error_where_it_is_used(path):
  model = saved.weights()
  name = storage(path, model['decoder.embed_tokens.weight'])
  offset, size = saved.places(path)[name]
  saved.flip(path, offset + size - 1)
  found = open_checkpoint(path)
  shared = [key for key in model if key.startswith('decoder.')]
  for key in shared:
    with pytest.raises(
      CheckpointError, match=rf'checkpoint\.pt: {name} is dam'
    ):
      found.pop(key).read()
  check(found, {k: v for k, v in model.items() if k not in shared})


def test_without_checksums_a_file_opens(tmp_path, without_checksums):
  path = tmp_path / 'checkpoint.pt'
  model = saved.weights()
  torch.save(saved.fairseq(model), path)
  with zipfile.ZipFile(path) as archive:
    assert not any(info.CRC for info in archive.infolist())
  check(open_checkpoint(path), model)
  assert fingerprint(path) is None


def test_a_damaged_pickle_is_named_by_its_checksum(path):
  offset, size = saved.places(path)['checkpoint/data.pkl']
  saved.flip(path, offset + size // 2)
  with pytest.raises(CheckpointError, match=r'checkpoint/data\.pkl is damaged'):
    open_checkpoint(path)


def test_a_file_that_changes_after_opening(path):
  for change in (path.unlink, lambda: os.truncate(path, 5000), path.touch):
    torch.save(saved.fairseq(saved.weights()), path)
    tensor = open_checkpoint(path)['decoder.part']
    tensor.read()
    change()
    with pytest.raises(
      CheckpointError, match=r'checkpoint\.pt: .*(No such|chan)'
    ):
      tensor.read()


def entry(path, name):
  """Where the directory describes a member."""
  return path.read_bytes().rindex(b'PK\1\2', 0, path.read_bytes().rindex(name))


def overwrite(path, offset, data):
  with open(path, 'r+b') as file:
    file.seek(offset)
    file.write(data)


def test_a_storage_that_is_not_where_the_directory_says(
  tmp_path, without_checksums
):
  """Found without checksums as well: a member's own header says its name."""
  path = tmp_path / 'checkpoint.pt'
  tree = {'a': torch.ones(4), 'b': torch.zeros(4)}
  torch.save(tree, path)
  whole = path.read_bytes()
  first, second = (entry(path, b'data/%d' % i) for i in (0, 1))
  header = struct.unpack_from('<I', whole, first + 42)[0]
  overwrite(path, second + 42, whole[first + 42 : first + 46])
  check({'a': open_checkpoint(path)['a']}, {'a': tree['a']})
  with pytest.raises(CheckpointError, match=r'data/1 is damaged .*another pl'):
    open_checkpoint(path)['b'].read()
  path.write_bytes(whole)
  overwrite(path, header, b'PK\1\2')
  with pytest.raises(CheckpointError, match=r'data/0 is damaged .*another pl'):
    open_checkpoint(path)['a'].read()
  path.write_bytes(whole)
  overwrite(path, header + 28, b'\xff\xff')
  with pytest.raises(CheckpointError, match=r'data/0 is damaged .*behind'):
    open_checkpoint(path)['a'].read()


def test_members_that_cannot_be_mapped(path):
  whole = path.read_bytes()
  path.write_bytes(saved.archive(saved.contents(path), zipfile.ZIP_DEFLATED))
  with pytest.raises(CheckpointError, match=r'checkpoint\.pt: .*compressed'):
    open_checkpoint(path)
  sizes = struct.pack('<II', *[len(whole)] * 2)
  for at, data, message in (
    (8, b'\1', 'data/3 is compressed or encrypted'),
    (10, b'\10', 'data/3 is compressed or encrypted'),
    (20, sizes, 'data/3 ends behind the file'),
  ):
    path.write_bytes(whole)
    overwrite(path, entry(path, b'data/3') + at, data)
    with pytest.raises(CheckpointError, match=rf'checkpoint\.pt: .*{message}'):
      open_checkpoint(path)
  path.write_bytes(whole[:-30])
  with pytest.raises(CheckpointError, match='end of this zip file is missing'):
    open_checkpoint(path)


def test_an_archive_that_is_not_of_torch_save(path):
  whole = path.read_bytes()
  saved.put(path, 'byteorder', b'big')
  with pytest.raises(CheckpointError, match='little-endian'):
    open_checkpoint(path)
  path.write_bytes(whole)
  saved.put(path, 'again/data.pkl', b'N.')
  with pytest.raises(CheckpointError, match=r'2 data\.pkl'):
    open_checkpoint(path)
  with (
    pytest.warns(UserWarning, match='Duplicate'),
    zipfile.ZipFile(path, 'w') as archive,
  ):
    archive.writestr('checkpoint/data.pkl', b'}.')
    archive.writestr('checkpoint/data.pkl', b'}.')
  with pytest.raises(CheckpointError, match='two members of one name'):
    open_checkpoint(path)
  path.write_bytes(saved.archive({'checkpoint/data.pkl': bytes((1 << 25) + 1)}))
  with pytest.raises(CheckpointError, match='more than the names'):
    open_checkpoint(path)


def test_offsets_beyond_four_gigabytes(path):
  """The archive behind a hole; its directory is in the zip64 format then."""
  found = saved.contents(path)
  large = path.with_name('large.pt')
  with open(large, 'wb') as file:
    file.truncate(5 << 30)
  with zipfile.ZipFile(large, 'a') as archive:
    for name, data in found.items():
      archive.writestr(name, data)
  check(open_checkpoint(large), saved.weights())


def test_fingerprints(tmp_path, path):
  mark = fingerprint(path)
  assert len(mark) == 64
  other = tmp_path / 'other.pt'
  shutil.copy(path, other)
  assert fingerprint(other) == mark
  # Nothing but the directory is read.
  saved.flip(other, saved.places(other)['checkpoint/data/0'][0])
  assert fingerprint(other) == mark
  model = saved.weights()
  model['decoder.embed_tokens.weight'][0, 0] += 1
  torch.save(saved.fairseq(model), path)
  assert fingerprint(path) not in (None, mark)
  save_file({'a': torch.ones(3)}, tmp_path / 'model.safetensors')
  assert fingerprint(tmp_path / 'model.safetensors') is None
