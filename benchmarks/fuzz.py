"""Damaged files of every kind that the tool reads: each is read or refused.

    python -m benchmarks.fuzz --inputs=100000 --seed=0 [--reader='FLAC']

Each input is one change of one small valid file, read through the function
that a job calls. It is read right, or read as what it says now where nothing
could tell, or refused by an InputError or CheckpointError that names the file.
Whatever else happens is a finding: another exception, a refusal without a
name, other values where a sum would have told, more than 2 s of CPU time, 300
MB, a file made outside, a program or a connection started, a crash. Readers
run in forked processes, so that a library that dies ends one input alone.

Appends a row to `results/fuzz.jsonl`; 15 minutes on one core. An input again:
`--reader=… --only=<its number>`.
"""

import collections
import datetime
import importlib.metadata
import mmap
import os
import pathlib
import platform
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Mapping
from typing import Any

os.environ |= {'JAX_PLATFORMS': 'cpu', 'HF_HUB_OFFLINE': '1'}

from absl import app, flags, logging

from benchmarks import harness
from benchmarks.fuzzing import READERS
from jaxrep.types import InputError
from ports.checkpoints import CheckpointError

SECONDS = 2.0  # of CPU time, of one input
STUCK = 60.0  # seconds without an answer, after which a process is killed
GROWTH_MB = 300
ROOM = 4 << 30
CHUNK = 2000  # inputs of one process
PACKAGES = ('numpy', 'pyarrow', 'soundfile', 'tensorstore', 'sentencepiece')
PACKAGES += ('tensorflow-datasets', 'array-record', 'transformers', 'jax')
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ('os.rename', 'os.remove', 'os.rmdir', 'os.mkdir', 'os.symlink')
STARTS = ('os.system', 'subprocess.Popen', 'os.exec', 'os.posix_spawn')
STARTS += ('socket.connect', 'pickle.find_class')

_INPUTS = flags.DEFINE_integer('inputs', 100_000, 'Of all readers together.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of all changes.')
_READER = flags.DEFINE_string('reader', '', 'One alone; writes no row.')
_ONLY = flags.DEFINE_integer('only', -1, 'One input alone, by its number.')
_NOTE = flags.DEFINE_string('note', '', 'What the row is of.')


class Slow(BaseException):
  """An input takes longer than it may."""


def run(
  name: str, count: int, seed: int, folder: pathlib.Path, first: int = 0
) -> tuple[collections.Counter, list[tuple[int, str]]]:
  """How often what happened to a reader's inputs, and the findings.

  Args:
    name: of the reader.
    count: of its inputs.
    seed: of the changes.
    folder: where its files may lie.
    first: the number of the first input.

  Returns:
    Counts of 'read', 'read otherwise' and 'refused'; and (input's number, kind
    and place) of each finding.
  """
  counts, findings = collections.Counter(), []
  files, answers = folder / 'files', folder / 'answers'
  made = folder.parent / READERS[name].make.__name__
  if not made.exists():
    _forked(_make, name, made)
  start, end = first, first + count
  while start < end:
    stop = min(start + CHUNK, end)
    answers.write_bytes(b'')
    shutil.rmtree(files, ignore_errors=True)
    shutil.copytree(made, files)
    died = _forked(_work, name, files, answers, range(start, stop), seed)
    lines = answers.read_text().splitlines()
    for number, line in enumerate(lines, start):
      kind, _, what = line.partition('\t')
      if kind == 'finding':
        findings.append((number, what))
      else:
        counts[kind] += 1
    start += len(lines)
    if died:
      findings.append((start, died))
      start += 1
    elif start < stop:
      raise RuntimeError(f'{name}: {start} of {stop} inputs answered.')
  return counts, findings


