"""Measures candidates side by side and keeps the figures as JSON rows.

Candidates run in alternation in one process (A B A B …), so that what else the
machine does falls on all of them, and each ratio is of two neighbours in time.
Before anything is timed their outputs are compared. Memory is measured apart,
one candidate per fresh process, since peaks in one process cannot be told
apart.
"""

import dataclasses
import datetime
import functools
import gc
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from absl import app, flags

RESULTS = pathlib.Path(__file__).parent / 'results'
FOLDER = flags.DEFINE_string(
  'results', str(RESULTS), 'Folder that the rows are appended to.'
)

_PACKAGES = ('jax', 'jaxlib', 'flax', 'numpy', 'torch', 'transformers')


@dataclasses.dataclass(frozen=True)
class Spread:
  """Least, median and greatest of repeated measurements."""

  min: float
  median: float
  max: float

  @classmethod
  def of(cls, values: Sequence[float]) -> 'Spread':
    return cls(min(values), statistics.median(values), max(values))


@dataclasses.dataclass(frozen=True)
class Timing:
  """Seconds of one candidate; `cpu` counts all threads, user and system."""

  wall: Spread
  cpu: Spread


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What `compare` found.

  `ratios` are of each other candidate's seconds to the first one's, round by
  round: above 1 the first is faster. `first_call` is in seconds, compilation
  included.
  """

  rounds: int
  agreement: Mapping[str, float]
  first_call: Mapping[str, float]
  timings: Mapping[str, Timing]
  ratios: Mapping[str, Timing]


def chosen(asked: Sequence[str], known: Collection[str]) -> Collection[str]:
  """Those asked for, or all; raises UsageError where one is not known."""
  if unknown := ', '.join(sorted({*asked} - {*known})):
    raise app.UsageError(f'{unknown}: known are {", ".join(known)}.')
  return asked or known


def compare(
  calls: Mapping[str, Callable[[], Any]],
  agree: Callable[..., Mapping[str, float]],
  rounds: int = 15,
  warm_up: int = 2,
  pause: float = 0.1,
) -> Comparison:
  """Times calls in alternation after their outputs were found to agree.

  Args:
    calls: by name, the candidate of interest first. A call returns when its
      work is done: it blocks on device arrays itself.
    agree: gets the outputs in order; raises if they differ by too much, and
      returns the figures that say by how much they do.
    rounds: how often each candidate is timed.
    warm_up: untimed calls of each before (compilation, caches).
    pause: seconds before each timed call, in which the threads of the one
      before stop spinning: their CPU time is not this one's.
  """
  outputs, first_call = [], {}
  for name, call in calls.items():
    began = time.perf_counter()
    outputs.append(call())
    first_call[name] = time.perf_counter() - began
  agreement = agree(*outputs)
  for _ in range(warm_up):
    for call in calls.values():
      call()
  samples = {name: [] for name in calls}
  for _ in range(rounds):
    for name, call in calls.items():
      gc.collect()
      time.sleep(pause)
      samples[name].append(_time(call))
  first, *others = calls
  return Comparison(
    rounds,
    agreement,
    first_call,
    {name: _timing(pairs) for name, pairs in samples.items()},
    {name: _ratios(samples[name], samples[first]) for name in others},
  )


def peak_memory(work: Callable[..., Any], *arguments: Any) -> float:
  """Peak resident MB of a fresh process that does one candidate's work.

  The interpreter and all imports count, so each candidate imports its own
  libraries within `work`, not at the top of the benchmark's file. Linux only.

  Args:
    work: a function at module level, which the new process can import.
    *arguments: what it is called with.
  """
  context = multiprocessing.get_context('spawn')
  with context.Pool(1) as pool:
    return pool.apply(_peak_after, (work, arguments))


def write(
  benchmark: str,
  case: Mapping[str, Any],
  result: Comparison,
  peaks: Mapping[str, float],
) -> dict[str, Any]:
  """Appends one row to the benchmark's file and returns it.

  Args:
    benchmark: the name of the file.
    case: what was measured: sizes, dtypes.
    result: of `compare`.
    peaks: of `peak_memory`, MB by candidate.
  """
  figures = dataclasses.asdict(result) | {'peak_memory_mb': dict(peaks)}
  return append(benchmark, case, figures)


def append(
  benchmark: str, case: Mapping[str, Any], figures: Mapping[str, Any]
) -> dict[str, Any]:
  """`write` of figures that were not timed."""
  return keep(
    benchmark,
    {
      'benchmark': benchmark,
      'date': datetime.date.today().isoformat(),
      'case': _rounded(case),
      **_rounded(dict(figures)),
      'machine': machine(),
    },
  )


def keep(benchmark: str, row: dict[str, Any]) -> dict[str, Any]:
  """Appends a row as it is to the benchmark's file and returns it."""
  with in_results(f'{benchmark}.jsonl').open('a') as file:
    file.write(json.dumps(row) + '\n')
  return row


