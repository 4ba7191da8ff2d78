"""Where a process' time goes, by stage, and what it did in it.

`recording` opens a session, in which `stage` names what is going on and `add`
counts what it does; without a session both do nothing. Every moment belongs to
one stage, the innermost, so the stages' seconds are the whole and no more. Only
the thread that opened the session has stages.

A session is one JSON file in `timings/` of the working folder, written again as
the work goes on: a process that is killed leaves what it had measured, and the
next one adds a file.
"""

import collections
import contextlib
import contextvars
import datetime
import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

from absl import logging
from etils import epath

from jaxrep import files
from jaxrep.observe.programs import Programs

Number = int | float
FOLDER = 'timings'
START, OTHER = 'start', 'other'
MILESTONES = ('batches', 'scores')
_SHARE = 1 / 200  # of the time, at most, goes into writing the file


class Session:
  """What is known of a process; see `recording`.

  `parts` are by kind and name, as ('models', 'sonar text').
  """

  def __init__(self, workdir: epath.PathLike, job: str, age: Number):
    self.stages: dict[str, Number] = collections.Counter({START: age})
    self.parts: dict[tuple[str, str], dict[str, Number]] = {}
    self.about: dict[str, Any] = {'process': 0, 'processes': 1, 'devices': []}
    self._first: dict[str, dict[str, Number]] = {}
    self._stack: list[tuple[str, tuple[str, str]]] = [(START, (OTHER, START))]
    self._workdir, self._job, self._age = epath.Path(workdir), job, age
    self._began = self._mark = time.monotonic()
    now = datetime.datetime.now(datetime.UTC)
    self._started = now - datetime.timedelta(seconds=age)
    self._next = 0.0

  @contextlib.contextmanager
  def stage(self, name: str, part: tuple[str, str] | None) -> Iterator[None]:
    self._lap()
    if part is None:
      part = self._stack[-1][1]
      part = (OTHER, name) if part[0] == OTHER else part
    self._stack.append((name, part))
    try:
      yield
    finally:
      self._lap()
      self._stack.pop()
      if len(self._stack) == 1:
        self._stack[0] = OTHER, (OTHER, OTHER)
      if time.monotonic() > self._next:
        self.write()

  def add(self, **quantities: Number) -> None:
    part = self.parts.setdefault(self._stack[-1][1], collections.Counter())
    for name, value in quantities.items():
      part[name] += value
      if name in MILESTONES and name not in self._first:
        seconds = self._age + time.monotonic() - self._began
        self._first[name] = {'seconds': seconds, 'cpu_seconds': _processor()}

  def compiled(self, stage: str, seconds: Number, **counts: Number) -> None:
    """Takes seconds out of the stage that they fell into."""
    self._lap()
    self._book(self._stack[-1][0], -seconds)
    self._book(stage, seconds)
    self.add(**counts)

  def write(self, ended: bool = False) -> None:
    """Into the working folder, once a run is defined there."""
    self._lap()
    began = time.monotonic()
    try:
      if (self._workdir / 'plan.json').exists():
        name = f'{self._started:%Y%m%dT%H%M%S.%f}-{os.getpid()}.json'
        text = json.dumps(self._content(ended), indent=1)
        files.write(self._workdir / FOLDER / name, text)
    except Exception as error:  # a run does not end for want of its timings
      logging.log_first_n(
        logging.WARNING, 'Timings cannot be kept: %s', 1, error
      )
    now = time.monotonic()
    self._next = now + (now - began) / _SHARE

  def _content(self, ended: bool) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {}
    for (kind, name), quantities in self.parts.items():
      kinds.setdefault(kind, {})[name] = dict(quantities)
    unit = 1 if sys.platform == 'darwin' else 1024
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
      'job': self._job,
      'started': self._started.isoformat('T', 'seconds'),
      'ended': ended,
      'seconds': self._age + self._mark - self._began,
      'cpu_seconds': _processor(),
      'host_peak_bytes': usage.ru_maxrss * unit,
      'first': self._first,
      **self.about,
      'stages': dict(self.stages),
      'parts': kinds,
    }

  def _lap(self) -> None:
    """Books the time since the last lap."""
    now = time.monotonic()
    self._book(self._stack[-1][0], now - self._mark)
    self._mark = now

  def _book(self, stage: str, seconds: Number) -> None:
    """To the stage, and to what it is done for."""
    self.stages[stage] += seconds
    if self._stack[-1][1][0] != OTHER:
      self.add(**{f'{stage.replace(" ", "_")}_seconds': seconds})


_CURRENT: contextvars.ContextVar[Session | None] = contextvars.ContextVar(
  'session', default=None
)


@contextlib.contextmanager
def recording(
  workdir: epath.PathLike, job: str, age: Number = 0.0
) -> Iterator[Session]:
  """A session of a job; `age` are the seconds that the process has lived."""
  session = Session(workdir, job, age)
  token, ended = _CURRENT.set(session), False
  try:
    with Programs(session.compiled).heard():
      yield session
    ended = True
  finally:
    _CURRENT.reset(token)
    session.write(ended)


def current() -> Session | None:
  return _CURRENT.get()


def stage(
  name: str, part: tuple[str, str] | None = None
) -> contextlib.AbstractContextManager[None]:
  """What is going on; `part` is what it is done for, if that is new."""
  session = current()
  return session.stage(name, part) if session else contextlib.nullcontext()


def add(**quantities: Number) -> None:
  """Adds to the quantities of the part that is being worked on."""
  session = current()
  if session:
    session.add(**quantities)


def about(**facts: Any) -> None:
  """Says what is so of the whole process, as its number."""
  session = current()
  if session:
    session.about.update(facts)


def _processor() -> Number:
  """Seconds of processor time, of the children that have ended too."""
  return sum(os.times()[:4])


def age() -> Number:
  """Seconds since this process began; 0 where the system does not tell."""
  stat = pathlib.Path('/proc/self/stat')
  if not stat.exists():
    return 0.0
  ticks = int(stat.read_text().rpartition(')')[2].split()[19])
  born = ticks / os.sysconf('SC_CLK_TCK')
  return time.clock_gettime(time.CLOCK_BOOTTIME) - born
