"""Tensors that stay in their file until they are read.

Both readers of checkpoints stand on this file: what a lazy tensor is, what
its shape may be, and how bytes of a file that may change or vanish are read.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

MAX_AXES = 64  # of NumPy and of PyTorch
MAX_BYTES = 2**63  # NumPy counts the bytes of an array in 63 bits
PIECE = 1 << 20


class CheckpointError(ValueError):
  """A checkpoint that cannot be used; the message names the file and why."""


class Tensor(NamedTuple):
  """A tensor in a file: `read` maps it, and the map goes with the array."""

  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[], np.ndarray]


class File(NamedTuple):
  """A file as it was when it was opened; every access checks that it is."""

  path: Path
  size: int
  modified: int

  @classmethod
  def of(cls, path: Path) -> 'File':
    try:
      status = path.stat()
    except OSError as error:
      raise unreadable(path, error) from error
    return cls(path, status.st_size, status.st_mtime_ns)

  @contextlib.contextmanager
  def opened(self) -> Iterator[BinaryIO]:
    """The open file; operating-system errors inside name the file."""
    try:
      with open(self.path, 'rb') as file:
        status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != self[1:]:
          raise CheckpointError(
            f'{self.path}: has changed since it was opened; open it again.'
          )
        yield file
    except OSError as error:
      raise unreadable(self.path, error) from error

  def read(self, offset: int, count: int) -> bytes:
    return b''.join(self.pieces(offset, count))

  def pieces(self, offset: int, count: int) -> Iterator[bytes]:
    """The bytes piece by piece, so that they never lie in memory at once."""
    with self.opened() as file:
      file.seek(offset)
      while count:
        piece = file.read(min(count, PIECE))
        if not piece:
          raise CheckpointError(f'{self.path}: ends too early.')
        count -= len(piece)
        yield piece

  def map(self, dtype: np.dtype, offset: int, count: int) -> np.ndarray:
    """A read-only window of `count` numbers; the caller checked its bounds.

    The bounds are the caller's to check because the system kills a process
    that touches a page behind the end of a mapped file.
    """
    if not count:
      return np.zeros(0, dtype)
    with self.opened() as file:
      if hasattr(os, 'posix_fadvise'):
        # Read in one go: a transposed tensor is touched page by page.
        size, wanted = count * dtype.itemsize, os.POSIX_FADV_WILLNEED
        os.posix_fadvise(file.fileno(), offset, size, wanted)
      return np.memmap(file, dtype, 'r', offset, (count,))


def unreadable(path: Path, error: OSError) -> CheckpointError:
  return CheckpointError(f'{path}: cannot be read ({error.strerror or error}).')


def is_count(value: Any) -> bool:
  """Whether a value from a file is a number of things; a bool is not."""
  return type(value) is int and 0 <= value < MAX_BYTES


def check_shape(shape: tuple[Any, ...], dtype: np.dtype, owner: str) -> int:
  """The number of elements.

  Raises:
    ValueError: No array can have this shape; names the owner.
  """
  if len(shape) > MAX_AXES or not all(map(is_count, shape)):
    raise ValueError(f'{owner} has a shape that no tensor has')
  # NumPy counts the other axes of an empty array as well.
  if math.prod(n for n in shape if n) * dtype.itemsize >= MAX_BYTES:
    raise ValueError(f'{owner} has a shape that no memory holds')
  return math.prod(shape)


def shown(value: str) -> str:
  """Text from a file as a message can hold it: printable and short."""
  text = value if value.isprintable() else ascii(value[:100])
  return text if len(text) <= 100 else f'{text[:100]}…'
