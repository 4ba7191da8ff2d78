"""What the compiler says of every model's step at released size.

    python -m benchmarks.compiled_steps [--programs='sonar speech,sonar text']
    python -m benchmarks.compiled_steps --target=h200:1

Compiled for one host of the target, in batches of `--seconds` of audio or
`--tokens` of text; no TPU and no GPU is needed, but the extra `tpu-aot` or
`gpu-aot` is, and JAX_PLATFORMS=cpu. One row each: what a chip holds, how many
rows a host fits, and what a second of audio or a token costs. Minutes a program
for a TPU on two CPU cores, half a minute for a GPU.
"""

import collections
import importlib.metadata
from collections.abc import Iterator
from typing import Any

from absl import app, flags

from benchmarks import harness, programs
from jaxrep import mesh as meshes
from jaxrep.extract import fit, hlo, target, topology
from jaxrep.extract.plan import Options
from jaxrep.opened import Model

_TARGET = flags.DEFINE_string('target', 'v5e:2x4', 'A slice, or GPUs.')
_PRECISION = flags.DEFINE_list('precision', ['bfloat16'], 'One or several.')
_ROWS = flags.DEFINE_integer('rows', 0, 'A chip; 0 for 16, or 64 of text.')

_RESULTS = {'tpu': 'tpu_steps', 'cuda': 'gpu_steps'}
_COMPILERS = {'tpu': 'libtpu', 'cuda': 'jax-cuda13-pjrt'}

_GIB = 2**30


def main(_) -> None:
  for model in programs.models():
    for row in measure(model):
      print(row, flush=True)


def measure(model: Model) -> Iterator[dict[str, Any]]:
  hosts = topology.hosts_of(_TARGET.value)
  chip = topology.chip_of(_TARGET.value)
  unit, each = programs.length_of(model)
  length = programs.padded(model)
  a_chip = _ROWS.value or (16 if model.modality == 'speech' else 64)
  for precision in _PRECISION.value:
    chosen = fit.choose(model, precision, len(hosts[0]), chip.memory)
    mesh = meshes.of_devices(hosts[0], chosen.shared)
    rows = a_chip * mesh.size
    step = target.compile_step(
      model, Options(precision=precision), mesh, rows, length
    )
    found = target.footprint(step, model, mesh, rows, length)
    yield harness.append(
      _RESULTS[chip.platform],
      {
        'model': model.name,
        'modality': model.modality,
        'dtype': precision,
        'target': _TARGET.value,
        'chips': mesh.size,
        'shared': chosen.shared,
        'rows': rows,
        unit: each,
      },
      figures(found, step, chip, precision, mesh.size, each),
    )


def figures(
  found: target.Footprint,
  step: Any,
  chip: topology.Chip,
  precision: str,
  chips: int,
  each: int,
) -> dict[str, Any]:
  """Of a chip in GiB, and of a second of audio or a token: `each` item's."""
  read = found.rows * each / chips
  seconds = found.seconds(chip, precision)
  kinds = hlo.collectives(step.as_text())
  compiler = _COMPILERS[chip.platform]
  return {
    'weights_gib': found.weights / _GIB,
    'temporaries_gib': found.temporaries / _GIB,
    'program_gib': found.code / _GIB,
    'rows_that_fit': found.fitting(chip, chips),
    'operations_each': found.operations / read,
    'bytes_each': found.moved / read,
    **(
      kernels(found, chip, seconds)
      if found.kernels
      else {'cycles_each': found.cycles / read}
    ),
    'seconds_each': seconds / read,
    'share_of_peak': found.operations / chip.operations / seconds,
    compiler: importlib.metadata.version(compiler),
    'collectives': {kind: len(shapes) for kind, shapes in kinds.items()},
    'gathers': collections.Counter(
      line.split('=')[1].split()[0].partition('{')[0]
      for line in step.as_text().splitlines()
      if ' gather(' in line
    ),
  }


def kernels(
  found: target.Footprint, chip: topology.Chip, seconds: float
) -> dict[str, float]:
  """How many, and the share of attention's between its linear maps."""
  attention = sum(
    kernel.seconds(chip)
    for kernel in found.kernels
    if '/attend/' in kernel.scope
  )
  return {
    'kernels': len(found.kernels),
    'attention_share': attention / seconds,
  }


if __name__ == '__main__':
  app.run(main)
