"""The processes of a run on several hosts: they begin and end together.

Extraction needs nothing of the others, scoring needs them all, so a run ends
as a whole. A process that dies, fails or is told to stop is noticed by the
others wherever they are, in a kernel that waits for it too; each says why it
ends. The first process holds them together: where it is killed, JAX ends the
others at once.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from jaxtyping import Bool

from jaxrep import preemption
from jaxrep.types import InputError

_SILENCE = 20  # seconds without a sign of life after which a process is dead
_START = 120  # seconds that all may take to come
_LATE = 60  # seconds after which a written file is to be seen everywhere
_LEAVE = 10  # seconds that the first one waits for the others to leave
_FOR_EVER_MS = 10**9
_LEFT = 'jaxrep/left/'  # key: process → STOPPED or FAILED
_STOPPED, _FAILED = 'stopped', 'failed'
_AGAIN = (
  'Start all again with the same command, on any number of processes: it goes '
  'on from what is finished.'
)


@contextlib.contextmanager
def joined(multihost: bool, cache: str = '') -> Iterator[None]:
  """While a job runs: the compilation cache, and the other processes.

  Args:
    multihost: whether there are others.
    cache: folder of the persistent compilation cache; 'none' for none, '' for
      what the process has.

  Raises:
    InputError: no cluster was found.
  """
  if cache == 'none':
    jax.config.update('jax_enable_compilation_cache', False)
  elif cache:
    jax.config.update('jax_compilation_cache_dir', cache)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  if not multihost:
    yield
    return
  _connect()
  over = threading.Event()
  watch = threading.Thread(target=_watch, args=(over,), daemon=True)
  watch.start()
  preemption.before_end(lambda: _leave(_STOPPED))
  try:
    yield
    wait_for_all('ended')
  except BaseException as error:
    if not isinstance(error, InputError | SystemExit | KeyboardInterrupt):
      # A collective breaks, by whatever error, before its partner is known to
      # be dead; who knows then ends this process.
      watch.join(2 * _SILENCE)
    over.set()
    _leave(_FAILED)
    raise
  over.set()
  _leave('')


def process() -> tuple[int, int]:
  """This process' number, and how many there are."""
  return jax.process_index(), jax.process_count()


def is_first() -> bool:
  return jax.process_index() == 0


def wait_for_all(stage: str) -> None:
  """Until every process has come to this stage, however long one takes.

  Not by a collective: on CPUs those give up after 30 s.
  """
  if jax.process_count() > 1:
    _client().wait_at_barrier(stage, _FOR_EVER_MS)


def seen(written: Callable[[], bool]) -> bool:
  """Whether what other processes wrote is to be seen here, within a minute.

  A shared file system may show a new file to one process before another.
  """
  until = time.monotonic() + _LATE
  while not (found := written()) and time.monotonic() < until:
    time.sleep(1)
  return found


def anywhere(
  stage: str, flags: Bool[np.ndarray, ' n']
) -> Bool[np.ndarray, ' n']:
  """Which flags are set in any process, once all have come to this stage."""
  if jax.process_count() == 1:
    return flags
  client, folder = _client(), f'jaxrep/{stage}/'
  mine = np.packbits(flags).tobytes().hex()
  client.key_value_set(f'{folder}{jax.process_index()}', mine)
  wait_for_all(stage)
  found = [
    np.frombuffer(bytes.fromhex(packed), np.uint8)
    for _, packed in client.key_value_dir_get(folder)
  ]
  packed = np.bitwise_or.reduce(found)
  return np.unpackbits(packed, count=len(flags)).astype(bool)


def _connect() -> None:
  if jax.distributed.is_initialized():
    return
  # A dead process shall not have the others killed before they say why.
  jax.config.update('jax_enable_recoverability', True)
  jax.config.update('jax_enable_preemption_service', False)
  # JAX would end this process without a word of what to do.
  patience = threading.Timer(
    _START,
    preemption.end,
    (1, f'--multihost: not all processes came within {_START} s. {_AGAIN}'),
  )
  patience.daemon = True
  patience.start()
  try:
    jax.distributed.initialize(
      local_device_ids=_devices(),
      initialization_timeout=2 * _START,
      heartbeat_timeout_seconds=_SILENCE,
    )
  except ValueError as error:
    raise InputError(
      f'--multihost: no cluster was found ({error}). Leave the flag out on '
      'one machine; it works on a TPU pod slice, under Slurm and Open MPI.'
    ) from error
  finally:
    patience.cancel()
  logging.info('Process %d of %d', jax.process_index(), jax.process_count())


def _devices() -> list[int] | None:
  """[], all devices, where this process has its machine to itself.

  Under Slurm and Open MPI JAX takes one a process, whatever the machine has.
  """
  given = os.environ
  if 'JAX_LOCAL_DEVICE_IDS' in given:
    return None
  beside = given.get('OMPI_COMM_WORLD_LOCAL_SIZE')
  if beside is None:  # mpirun under Slurm is one of Slurm's tasks itself
    tasks = given.get('SLURM_STEP_NUM_TASKS')
    return [] if tasks and tasks == given.get('SLURM_STEP_NUM_NODES') else None
  return [] if beside == '1' else None


def _client() -> Any:
  """JAX shows its barriers and keys to no one else."""
  from jax._src import distributed

  return distributed.global_state.client


def _watch(over: threading.Event) -> None:
  """Ends this process when another one has ended before its time."""
  client, (index, count) = _client(), process()
  everyone = [*range(count)]
  while not over.wait(1):
    try:
      live = client.get_live_nodes(everyone)
      left = dict(client.key_value_dir_get(_LEFT))
    except jax.errors.JaxRuntimeError:
      continue  # at the end; otherwise JAX ends this process
    if over.is_set():
      return
    left.pop(f'{_LEFT}{index}', None)
    gone = [i for i in everyone if i not in live]
    if left:
      _follow(*left.popitem(), count)
    elif gone and not over.wait(2):  # they may just have ended first
      _leave('')
      names = ', '.join(map(str, gone))
      preemption.end(
        1,
        f'Process {names} of {count} died: no sign of life for '
        f'{_SILENCE} s. {_AGAIN}',
      )


def _follow(key: str, reason: str, count: int) -> None:
  """Ends this process for the reason that another one gave."""
  _leave('')
  which = f'Process {key.rpartition("/")[2]} of {count}'
  if reason == _STOPPED:
    preemption.end(
      0, f'{which} was stopped by SIGTERM, and so is this one. {_AGAIN}'
    )
  preemption.end(1, f'{which} failed; what it printed says why. {_AGAIN}')


def _leave(reason: str) -> None:
  """Tells the others, if there is a reason to; the first one leaves last."""
  work = threading.Thread(target=_disconnect, args=(reason,), daemon=True)
  work.start()
  work.join(_LEAVE)


def _disconnect(reason: str) -> None:
  client, index, count = _client(), *process()
  with contextlib.suppress(jax.errors.JaxRuntimeError):
    if reason:
      client.key_value_set(f'{_LEFT}{index}', reason)
    if index:
      client.shutdown()
      return
    while len(client.get_live_nodes([*range(count)])) > 1:
      time.sleep(0.1)
