"""What the TPU compiler says of a plan, before the slice is rented.

libtpu compiles for a topology on any machine, without a TPU. Each process
extracts on its own chips alone, so the step is compiled for those of one host;
the work is dealt over all hosts of the slice.
"""

import collections
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrep import mesh as meshes
from jaxrep.extract import fit, pooling
from jaxrep.extract.plan import EntryPlan
from jaxrep.extract.step import pooled_step
from jaxrep.types import InputError

_GIB = 2**30
_PASSES = {'float32': 6, 'bfloat16': 1}  # of bfloat16 for one product


class Chip(NamedTuple):
  """Memory in bytes, bfloat16 operations and bytes of memory a second."""

  memory: int
  operations: float
  bandwidth: float


# As Google Cloud documents them.
CHIPS = {
  'v4': Chip(32 * _GIB, 275e12, 1228e9),
  'v5e': Chip(16 * _GIB, 197e12, 819e9),
  'v5p': Chip(95 * _GIB, 459e12, 2765e9),
  'v6e': Chip(32 * _GIB, 918e12, 1640e9),
}


class Compiled(NamedTuple):
  """One program, compiled for its largest batch on one host of the target.

  `weights` to `code` are bytes on a chip, `operations` and `moved` those of
  that batch on a chip. `rows` of `length` make the batch, `fitting` would fit.
  `seconds` are of all batches on all hosts, at the chips' peaks: no run is
  faster.
  """

  title: str
  chips: int
  hosts: int
  shared: int
  rows: int
  length: int
  weights: int
  batch: int
  temporaries: int
  code: int
  fitting: int
  operations: float
  moved: float
  seconds: float
  memory: int

  @property
  def fits(self) -> bool:
    return self.rows <= self.fitting


def compile_plan(
  entries: Iterable[EntryPlan], target: str, model_parallel: int = 0
) -> Iterator[Compiled]:
  """Compiles each program of a plan for a topology such as 'v5e:4x4'.

  Raises:
    InputError: The topology is not known, or there is no libtpu.
  """
  devices = _topology(target)
  by_host = collections.defaultdict(list)
  for device in devices:
    by_host[device.process_index].append(device)
  groups = collections.defaultdict(list)
  for entry in entries:
    groups[entry.model.name, entry.model.program].append(entry)
  for (name, program), group in groups.items():
    yield _compile(
      f'{name} {program.modality}',
      group,
      by_host[0],
      (len(by_host), CHIPS[target.partition(':')[0]]),
      model_parallel,
    )


def _topology(target: str) -> list[Any]:
  kind = target.partition(':')[0]
  if kind not in CHIPS or ':' not in target:
    known = ', '.join(CHIPS)
    raise InputError(
      f'--target={target}: write kind:shape, as v5e:4x4; kinds are {known}.'
    )
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  from jax.experimental import topologies

  try:
    found = topologies.get_topology_desc(platform='tpu', topology_name=target)
  except Exception as error:  # of the plugin, in many classes
    reason = str(error).partition('\n')[0]
    raise InputError(
      f'--target={target} cannot be compiled for ({reason}). It needs libtpu: '
      "pip install -e '.[tpu-aot]'."
    ) from error
  return list(found.devices)


def _compile(
  title: str,
  group: list[EntryPlan],
  chips: list[Any],
  slice_: tuple[int, Chip],
  asked: int,
) -> Compiled:
  hosts, chip = slice_
  model, options = group[0].model, group[0].options
  batches = [b for entry in group for u in entry.units for b in u.batches]
  largest = max(batches, key=lambda b: (b.size * b.padded_length, b.size))
  chosen = fit.choose(model, options.precision, len(chips), chip.memory, asked)
  mesh = meshes.of_devices(chips, chosen.shared)
  rows = math.ceil(largest.size / mesh.size) * mesh.size
  found = _step(group[0], mesh, rows, largest.padded_length)
  memory, cost = found.memory_analysis(), found.cost_analysis()
  itemsize = jnp.dtype(model.inputs.dtype).itemsize
  batch = rows // mesh.size * (largest.padded_length * itemsize + 4)
  each = memory.temp_size_in_bytes + memory.output_size_in_bytes + batch
  weights = memory.argument_size_in_bytes - batch
  left = chip.memory - weights - memory.generated_code_size_in_bytes
  operations, moved = float(cost['flops']), float(cost['bytes accessed'])
  peak = chip.operations / _PASSES[options.precision]
  once = max(operations / peak, moved / chip.bandwidth)
  whole = sum(_elements(b.size, b.padded_length, mesh.size) for b in batches)
  return Compiled(
    *(title, len(chips), hosts, chosen.shared, rows, largest.padded_length),
    weights,
    batch + memory.output_size_in_bytes,
    memory.temp_size_in_bytes,
    memory.generated_code_size_in_bytes,
    max(0, int(left / each * rows)) // mesh.size * mesh.size,
    operations,
    moved,
    once * whole / (rows * largest.padded_length) / hosts,
    chip.memory,
  )


def _elements(rows: int, length: int, devices: int) -> int:
  return math.ceil(rows / devices) * devices * length


def _step(entry: EntryPlan, mesh: Any, rows: int, length: int) -> Any:
  model, options = entry.model, entry.options
  rule = pooling.parse(options.pooling)
  step = pooled_step(
    model.program, rule, options.precision, mesh, options.specials
  )
  state = model.program.shapes(options.precision, meshes.placement(mesh))
  batch = jax.ShapeDtypeStruct((rows, length), model.inputs.dtype)
  lengths = jax.ShapeDtypeStruct((rows,), jnp.int32)
  return step.lower(state, batch, lengths).compile()


def describe(found: Compiled, target: str) -> str:
  """A paragraph for people."""
  gib = {
    name: getattr(found, name) / _GIB
    for name in ('weights', 'batch', 'temporaries', 'code', 'memory')
  }
  said = 'fits' if found.fits else 'DOES NOT FIT'
  intensity = found.operations / max(found.moved, 1)
  chip = CHIPS[target.partition(':')[0]]
  bound = 'operations'
  if intensity < chip.operations / chip.bandwidth:
    bound = 'memory traffic'
  return (
    f'{found.title} on {target} ({found.hosts} hosts of {found.chips} chips, '
    f'data={found.chips // found.shared} × model={found.shared} on each): '
    f'{said}\n'
    f'  a batch of {found.rows} × {found.length} takes of {gib["memory"]:.0f} '
    f'GiB a chip {gib["weights"]:.2f} for weights, {gib["temporaries"]:.2f} '
    f'for temporaries, {gib["batch"] + gib["code"]:.2f} for batch, results and '
    f'program; {found.fitting} rows would fit\n'
    f'  {found.operations:.3g} operations and {found.moved:.3g} bytes moved a '
    f'chip and batch, bound by {bound}; all batches at least '
    f"{found.seconds / 3600:.3f} h at the chips' peaks, by what the largest "
    'takes an element'
  )
