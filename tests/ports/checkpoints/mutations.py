"""Damages checkpoints at random and opens each; a process of its own.

`python -m tests.ports.checkpoints.mutations FOLDER COUNT` damages every
checkpoint of a folder in COUNT ways, and takes those under `traps/` as they
are. Each must open with every tensor readable, or be refused by name, within
seconds; anything else ends the process with an error. The process may not use
more than 4 GB beyond what it starts with. Prints how often what happened.
"""

import collections
import faulthandler
import io
import json
import pickletools
import random
import re
import resource
import struct
import sys
import time
from pathlib import Path

import numpy as np

from ports.checkpoints import CheckpointError, open_checkpoint
from tests.ports.checkpoints import saved

ROOM = 4 << 30
SECONDS = 60  # of the whole process
LIMIT = 5  # of one file
OPCODES = [opcode.code.encode('latin-1') for opcode in pickletools.opcodes]
TOKENS = [
  *('-1', '0', '1', '1.5', '1e400', '9' * 30, '9' * 5000, str(2**63)),
  *('null', 'true', '{}', '[]', '""', '"F32"', '"\\ud800"', '"a/../b"'),
  *('[' * 100_000, '{"a":' * 100_000, 'NaN', '"\\u0000"', '".."', '"x'),
]


def anywhere(rng, data):
  """A range of bytes: short or long, at random or at a zip record's field."""
  records = [m.start() for m in re.finditer(rb'PK[\1-\7]{2}', data)]
  start = rng.randrange(len(data))
  if records and rng.random() < 0.7:
    start = min(rng.choice(records) + rng.randrange(60), len(data) - 1)
  return start, start + rng.choice((1, 1, 2, 4, 8, rng.randrange(1, 200)))


def damage(rng, data, place=anywhere):
  """Bytes with one change."""
  start, end = place(rng, data)
  part = data[start:end]
  other, _ = place(rng, data)
  changed = {
    'flip': bytes([part[0] ^ 1 << rng.randrange(8)]) + part[1:],
    'random': rng.randbytes(len(part)),
    'ones': b'\xff' * len(part),
    'zeros': bytes(len(part)),
    'remove': b'',
    'repeat': part * rng.randrange(2, 20),
    'insert': rng.randbytes(4) + part,
    'elsewhere': data[other : other + len(part)],
  }
  if rng.random() < 0.1:
    return data[:start]
  return data[:start] + rng.choice(list(changed.values())) + data[end:]


def damage_pickle(rng, data):
  """The archive with a pickle that has one change, and checksums that fit."""
  found = saved.contents(io.BytesIO(data))
  name = next(name for name in found if name.endswith('data.pkl'))
  pickled = found[name]
  starts = [start for *_, start in pickletools.genops(pickled)]

  def whole(rng, _):
    first = rng.randrange(len(starts) - 1)
    last = min(first + rng.choice((1, 1, 2, 5, 40)), len(starts) - 1)
    return starts[first], starts[last]

  start, _ = whole(rng, pickled)
  kind = rng.randrange(4)
  if kind == 0:
    pickled = damage(rng, pickled)
  elif kind == 1:
    pickled = damage(rng, pickled, whole)
  elif kind == 2:
    pickled = pickled[:start] + rng.choice(OPCODES) + pickled[start + 1 :]
  else:
    extreme = b'\xff' * rng.choice((1, 4, 8))
    end = start + 1 + len(extreme)
    pickled = pickled[: start + 1] + extreme + pickled[end:]
  return saved.archive(found | {name: pickled})


def damage_json(rng, text):
  """JSON with one of its values replaced."""
  tokens = list(re.finditer(r'"[^"]*"|-?\d+|\[[^\[\]]*\]', text))
  start, end = rng.choice(tokens).span()
  return text[:start] + rng.choice(TOKENS) + text[end:]


def damage_header(rng, data):
  (length,) = struct.unpack_from('<Q', data)
  header = damage_json(rng, data[8 : 8 + length].decode()).encode()
  return struct.pack('<Q', len(header)) + header + data[8 + length :]


def damage_index(rng, data):
  return damage_json(rng, data.decode()).encode()


def read(path, name, original=None):
  """Whether every tensor was read; a message must name the file."""
  start = time.process_time()
  try:
    tensors = open_checkpoint(path)
    assert original is None or set(tensors) == set(original)
    for key, tensor in tensors.items():
      value = tensor.read()
      assert value.shape == tensor.shape and value.dtype == tensor.dtype, key
      if original is not None:
        np.testing.assert_array_equal(value, original[key])
      elif value.size < 1 << 20:
        value.copy()
  except CheckpointError as error:
    assert name in str(error), error
    str(error).encode('utf-8')
    return False
  finally:
    assert time.process_time() - start < LIMIT, f'{name} takes too long'
  return True


def kinds(path):
  """(name, how to damage it, whether checksums see the damage)."""
  if path.name.endswith('.json'):
    return [('index', damage_index, False)]
  if path.suffix == '.safetensors':
    return [('header', damage_header, False), ('bytes', damage, False)]
  if path.stem == 'unchecked':
    return [('bytes', damage, False)]
  return [('bytes', damage, True), ('pickle', damage_pickle, False)]


def run(path, count, outcomes):
  data = path.read_bytes()
  read_as = path.parent if path.suffix == '.json' else path
  names = path.parent.name if path.suffix == '.json' else path.name
  tensors = open_checkpoint(read_as)
  original = {key: tensor.read().copy() for key, tensor in tensors.items()}
  assert read(read_as, names, original)
  for kind, change, checked in kinds(path):
    for seed in range(count):
      rng = random.Random(f'{path.name} {kind} {seed}')
      path.write_bytes(change(rng, data))
      whole = read(read_as, names, original if checked else None)
      outcomes[f'{path.name} {kind} {"read" if whole else "refused"}'] += 1
  path.write_bytes(data)


def main(folder, count):
  faulthandler.dump_traceback_later(SECONDS, exit=True)
  pages = int(Path('/proc/self/statm').read_text().split()[0])
  limit = pages * resource.getpagesize() + ROOM
  resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
  outcomes = collections.Counter()
  for path in sorted([*folder.glob('*.*'), *folder.glob('*/*.json')]):
    run(path, count, outcomes)
  for path in folder.glob('traps/*'):
    outcomes[f'trap {"read" if read(path, path.name) else "refused"}'] += 1
  print(json.dumps(outcomes))


if __name__ == '__main__':
  main(Path(sys.argv[1]), int(sys.argv[2]))