def _forked(work: Any, *arguments: Any) -> str:
  """Runs a function in a process of its own; says how that died, if it did."""
  sys.stdout.flush()
  beat = mmap.mmap(-1, 8)
  pid = os.fork()
  if not pid:
    status = 1
    try:
      work(beat, *arguments)
      status = 0
    except BaseException:
      traceback.print_exc()
    os._exit(status)
  last, since = b'', time.monotonic()
  while True:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
      break
    if beat[:] != last:
      last, since = beat[:], time.monotonic()
    if time.monotonic() - since > STUCK:
      os.kill(pid, signal.SIGKILL)
      os.waitpid(pid, 0)
      return 'hangs'
    time.sleep(0.02)
  if os.WIFSIGNALED(status):
    return f'dies of {signal.Signals(os.WTERMSIG(status)).name}'
  if status:
    raise RuntimeError(f'{work.__name__} of {arguments[0]} failed; see above.')
  return ''


def _make(beat: mmap.mmap, name: str, files: pathlib.Path) -> None:
  files.mkdir()
  _quiet()
  READERS[name].make(files)


def _quiet() -> None:
  warnings.simplefilter('ignore')
  logging.set_verbosity(logging.ERROR)
  null = os.open(os.devnull, os.O_WRONLY)
  os.dup2(null, 1)
  if _ONLY.value < 0:
    os.dup2(null, 2)


def _work(
  beat: mmap.mmap,
  name: str,
  files: pathlib.Path,
  answers: pathlib.Path,
  numbers: range,
  seed: int,
) -> None:
  """Reads a range of inputs and writes a line of each."""
  reader = READERS[name]
  stderr = os.dup(2)
  _quiet()
  place = files.parent
  os.environ['JAXREP_DATA'] = str(place / 'prepared')
  os.environ['TMPDIR'] = tempfile.tempdir = str(place)
  try:
    expected = reader.read(files, random.Random(0))
    originals = {
      way.file: (files / way.file).read_bytes() for way in reader.ways
    }
    _limit()
  except BaseException:
    os.dup2(stderr, 2)
    raise
  done: list[str] = []
  sys.addaudithook(lambda event, given: _watch(event, given, place, done))
  with open(answers, 'a') as lines:
    for number in numbers:
      beat[:] = struct.pack('<q', number)
      rng = random.Random(f'{seed} {name} {number}')
      way = rng.choice(reader.ways)
      path = files / way.file
      path.write_bytes(way.damage(rng, originals[way.file]))
      done.clear()
      answer = _answer(reader, way, files, rng, expected)
      if done:
        answer = f'finding\t{done[0]}'
      path.write_bytes(originals[way.file])
      lines.write(_printable(answer) + '\n')
      lines.flush()


def _printable(text: str) -> str:
  return ''.join(c if c.isprintable() or c == '\t' else '?' for c in text)


def _limit() -> None:
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  most = pages * resource.getpagesize() + ROOM
  resource.setrlimit(resource.RLIMIT_AS, (most, most))
  signal.signal(signal.SIGPROF, _stop)


def _stop(*_: Any) -> None:
  raise Slow


def _watch(
  event: str, given: tuple, place: pathlib.Path, done: list[str]
) -> None:
  """Notes what no reader may do."""
  if event in STARTS:
    done.append(f'{event} {given[0]!r:.60}')
  writes = event == 'open' and isinstance(given[2], int) and given[2] & WRITES
  if (writes or event in CHANGES) and isinstance(given[0], (str, bytes)):
    path = os.path.abspath(os.fsdecode(given[0]))
    inside = event in CHANGES and given[-1] not in (-1, None)  # of a folder
    if not inside and not path.startswith((f'{place}/', '/dev/')):
      done.append(f'{event} outside: {path:.60}')


