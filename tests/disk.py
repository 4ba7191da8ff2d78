"""A disk of a few hundred kilobytes that fills up, or is made read-only.

It is a tmpfs in a mount namespace of its own, which goes with the process that
holds it; other processes reach it under /proc.
"""

import contextlib
import pathlib
import subprocess
from collections.abc import Iterator

import pytest


class Disk:
  """`path` is its root."""

  def __init__(self, holder: subprocess.Popen, where: pathlib.Path):
    self._holder, self._where = holder, where
    self.path = pathlib.Path(f'/proc/{holder.pid}/root{where}')

  def resize(self, kilobytes: int) -> None:
    self._mount(f'remount,size={kilobytes}k')

  def fill(self, spare: int) -> None:
    """Leaves so many kilobytes free, or a page; none would mean no limit."""
    used = self._told(f'du -sk {self._where} | cut -f 1')
    self.resize(max(int(used) + spare, 4))

  @contextlib.contextmanager
  def read_only(self) -> Iterator[None]:
    self._mount('remount,ro')
    try:
      yield
    finally:
      self._mount('remount,rw')

  def _mount(self, options: str) -> None:
    done = f'mount -t tmpfs -o {options} none {self._where} && echo done'
    if self._told(f'{done} || echo failed') != 'done':
      raise OSError(f'cannot mount {self._where} with {options}')

  def _told(self, command: str) -> str:
    self._holder.stdin.write(f'{command}\n')
    self._holder.stdin.flush()
    return self._holder.stdout.readline().strip()


@contextlib.contextmanager
def mounted(where: pathlib.Path, kilobytes: int) -> Iterator[Disk]:
  """A disk of that size; the test is skipped where none can be mounted."""
  where.mkdir(parents=True, exist_ok=True)
  with subprocess.Popen(
    ['unshare', '--user', '--map-root-user', '--mount', 'sh'],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as holder:
    disk = Disk(holder, where)
    try:
      disk._mount(f'size={kilobytes}k')
    except OSError as error:
      holder.kill()
      pytest.skip(f'{error}: the kernel lends no namespaces')
    yield disk
    holder.stdin.close()
