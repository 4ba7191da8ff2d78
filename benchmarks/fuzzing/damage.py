"""Ways to damage a file: any bytes, or the right field of its format.

Each takes a random.Random and the bytes of a whole file, and returns others.
"""

import gzip
import io
import json
import random
import re
import struct
import zlib
from collections.abc import Callable

from tests.ports.checkpoints import mutations, saved

Damage = Callable[[random.Random, bytes], bytes]

NUMBERS = (0, -1, 1, 2, 7, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (
  *(b'', b'0', b'-1', b'1.5', b'NaN', b'9' * 30, b'9' * 5000, b'1e400'),
  *(b'\xff\xfe', b'\x00', b'\xef\xbb\xbf', '²'.encode(), 'é'.encode(), b'"'),
  *(b'../../x', b'/etc/passwd', b'eng', b'xx_yy', b'\xed\xa0\x80', b' '),
  *('\u2028'.encode(), b'\r', b'a' * 70_000, b'.', b'test', b'{}', b'[' * 9999),
)
# As text, since json.dumps writes neither a doubled key nor 10**5 brackets.
VALUES = (
  *('null', 'true', 'false', '0', '-1', '1', '2', '1.5', '-0.0', '1e400'),
  *('NaN', 'Infinity', str(2**31), str(2**63), '9' * 30, '9' * 5000, '1e-300'),
  *('""', '"x"', '"eng"', '"../../x"', '"\\ud800"', '"\\u0000"', '[]', '{}'),
  *('[[]]', '[1, "a"]', '{"a": 1}', '{"a": {"a": 1}, "a": 2}', '[' * 100_000),
  *('"' + 'a' * 70_000 + '"', '[null]', '100000', '3', '"\\n"', '['),
)
TAR_NAMES = (
  *(b'../../escaped.wav', b'/tmp/escaped.wav', b'test/../../escaped.wav', b''),
  *(
    b'test/0000.wav',
    b'0000.wav',
    b'test/\xff\xfe.wav',
    b'.',
    b'..',
    b'x' * 99,
  ),
)
TAR_SIZES = (
  *(b'00000000000\0', b'00000000001\0', b'00000001000\0', b'77777777777\0'),
  *(b'-0000000001\0', b'zzzzzzzzzzz\0', b'20000000000\0', b'\0' * 12),
  *(b'\x80' + struct.pack('>3xQ', 2**31), b'\xff' * 12),
  *(b'\x80' + struct.pack('>3xQ', 2**63), b'\x80' + b'\xff' * 11),
)
TAR_FIELDS = {
  'name': (0, 100, TAR_NAMES),
  'size': (124, 12, TAR_SIZES),
  'kind': (156, 1, tuple(bytes([b]) for b in b'123567xgSLKV\0\xff')),
  'link': (157, 100, TAR_NAMES),
  'prefix': (345, 155, TAR_NAMES),
  # Of an old GNU sparse member: places, and the size that it claims.
  'sparse': (386, 109, (struct.pack('12s12s', b'77777777777', b'00000000001'),
                        b'\xff' * 109)),
}  # fmt: skip
CALLED = (
  *(('posix', 'system'), ('os', 'system'), ('builtins', 'eval')),
  *(('builtins', 'exec'), ('subprocess', 'call'), ('torch', 'load')),
  *(('fairseq', 'os.system'), ('torch._utils', '_rebuild_tensor_v2.x')),
)
PAX = (
  *('path=../../escaped.wav', 'size=99999999999', 'size=-1', 'size=x', 'path='),
  *('GNU.sparse.size=99999999999\n30 GNU.sparse.map=0,1', 'linkpath=/etc'),
  *('GNU.sparse.major=1\n26 GNU.sparse.minor=0', 'GNU.sparse.realsize=9' * 3),
  *('mtime=NaN', 'mtime=1e400', 'hdrcharset=BINARY', 'SCHILY.xattr.a=b'),
)


def anything(rng: random.Random, data: bytes) -> bytes:
  """One change of any bytes, whatever the format."""
  return mutations.damage(rng, data, _anywhere) if data else b'\0'


def table(rng: random.Random, data: bytes) -> bytes:
  """A table with one cell, column or row that is another."""
  lines = data.split(b'\n')
  at = rng.randrange(len(lines))
  cells = lines[at].split(b'\t')
  cell = rng.randrange(len(cells))
  kind = rng.randrange(8)
  if kind < 4:
    cells[cell] = rng.choice(WORDS)
  elif kind == 4:
    cells[cell : cell + 1] = rng.choice(([], [cells[cell]] * 2))
  elif kind == 5:
    other = rng.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]
    cells = lines[at].split(b'\t')
  elif kind == 6:
    cells = rng.choice(lines).split(b'\t')
  else:
    lines[at + 1 : at + 1] = [lines[at]] * rng.choice((1, 2, 50))
  lines[at] = b'\t'.join(cells)
  return b'\n'.join(lines)


def fields(rng: random.Random, data: bytes) -> bytes:
  """JSON, or one of its lines, with a value, key or entry that is another."""
  lines = data.split(b'\n') if b'}\n{' in data else [data]
  at = rng.randrange(len(lines))
  try:
    tree = json.loads(lines[at])
  except ValueError:
    return anything(rng, data)
  mark = '@mutated@'
  _change(rng, tree, mark)
  text = json.dumps(tree, indent=None if len(lines) > 1 else 1)
  lines[at] = text.replace(f'"{mark}"', rng.choice(VALUES)).encode()
  return b'\n'.join(lines)