def _answer(
  reader: Any, way: Any, files: pathlib.Path, rng: random.Random, expected: Any
) -> str:
  """What happened to one input, as one line."""
  most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  signal.setitimer(signal.ITIMER_PROF, SECONDS)
  try:
    found = reader.read(files, rng)
    signal.setitimer(signal.ITIMER_PROF, 0)
    same = found == expected
    answer = 'read' if same else 'read otherwise'
    if way.summed and not same and found is not None:
      answer = f'finding\tother values ({pathlib.Path(way.file).name})'
  except (InputError, CheckpointError) as error:
    names = (str(files), pathlib.Path(way.file).name, *reader.names)
    answer = _refusal(error, names)
  except Slow as error:
    answer = f'finding\ttakes too long: {_place(error)}'
  except MemoryError as error:
    answer = f'finding\tout of memory: {_place(error)}'
  except BaseException as error:
    answer = f'finding\t{type(error).__name__}: {_place(error)}\t{error!s:.150}'
  finally:
    signal.setitimer(signal.ITIMER_PROF, 0)
  if _ONLY.value >= 0 and answer.startswith('finding'):
    traceback.print_exc()
  grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most
  if grown > GROWTH_MB << 10 and not answer.startswith('finding'):
    answer = f'finding\ttakes {grown >> 10} MB ({answer})'
  return answer


def _refusal(error: Exception, names: tuple[str, ...]) -> str:
  text = str(error)
  if not any(one in text for one in names):
    return f'finding\tno name: {_place(error)}\t{text:.150}'
  if text.encode(errors='ignore').decode() != text:
    return f'finding\tcannot be printed: {_place(error)}\t{text!r:.150}'
  return 'refused'


def _place(error: BaseException) -> str:
  """The innermost line of the project's own that an error came through."""
  own = [
    f'{pathlib.Path(frame.filename).name}:{frame.lineno}'
    for frame in traceback.extract_tb(error.__traceback__)
    if f'{os.sep}jaxrep{os.sep}' in frame.filename
    or f'{os.sep}ports{os.sep}' in frame.filename
  ]
  return own[-1] if own else '?'


def shares(inputs: int) -> dict[str, int]:
  """Reader → how many of the inputs are its own; at least one."""
  total = sum(reader.share for reader in READERS.values())
  return {
    name: max(1, -(-inputs * reader.share // total))
    for name, reader in READERS.items()
  }


def row(
  outcomes: Mapping[str, Mapping[str, int]],
  kinds: Mapping[str, int],
  seed: int,
  seconds: float,
) -> dict[str, Any]:
  """What is kept of a run."""
  return {
    'benchmark': 'fuzz',
    'date': datetime.date.today().isoformat(),
    'note': _NOTE.value,
    'inputs': sum(sum(counts.values()) for counts in outcomes.values()),
    'findings': sum(kinds.values()),
    'kinds': dict(kinds),
    'readers': outcomes,
    'seed': seed,
    'seconds': round(seconds),
    'python': platform.python_version(),
    **{name: importlib.metadata.version(name) for name in PACKAGES},
  }


def fuzz(wanted: Mapping[str, int], place: pathlib.Path) -> dict[str, Any]:
  """Runs readers one after another; prints and returns what happened."""
  start = time.perf_counter()
  outcomes, kinds = {}, collections.Counter()
  for name, count in wanted.items():
    begun = time.perf_counter()
    folder = place / str(len(outcomes))
    folder.mkdir()
    first = max(0, _ONLY.value)
    count = count if _ONLY.value < 0 else 1
    counts, findings = run(name, count, _SEED.value, folder, first)
    outcomes[name] = {**counts, 'findings': len(findings)}
    kinds.update(what.partition(':')[0][:60] for _, what in findings)
    examples = {one[1].partition('\t')[0]: one for one in reversed(findings)}
    took = time.perf_counter() - begun
    print(f'{name}: {outcomes[name]} in {took:.1f} s', flush=True)
    for number, what in examples.values():
      print(f'  {number}: {what}', flush=True)
  return row(outcomes, kinds, _SEED.value, time.perf_counter() - start)


def main(_) -> None:
  sys.dont_write_bytecode = True
  wanted = shares(_INPUTS.value)
  if _READER.value:
    wanted = {_READER.value: _INPUTS.value}
  with tempfile.TemporaryDirectory() as place:
    os.environ['HF_HOME'] = place
    found = fuzz(wanted, pathlib.Path(place))
  if not _READER.value:
    harness.keep('fuzz', found)
  print(found['inputs'], 'inputs,', found['findings'], 'findings')


if __name__ == '__main__':
  app.run(main)