def in_results(name: str) -> pathlib.Path:
  """The file of this name in the folder of results, which is made."""
  folder = pathlib.Path(FOLDER.value)
  folder.mkdir(parents=True, exist_ok=True)
  return folder / name


def machine() -> dict[str, Any]:
  """What the figures depend on, and nothing that tells whose machine it is."""
  import jax  # here: a process that measures another library does without

  device = jax.devices()[0]
  return {
    'cpu': _cpu_model(),
    'cores': len(os.sched_getaffinity(0)),
    'load': round(os.getloadavg()[0], 1),  # of the last minute, ours included
    'device': f'{jax.device_count()} x {device.device_kind}',
    'python': platform.python_version(),
    **{name: _version(name) for name in _PACKAGES},
  }


def matmul_rate(dtype: str) -> float:
  """GFLOP a second of the fastest of two products, large and flat, in JAX.

  bfloat16 accumulates in float32, as the networks do; an accelerator rounds the
  results. It is given larger ones, several before it is waited for, of random
  numbers: of equal ones it makes more a second.
  """
  import jax
  import jax.numpy as jnp

  from jaxrep.precision import PRECISIONS

  on_cpu = jax.default_backend() == 'cpu'

  @jax.jit
  def product(x, y):
    if on_cpu:
      return jnp.dot(
        x, y, precision='highest', preferred_element_type=jnp.float32
      )
    return jnp.dot(x, y, precision=PRECISIONS[dtype].matmul)

  scale, calls = (1, 1) if on_cpu else (2, 20)
  best = 0.0
  for shape in ((4096, 4096, 4096), (2048, 1024, 4096)):
    rows, inner, columns = (scale * size for size in shape)
    draw = functools.partial(jax.random.normal, dtype=dtype)
    x = draw(jax.random.key(0), (rows, inner))
    y = draw(jax.random.key(1), (inner, columns))
    product(x, y).block_until_ready()
    for _ in range(6):
      began = time.perf_counter()
      for _ in range(calls):
        found = product(x, y)
      found.block_until_ready()
      seconds = (time.perf_counter() - began) / calls
      best = max(best, 2 * rows * inner * columns / seconds / 1e9)
  return best


def summary(row: Mapping[str, Any]) -> str:
  """One line a candidate, for people."""
  lines = [f'{row["benchmark"]} {row["case"]} agreement {row["agreement"]}']
  for name, timing in row['timings'].items():
    ratio = row['ratios'].get(name)
    lines.append(
      f'  {name}: wall {timing["wall"]["median"] * 1e3:.2f} ms, '
      f'cpu {timing["cpu"]["median"] * 1e3:.2f} ms, '
      f'peak {row["peak_memory_mb"].get(name, float("nan")):.0f} MB'
      + (f'; {_times(ratio["wall"])} wall' if ratio else '')
      + (f', {_times(ratio["cpu"])} cpu' if ratio else '')
    )
  return '\n'.join(lines)


def _times(spread):
  return f'{spread["median"]:.1f}x ({spread["min"]:.1f}-{spread["max"]:.1f})'


def _time(call):
  wall, cpu = time.perf_counter(), time.process_time()
  call()
  return time.perf_counter() - wall, time.process_time() - cpu


def _timing(pairs):
  wall, cpu = zip(*pairs, strict=True)
  return Timing(Spread.of(wall), Spread.of(cpu))


def _ratios(others, firsts):
  return _timing(
    [
      (other[0] / first[0], other[1] / first[1])
      for other, first in zip(others, firsts, strict=True)
    ]
  )


def _peak_after(work, arguments):
  work(*arguments)
  # Not ru_maxrss: a new process inherits its parent's.
  status = pathlib.Path('/proc/self/status').read_text()
  (peak,) = (line for line in status.splitlines() if line.startswith('VmHWM'))
  return int(peak.split()[1]) * 1024 / 1e6


def _rounded(value):
  if isinstance(value, Mapping):
    return {key: _rounded(item) for key, item in value.items()}
  return float(f'{value:.4g}') if isinstance(value, float) else value


def _cpu_model():
  info = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  models = (line.split(':')[1] for line in info if 'model name' in line)
  return next(models, platform.machine()).strip()


def _version(package):
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None
