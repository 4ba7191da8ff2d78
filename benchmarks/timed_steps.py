"""What every model's step of released size takes on the device at hand.

    python -m benchmarks.timed_steps [--programs='sonar speech,sonar text']

The counterpart of `compiled_steps` where there is a device: random weights, one
batch of clips of `--seconds` or texts of `--tokens` that lies on the device,
from waveforms or tokens to pooled taps. Where the step has kernels of
`ports.kernels`, XLA's own program of it is timed beside it, in alternation. One
row each: seconds of a batch, of a second of audio or a token, the share of a
matrix product's rate, memory. `--trace` leaves a trace of one call as well, in
the folder 'trace' beside the rows.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks import harness, programs
from jaxrep import mesh as meshes
from jaxrep.extract import cost, pooling
from jaxrep.extract.plan import Options
from jaxrep.extract.step import pooled_step
from jaxrep.opened import Model
from ports import attention, convolutions

_PRECISION = flags.DEFINE_string('precision', 'bfloat16', 'Of all.')
_ROWS = flags.DEFINE_integer('rows', 0, 'A device; 0 for 64, or 512 of text.')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Timed calls of each form.')
_CALLS = flags.DEFINE_integer('calls', 5, 'Batches in each.')
_TRACE = flags.DEFINE_bool('trace', False, 'Trace one round.')


def main(_) -> None:
  rate = harness.matmul_rate(_PRECISION.value)
  for model in programs.models():
    print(measure(model, rate), flush=True)


def measure(model: Model, rate: float) -> dict[str, Any]:
  unit, each = programs.length_of(model)
  length = programs.padded(model)
  mesh = meshes.local_mesh()
  a_device = _ROWS.value or (64 if model.modality == 'speech' else 512)
  rows = a_device * mesh.size
  options = Options(precision=_PRECISION.value)
  gflop = cost.flops_of(model, options, rows, length) / 1e9
  forms, compiling = compiled(model, options, mesh, rows, length)
  state, batch = drawn(model, options, mesh, rows, length)
  calls = {name: called(step, state, batch) for name, step in forms.items()}
  found = harness.compare(calls, agree, _ROUNDS.value)
  if _TRACE.value:
    with jax.profiler.trace(str(harness.in_results('trace'))):
      calls['kernels']()
  seconds = found.timings['kernels'].wall.median / _CALLS.value
  stats = jax.local_devices()[0].memory_stats() or {}
  return harness.append(
    'timed_steps',
    {
      'model': model.name,
      'modality': model.modality,
      'dtype': options.precision,
      'rows': rows,
      unit: each,
      'gflop': gflop,
      'matmul_gflop_per_s': rate,
    },
    {
      'agreement': dict(found.agreement),
      'seconds_a_batch': seconds,
      'seconds_each': seconds / (rows * each),
      'share_of_peak': gflop / seconds / (rate * mesh.size),
      'xla_over_kernels': {
        name: ratio.wall.__dict__ for name, ratio in found.ratios.items()
      },
      'compiling': compiling,
      'peak_memory_gib': stats.get('peak_bytes_in_use', 0) / 2**30,
      'temporaries_gib': {
        name: step.memory_analysis().temp_size_in_bytes / 2**30
        for name, step in forms.items()
      },
    },
  )


def compiled(
  model: Model, options: Options, mesh: Any, rows: int, length: int
) -> tuple[dict[str, Any], dict[str, float]]:
  """The step, and XLA's own program if the step has a kernel; seconds each."""
  forms, took, texts = {}, {}, {}
  for name, place in (
    ('kernels', contextlib.nullcontext()),
    ('xla', without_kernels()),
  ):
    with place:
      pooled_step.cache_clear()
      jax.clear_caches()
      step = pooled_step(
        *(model.program, pooling.parse('mean'), options.precision, mesh)
      )
      state = model.program.shapes(options.precision, meshes.placement(mesh))
      batch = jax.ShapeDtypeStruct((rows, length), model.inputs.dtype)
      lengths = jax.ShapeDtypeStruct((rows,), jnp.int32)
      lowered = step.lower(state, batch, lengths)
      texts[name] = lowered.as_text()
      if texts[name] in [texts[other] for other in forms]:
        continue
      began = time.perf_counter()
      forms[name] = lowered.compile()
      took[name] = time.perf_counter() - began
  return forms, took


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
  """As where the default precision of products is not bfloat16."""
  users = (attention, convolutions)
  before = [module.narrow for module in users]
  for module in users:
    module.narrow = lambda: False
  try:
    yield
  finally:
    for module, narrow in zip(users, before, strict=True):
      module.narrow = narrow


def drawn(
  model: Model, options: Options, mesh: Any, rows: int, length: int
) -> tuple[Any, tuple[jax.Array, jax.Array]]:
  """Weights and a batch of full length, on the devices."""
  place = meshes.placement(mesh)
  shapes = model.program.shapes(options.precision, place)
  leaves, tree = jax.tree.flatten(shapes)
  keys = jax.random.split(jax.random.key(0), len(leaves))
  state = jax.tree.unflatten(
    tree, [weight(leaf, key) for leaf, key in zip(leaves, keys, strict=True)]
  )
  rng = np.random.default_rng(0)
  if model.modality == 'text':
    batch = rng.integers(4, 8000, (rows, length))
  else:
    batch = 0.1 * rng.standard_normal((rows, length), np.float32)
  lengths = np.full(rows, length, np.int32)
  given = (batch.astype(model.inputs.dtype), lengths)
  return state, jax.device_put(given, meshes.by_row(mesh))


def weight(leaf: jax.ShapeDtypeStruct, key: jax.Array) -> jax.Array:
  """Normal, of variance 1 / fan-in; what is of one axis is near 1."""
  wide = _normal(leaf.shape, leaf.dtype, key)
  return jax.device_put(wide, leaf.sharding)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _normal(shape, dtype, key):
  x = jax.random.normal(key, shape)
  scale = 0.1 if len(shape) < 2 else np.prod(shape[:-1]) ** -0.5
  return (x * scale + (len(shape) < 2)).astype(dtype)


def called(
  step: Callable[..., Any], state: Any, batch: tuple[jax.Array, jax.Array]
) -> Callable[[], Any]:
  def call() -> Any:
    for _ in range(_CALLS.value):
      found = step(state, *batch)
    return jax.block_until_ready(found)

  return call


def agree(first: Any, *others: Any) -> dict[str, float]:
  """The greatest difference of a width's taps, of the greatest number."""
  if not others:
    return {}
  errors = {}
  for width, taps in others[0].items():
    x, y = np.asarray(first[width]), np.asarray(taps)
    errors[str(width)] = float(np.abs(x - y).max() / np.abs(y).max())
  if not max(errors.values()) < 0.1:
    raise AssertionError(f'The forms differ: {errors}.')
  return errors


if __name__ == '__main__':
  app.run(main)
