"""Thousands of damaged checkpoints, and pickles made to hang or to swell."""

import collections
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.ports.checkpoints import saved

ROOT = Path(__file__).parents[3]
LONG = 3_000_000
TIMES = 100_000
KEY = 'k' * 60_000  # of a storage


def text(value):
  return b'X' + struct.pack('<I', len(value)) + value.encode()


def doubled(levels):
  """Two of two of two … of an empty tuple; the hash takes 2 ** levels steps."""
  return b')' + b''.join(b'q%ch%c\x86' % (i, i) for i in range(levels))


def colliding():
  """Keys that Python hashes to one value."""
  keys = (k * (2**61 - 1) for k in range(1, TIMES))
  return b''.join(b'\x8a\x0c' + k.to_bytes(12, 'little') + b'N' for k in keys)


def tensors(key):
  """Many tensors of one storage."""
  storage = b'(' + text('storage') + b'ctorch\nFloatStorage\n' + text(key)
  storage += b'NK\1tQ'
  arguments = b'(' + storage + b'K\0)))}tq\1'
  rebuilt = b'ctorch._utils\n_rebuild_tensor_v2\nq\0' + arguments + b'R'
  return rebuilt + b'0h\0h\1R' * (4 * TIMES) + b'.'


# What a reader that trusts a pickle hangs on, swells on, or dies of.
TRAPS = {
  'memo': b'}r\xff\xff\xff\xff.',
  'tuple as key': b'}' + doubled(100) + b'Ns.',
  'colliding keys': b'}(' + colliding() + b'u.',
  'long keys': b'}' + text('k' * LONG) + b'Ns' + text('k' * LONG)
  + b'q\0Ns(' + b'h\0N' * TIMES + b'u.',
  'long storage key': b']' + tensors(KEY),
  'long module': text('fairseq.' + 'm' * LONG) + b'q\0' + text('C') + b'q\1\x93'
  + b'h\0h\1\x93' * TIMES + b'.',
  'sets of a list': b'](' + b'N' * TIMES + b'e\x85q\0c__builtin__\nset\nq\1h\0R'
  + b'h\1h\0R' * TIMES + b'.',
  'ordered dict of a list': b'](' + b')' * TIMES + b'e\x85q\0'
  + b'ccollections\nOrderedDict\nq\1' + b'h\1h\0R' * TIMES + b'.',
  'deep lists': b']' * TIMES + b'a' * (TIMES - 1) + b'.',
  'deep tuples': b')' + b'\x85' * TIMES + b'.',
  'deep dicts': b'}' + b'N}' * TIMES + b's' * TIMES + b'.',
  'itself': b'}q\0' + text('model') + b'h\0s.',
  'marks': b'(' * TIMES + b'.',
  'string of no end': b'X\xff\xff\xff\xffabc.',
  'number of no end': b'\x8b\xff\xff\xff\x7f1.',
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
  """Every kind of file, small."""
  model = saved.weights(layers=1)
  torch.save({'model': model}, tmp_path / 'weights.pt')
  for protocol in (2, 4):
    path = tmp_path / f'protocol{protocol}.pt'
    torch.save(saved.fairseq(model), path, pickle_protocol=protocol)
  torch.serialization.set_crc32_options(False)
  torch.save(saved.fairseq(model), tmp_path / 'unchecked.pt')
  torch.serialization.set_crc32_options(True)
  plain = {k: v.detach().clone().contiguous() for k, v in model.items()}
  sharded, traps = tmp_path / 'sharded', tmp_path / 'traps'
  sharded.mkdir()
  traps.mkdir()
  save_file(plain, tmp_path / 'model.safetensors', metadata={'format': 'pt'})
  save_file(plain, sharded / 'model-0.safetensors')
  index = {'weight_map': dict.fromkeys(plain, 'model-0.safetensors')}
  (sharded / 'model.safetensors.index.json').write_text(json.dumps(index))
  for name, pickled in TRAPS.items():
    members = {'a/data.pkl': b'\x80\x04' + pickled, f'a/data/{KEY}': b'four'}
    data = saved.archive(members)
    (traps / f'{name}.pt').write_bytes(data)
  return tmp_path


def test_every_damaged_file_is_read_or_refused_by_name(folder):
  done = subprocess.run(
    [sys.executable, '-m', f'{__package__}.mutations', str(folder), '400'],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  outcomes = json.loads(done.stdout)
  assert outcomes.pop('trap refused') == len(TRAPS)
  # Damage that is always refused, or never, would say little.
  counts = collections.Counter()
  for outcome, count in outcomes.items():
    counts[outcome.split()[0].rsplit('.', 1)[1], outcome.split()[-1]] += count
  assert counts['pt', 'read'] > 300 and counts['pt', 'refused'] > 1500, counts
  assert counts['safetensors', 'read'] > 50, counts
  assert counts['safetensors', 'refused'] > 300, counts
  assert counts['json', 'refused'] > 300, counts
