"""Traces of bounded parts of a run, for XProf and TensorBoard.

Each is a run of its own in `profile/plugins/profile/` of the working folder.
It is taken after its programs were compiled, so that it shows the work alone.
"""

import contextlib
import contextvars
import tempfile
from collections.abc import Hashable, Iterator
from typing import Any

import jax
from absl import logging
from etils import epath

FOLDER = 'profile'
BATCHES = 4


class Tracer:
  """Takes traces into a folder, local or gs://."""

  def __init__(self, folder: epath.PathLike):
    self._folder = epath.Path(folder)
    self._compiled: set[Hashable] = set()
    self._taken: set[Hashable] = set()
    self._open: contextlib.ExitStack | None = None
    self._left = 0

  def batch(self, name: str, step: Hashable, shape: Hashable, last: Any):
    """Before each batch: traces a few of a step, from one of a known shape.

    `last` are the results under way, which are waited for at either end.
    """
    if self._open and not self._left:
      self.end(last)
    if self._open:
      self._left -= 1
    elif (step, shape) in self._compiled and self.first(step):
      self._left = BATCHES - 1
      jax.block_until_ready(last)
      self._open = contextlib.ExitStack()
      self._open.enter_context(self.trace(name))
    self._compiled.add((step, shape))

  def first(self, what: Hashable) -> bool:
    """Whether nothing was traced of it yet; from now on, something was."""
    new = what not in self._taken
    self._taken.add(what)
    return new

  def end(self, last: Any = None) -> None:
    """Ends a trace of batches, if there is one."""
    if self._open:
      jax.block_until_ready(last)
      self._open.close()
      self._open = None

  @contextlib.contextmanager
  def trace(self, name: str) -> Iterator[None]:
    """One trace, whose run has a name."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    options.session_id = name.replace(' ', '-').replace('/', '-')
    with tempfile.TemporaryDirectory() as local:
      with jax.profiler.trace(local, profiler_options=options):
        yield
      self._keep(epath.Path(local))
    logging.info('Traced %s: xprof --logdir=%s', name, self._folder)

  def _keep(self, local: epath.Path) -> None:
    """Copies the files; of several processes each under its own name."""
    mine = f'-{jax.process_index()}' if jax.process_count() > 1 else ''
    for path in local.glob('plugins/profile/*/*'):
      host, _, kind = path.name.partition('.xplane')
      target = self._folder / path.relative_to(local).parent
      target.mkdir(parents=True, exist_ok=True)
      name = f'{host}{mine}.xplane{kind}' if kind else path.name
      (target / name).write_bytes(path.read_bytes())


_CURRENT: contextvars.ContextVar[Tracer | None] = contextvars.ContextVar(
  'tracer', default=None
)


@contextlib.contextmanager
def profiling(workdir: epath.PathLike, wanted: bool) -> Iterator[None]:
  """Lets `current` give a tracer inside, where one is wanted."""
  tracer = Tracer(epath.Path(workdir) / FOLDER) if wanted else None
  token = _CURRENT.set(tracer)
  try:
    yield
  finally:
    _CURRENT.reset(token)
    if tracer:
      tracer.end()


def current() -> Tracer | None:
  return _CURRENT.get()
