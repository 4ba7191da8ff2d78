"""Zip archives whose members lie in the file as they are, uncompressed.

`zipfile` insists on checksums, which torch.save may leave out, reads a
directory of any length, and hides one of two members with one name. Of the
format this file knows what torch.save writes: stored members, and zip64.
"""

import functools
import struct
import zlib
from collections.abc import Iterator

from ports.checkpoints.tensors import CheckpointError, File, shown

MAX_DIRECTORY = 1 << 26  # about a million members
MAX_COMMENT = 0xFFFF
ELSEWHERE = 0xFFFFFFFF  # in place of a number that the zip64 field has
ZIP64_FIELD = 1
ENCRYPTED = 1

LOCAL = struct.Struct('<4s5H3I2H')
ENTRY = struct.Struct('<4s6H3I5H2I')
END = struct.Struct('<4s4H2IH')
LOCATOR64 = struct.Struct('<4sIQI')
END64 = struct.Struct('<4sQ2H2I4Q')


class Member:
  """A stored member; `stop` is where members end and the directory begins."""

  def __init__(
    self, file: File, raw_name: bytes, size: int, crc: int, header: int
  ):
    self.file, self.raw_name, self.size, self.crc = file, raw_name, size, crc
    self.header, self.stop = header, file.size
    self.checksummed = True

  @property
  def name(self) -> str:
    return self.raw_name.decode('utf-8', 'surrogateescape')

  @functools.cached_property
  def start(self) -> int:
    """Where its bytes begin, which are known to be whole then.

    The member's own header is read here and not with the directory: one read
    at each of thousands of places takes minutes on a disk that is far away.
    """
    start = self._behind_header()
    if self.checksummed:
      crc = 0
      for piece in self.file.pieces(start, self.size):
        crc = zlib.crc32(piece, crc)
      if crc != self.crc:
        raise self._damaged('its checksum is wrong')
    return start

  def read(self) -> bytes:
    return self.file.read(self.start, self.size)

  def _behind_header(self) -> int:
    header = self.file.read(self.header, LOCAL.size + len(self.raw_name))
    signature, *_, name, extra = LOCAL.unpack_from(header)
    start = self.header + LOCAL.size + name + extra
    if signature != b'PK\3\4' or header[LOCAL.size :] != self.raw_name:
      raise self._damaged('the directory names another place')
    if start + self.size > self.stop:
      raise self._damaged('it ends behind the file')
    return start

  def _damaged(self, why: str) -> CheckpointError:
    return CheckpointError(
      f'{self.file.path}: {shown(self.name)} is damaged ({why});'
      ' download the file again.'
    )


def members(file: File) -> dict[str, Member]:
  """The members by name, in the directory's order; all lie inside the file.

  Raises:
    CheckpointError: Not a zip file, a damaged one, or one with members that
      are compressed, encrypted, or share a name.
  """
  try:
    start, directory = _directory(file)
    found = list(_entries(file, directory))
  except CheckpointError:
    raise
  except (ValueError, struct.error) as error:
    raise CheckpointError(
      f'{file.path}: a damaged zip file ({error}); download it again.'
    ) from error
  named = {member.name: member for member in found}
  if len(named) != len(found):
    raise CheckpointError(f'{file.path}: two members of one name.')
  checksummed = any(member.crc for member in found)
  for member in found:
    member.checksummed, member.stop = checksummed, start
    least = member.header + LOCAL.size + len(member.raw_name) + member.size
    if least > start:
      raise CheckpointError(
        f'{file.path}: {shown(member.name)} ends behind the file;'
        ' download it again.'
      )
  return named


def _directory(file: File) -> tuple[int, bytes]:
  """Where the directory begins, and its bytes."""
  tail_size = min(file.size, LOCATOR64.size + END.size + MAX_COMMENT)
  tail = file.read(file.size - tail_size, tail_size)
  at = tail.rfind(b'PK\5\6')
  if at < 0:
    raise _not_a_zip(file)
  *_, length, start, _ = END.unpack_from(tail, at)
  if at >= LOCATOR64.size:
    signature, _, where, _ = LOCATOR64.unpack_from(tail, at - LOCATOR64.size)
    if signature == b'PK\6\7':
      start, length = _directory64(file, where)
  if start + length > file.size - tail_size + at:
    raise ValueError('its directory ends behind it')
  if length > MAX_DIRECTORY:
    raise ValueError('its directory is too long')
  return start, file.read(start, length)


def _directory64(file: File, where: int) -> tuple[int, int]:
  if where + END64.size > file.size:
    raise ValueError('its zip64 record ends behind it')
  signature, *_, length, start = END64.unpack(file.read(where, END64.size))
  if signature != b'PK\6\6':
    raise ValueError('its zip64 record is not there')
  return start, length


def _not_a_zip(file: File) -> CheckpointError:
  if file.size > 4 and file.read(0, 4) == b'PK\3\4':
    return CheckpointError(
      f'{file.path}: the end of this zip file is missing; download it again.'
    )
  return CheckpointError(
    f'{file.path}: not a zip file of torch.save. Files from before PyTorch 1.6'
    ' have to be loaded and saved again with a newer one.'
  )


def _entries(file: File, directory: bytes) -> Iterator[Member]:
  at = 0
  while at < len(directory):
    signature, _, _, flags, method, *numbers = ENTRY.unpack_from(directory, at)
    _, _, crc, packed, size, name_size, extra_size, comment_size = numbers[:8]
    header = numbers[-1]
    if signature != b'PK\1\2':
      raise ValueError('an entry of its directory is not one')
    name_at = at + ENTRY.size
    extra_at = name_at + name_size
    at = extra_at + extra_size + comment_size
    if at > len(directory):
      raise ValueError('its directory is cut off')
    name = directory[name_at:extra_at]
    extra = directory[extra_at : extra_at + extra_size]
    size, packed, header = _wide(extra, [size, packed, header])
    member = Member(file, name, size, crc, header)
    if method or packed != size or flags & ENCRYPTED:
      raise ValueError(f'{shown(member.name)} is compressed or encrypted')
    yield member


def _wide(extra: bytes, numbers: list[int]) -> list[int]:
  """Replaces what did not fit into 32 bits from the zip64 field."""
  count = numbers.count(ELSEWHERE)
  at = 0
  while count and at + 4 <= len(extra):
    kind, size = struct.unpack_from('<HH', extra, at)
    if kind == ZIP64_FIELD and size >= 8 * count:
      wide = iter(struct.unpack_from(f'<{count}Q', extra, at + 4))
      return [next(wide) if n == ELSEWHERE else n for n in numbers]
    at += 4 + size
  if count:
    raise ValueError('a large member without its size')
  return numbers