def wav(rng: random.Random, data: bytes) -> bytes:
  """A WAV file of which one number in a header is another."""
  places = [(4, '<I')]
  at = 12
  while at + 8 <= len(data):
    (size,) = struct.unpack_from('<I', data, at + 4)
    places.append((at + 4, '<I'))
    if data[at : at + 4] == b'fmt ':
      for offset, kind in (
        (8, 'H'),
        (10, 'H'),
        (12, 'I'),
        (16, 'I'),
        (20, 'H'),
      ):
        places += [(at + offset, f'<{kind}')] * 2
      places.append((at + 22, '<H'))
    at += 8 + size + size % 2
  return _number(rng, data, rng.choice(places))


def flac(rng: random.Random, data: bytes) -> bytes:
  """A FLAC file of which one number in STREAMINFO is another."""
  places = [(4, '>I'), (8, '>H'), (10, '>H'), (12, '>I'), (18, '>I')]
  places += [(21, '>I'), (22, '>I'), (26, '>Q')]
  return _number(rng, data, rng.choice(places))


def tar(rng: random.Random, data: bytes) -> bytes:
  """A tar.gz with one field of a header, or a pax record, that is another."""
  content = bytearray(gzip.decompress(data))
  headers = [m.start() - 257 for m in re.finditer(rb'ustar', content)]
  at = rng.choice(headers)
  if rng.random() < 0.2:
    record = rng.choice(PAX)
    content[at:at] = _pax(record)
  else:
    for name in rng.sample(sorted(TAR_FIELDS), rng.choice((1, 1, 2))):
      offset, width, values = TAR_FIELDS[name]
      value = rng.choice(values)[:width].ljust(width, b'\0')
      content[at + offset : at + offset + width] = value
    if rng.random() < 0.95:
      _sign(content, at)
  return _gzipped(bytes(content))


def inside(damage: Damage) -> Damage:
  """The damage of what a gzip file holds, with sums that fit."""
  return lambda rng, data: _gzipped(damage(rng, gzip.decompress(data)))


def calling(rng: random.Random, data: bytes) -> bytes:
  """An archive of torch.save whose pickle also calls something."""
  found = saved.contents(io.BytesIO(data))
  name = next(name for name in found if name.endswith('data.pkl'))
  module, function = rng.choice(CALLED)
  argument = b'V__import__("os").mkdir("/tmp/called")\n'
  call = f'c{module}\n{function}\n('.encode() + argument + b'tR'
  if rng.random() < 0.3:
    call = b'V%s\nV%s\n\x93(' % (module.encode(), function.encode())
    call += argument + b'tR'
  pickled = found[name]
  starts = [0, 2, len(pickled) - 1]
  at = rng.choice(starts)
  changed = pickled[:at] + call + rng.choice((b'', b'0')) + pickled[at:]
  return saved.archive(found | {name: changed})


def _anywhere(rng, data):
  """A range of bytes, most often near the start or the end."""
  edge = rng.choice((len(data), 64, 1024))
  start = rng.randrange(min(edge, len(data)))
  if rng.random() < 0.3:
    start = len(data) - 1 - start
  return start, start + rng.choice((1, 1, 2, 4, 8, rng.randrange(1, 200)))


def _change(rng, tree, mark):
  """Replaces, removes, renames or doubles one thing somewhere in the tree."""
  places = []
  pending = [tree]
  while pending:
    node = pending.pop()
    keys = list(node) if isinstance(node, dict) else range(len(node))
    places += [(node, key) for key in keys]
    pending += [node[k] for k in keys if isinstance(node[k], (dict, list))]
  if not places:
    return
  node, key = rng.choice(places)
  kind = rng.randrange(10)
  if kind == 0:
    del node[key]
  elif kind == 1 and isinstance(node, dict):
    node[rng.choice(('', 'x', '__class__', 'model_type'))] = node.pop(key)
  elif kind == 2 and isinstance(node, list):
    node.insert(key, node[key])
  else:
    node[key] = mark


def _number(rng, data, place):
  offset, kind = place
  size = struct.calcsize(kind)
  if rng.random() < 0.2:
    value = rng.randbytes(size)
  else:
    number = rng.choice((*NUMBERS, 2**62, 2**63)) % 2 ** (8 * size)
    value = struct.pack(kind, number)
  return data[:offset] + value + data[offset + size :]


def _pax(record):
  body = f' {record}\n'
  length = len(body) + 2
  body = f'{length + (length > 99)}{body}'.encode()
  header = bytearray(512)
  header[0:9] = b'PaxHeader'
  header[124:136] = b'%011o\0' % len(body)
  header[156:157] = b'x'
  header[257:265] = b'ustar\x0000'
  _sign(header, 0)
  return header + body.ljust(-(-len(body) // 512) * 512, b'\0')


def _sign(content, at):
  """Makes a header's checksum fit."""
  content[at + 148 : at + 156] = b' ' * 8
  total = sum(content[at : at + 512])
  content[at + 148 : at + 156] = b'%06o\0 ' % total


def _gzipped(content):
  packer = zlib.compressobj(1, wbits=31)
  return packer.compress(content) + packer.flush()
