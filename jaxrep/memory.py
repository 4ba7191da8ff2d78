"""How this process asks for memory."""

import os
import sys


def take_large_pages() -> None:
  """Starts this process again, told to take large pages.

  XLA's buffers come and go with every step: in pages of 4 KiB a third of a
  training step on a CPU goes into asking for them. glibc takes larger ones
  where it is told before a process starts.
  """
  if sys.platform == 'linux' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    os.execv(sys.executable, sys.orig_argv)
