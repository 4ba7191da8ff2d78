"""Weak scaling: as many rows for each device, on 1, 2, 4 and 8 of them.

    python -m benchmarks.scaling                   # all devices of this machine
    python -m benchmarks.scaling --simulated=8     # of a CPU that is one

SeamlessM4T v2's speech encoder of full width and few layers, random weights,
waveforms to the mean of every stage; then SVCCA and CKA of all pairs over the
same devices. Outputs are compared with those of one device first. Simulated
devices share the cores, so of them only equality and the CPU time that a row
costs say anything, not the seconds. Five minutes on two cores.
"""

import datetime
import functools
import json
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks import harness

_SIMULATED = flags.DEFINE_integer('simulated', 0, 'Devices made of the CPU.')
_ROWS = flags.DEFINE_integer('rows', 2, 'Recordings of a device.')
_SECONDS = flags.DEFINE_integer('seconds', 5, 'Of a recording.')
_LAYERS = flags.DEFINE_integer('layers', 1, 'Of the encoder.')
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'Timed calls.')
_PRECISION = flags.DEFINE_string('precision', 'float32', 'Or bfloat16.')

MODEL, MODALITY = 'seamless-m4t-v2-large', 'speech'
COUNTS = (1, 2, 4, 8)
# Relative to a stage's largest value: float32, as the store promises.
TOLERANCES = {'float32': 1e-5, 'bfloat16': 5e-2}


def main(_) -> None:
  if _SIMULATED.value:
    jax.config.update('jax_num_cpu_devices', _SIMULATED.value)
  jax.config.update('jax_default_matmul_precision', 'highest')
  counts = [one for one in COUNTS if one <= jax.device_count()]
  with tempfile.TemporaryDirectory() as folder:
    row = {
      'benchmark': 'scaling',
      'date': datetime.date.today().isoformat(),
      'simulated': bool(_SIMULATED.value),
      'case': {
        'model': MODEL,
        'modality': MODALITY,
        'layers': _LAYERS.value,
        'rows_a_device': _ROWS.value,
        'seconds': _SECONDS.value,
        'precision': _PRECISION.value,
      },
      'extraction': extraction(folder, counts),
      'scoring': scoring(counts),
      'machine': harness.machine(),
    }
  print(json.dumps(harness.keep('scaling', row), indent=2))


def extraction(folder: str, counts: list[int]) -> dict[str, Any]:
  """By the number of devices: seconds a row, and the worst difference.

  Every row of the larger batches is one of the smallest batch again.
  """
  from benchmarks import references

  case = references.CASES[f'{MODEL} {MODALITY}']
  references.save(case, folder, _LAYERS.value)
  calls = {count: encoder(folder, count) for count in counts}
  whole = calls[1]()
  errors = {}
  for count, call in calls.items():
    errors[count] = max(
      float(np.abs(block - np.tile(whole[width], (count, 1, 1))).max())
      / float(np.abs(whole[width]).max())
      for width, block in call().items()
    )
    assert errors[count] <= TOLERANCES[_PRECISION.value], errors
  rows = {count: count * _ROWS.value for count in counts}
  return _report(calls, rows, {c: float(f'{e:.2g}') for c, e in errors.items()})


def encoder(folder: str, count: int) -> Callable[[], dict[int, np.ndarray]]:
  """A call that takes a batch through `count` devices."""
  from jaxrep import mesh as meshes
  from jaxrep import opened
  from jaxrep.extract import pooling
  from jaxrep.extract.step import pooled_step
  from jaxrep.inputs import pad

  model = opened.open_model(MODEL, MODALITY, folder)
  mesh = meshes.of_devices(jax.devices()[:count])
  state = model.weights(_PRECISION.value, meshes.placement(mesh))
  step = pooled_step(
    model.program, pooling.parse('mean'), _PRECISION.value, mesh
  )
  rng = np.random.default_rng(0)
  samples = 16_000 * _SECONDS.value
  few = (0.1 * rng.standard_normal((_ROWS.value, samples))).astype(np.float32)
  items = list(np.tile(few, (count, 1)))
  length = -(-samples // model.inputs.grid) * model.inputs.grid
  batch = pad(items, len(items), length, model.inputs.dtype)

  def call() -> dict[int, np.ndarray]:
    placed = jax.device_put(batch, meshes.by_row(mesh))
    return jax.device_get(step(state, *placed))

  return call


def scoring(counts: list[int]) -> dict[str, Any]:
  """The same of all pairs of 12 representations, dealt over the devices."""
  from jaxrep import mesh as meshes
  from jaxrep import similarity

  rng = np.random.default_rng(0)
  shared = rng.standard_normal((60, 32))
  states = {
    f'r{i}': (shared + (1 + i / 8) * rng.standard_normal((60, 32))).astype(
      np.float32
    )
    for i in range(12)
  }
  found = {}
  for measure in ('svcca', 'cka_debiased'):
    calls = {
      count: functools.partial(
        similarity.all_pairs,
        states,
        measure=measure,
        mesh=meshes.of_devices(jax.devices()[:count]),
      )
      for count in counts
    }
    whole = calls[1]().value
    errors = {
      count: float(f'{np.nanmax(np.abs(call().value - whole)):.2g}')
      for count, call in calls.items()
    }
    assert max(errors.values()) <= 1e-6, errors
    pairs = len(states) * (len(states) + 1) // 2
    found[measure] = _report(calls, dict.fromkeys(counts, pairs), errors)
  return found


def _report(
  calls: dict[int, Callable], rows: dict[int, int], errors: dict[int, float]
) -> dict[str, Any]:
  """Times the calls in alternation; each ratio is to one device's."""
  named = {f'{count} devices': call for count, call in calls.items()}
  compared = harness.compare(named, lambda *_: {}, _ROUNDS.value, warm_up=1)
  cpu, wall = (
    {
      count: getattr(compared.timings[name], kind).median / rows[count]
      for count, name in zip(calls, named, strict=True)
    }
    for kind in ('cpu', 'wall')
  )
  return {
    str(count): {
      'difference': errors[count],
      'cpu_seconds_a_row': float(f'{cpu[count]:.3g}'),
      'cpu_of_one_device': float(f'{cpu[count] / cpu[1]:.3g}'),
    }
    | (
      {}
      if _SIMULATED.value
      else {
        'rows_a_second': float(f'{1 / wall[count]:.4g}'),
        'efficiency': float(f'{wall[1] / wall[count] / count:.3g}'),
      }
    )
    for count in calls
  }


if __name__ == '__main__':
  app.run(main)
