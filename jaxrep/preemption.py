"""SIGTERM, by which a machine says that it is about to be taken away.

Every file of a run is written whole or not at all and nothing finished is done
again, so a process may end wherever it is: what is in hand is dropped.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable

from absl import logging

GO_ON = 'The same command goes on from what is finished.'

_farewells: list[Callable[[], None]] = []
_ending = threading.Lock()


def listen() -> None:
  """From now on SIGTERM ends this process with status 0 within seconds.

  A thread waits for it, since Python's own handlers wait until a kernel that
  the main thread has started is done. A process that has done its work and only
  clears up goes on to its own status: Python would take the handler away.
  """
  reading, writing = os.pipe()
  os.set_blocking(writing, False)
  signal.signal(signal.SIGTERM, lambda *_: None)
  signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  threading.Thread(target=_wait, args=(reading,), daemon=True).start()
  atexit.register(signal.signal, signal.SIGTERM, signal.SIG_IGN)


def before_end(farewell: Callable[[], None]) -> None:
  """Calls this, which must not take long, when SIGTERM has come."""
  _farewells.append(farewell)


def end(status: int, message: str) -> None:
  """Ends the process from any thread, without waiting for the others."""
  _ending.acquire()  # never released: the first one ends it
  if status:
    print(f'error: {message}', file=sys.stderr)
  else:
    logging.warning('%s', message)
  for child in multiprocessing.active_children():
    child.kill()
  logging.flush()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def _wait(reading: int) -> None:
  while os.read(reading, 1)[0] != signal.SIGTERM:
    pass
  for farewell in _farewells:
    farewell()
  end(0, f'Stopped by SIGTERM. {GO_ON}')
