"""What the TPU compiler says of a plan, before the slice is rented.

libtpu compiles for a topology on any machine, without a TPU. Each process
extracts on its own chips alone, so the step is compiled for those of one host;
the work is dealt over all hosts of the slice.
"""

import collections
import functools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrep import mesh as meshes
from jaxrep.extract import fit, hlo, pooling
from jaxrep.extract.plan import EntryPlan, Options
from jaxrep.extract.step import pooled_step
from jaxrep.opened import Model
from jaxrep.types import InputError

_GIB = 2**30
_FAST = 128 * 2**20  # bytes beside the matrix units, of every kind
_PASSES = {'float32': 6, 'bfloat16': 1}  # of bfloat16 for one product


class Chip(NamedTuple):
  """Memory in bytes, bfloat16 operations and bytes of memory a second.

  `memory` is what the compiler gives a program. The matrix units do
  `operations` in `clock` cycles a second.
  """

  memory: int
  operations: float
  bandwidth: float
  clock: float


# As Google Cloud documents them, but for the memory: of that the compiler says
# how much there is when it runs out. It takes each half of a v4 for a device.
CHIPS = {
  'v4': Chip(int(15.25 * _GIB), 137.5e12, 614e9, 1.05e9),
  'v5e': Chip(int(15.75 * _GIB), 197e12, 819e9, 1.5e9),
  'v5p': Chip(int(95.74 * _GIB), 459e12, 2765e9, 1.75e9),
  'v6e': Chip(int(31.25 * _GIB), 918e12, 1640e9, 1.75e9),
}


class Footprint(NamedTuple):
  """What one batch takes on each chip of a mesh.

  `rows` of `length` are the batch of the whole mesh. `weights`, `batch` (with
  the results), `temporaries` and `code` are bytes. `moved` are bytes between
  operations, most of which never leave the chip's fast memory; `cycles` are
  those that the compiler reckons with, but for gathers.
  """

  rows: int
  length: int
  weights: int
  batch: int
  temporaries: int
  code: int
  operations: float
  moved: float
  cycles: int

  @property
  def held(self) -> int:
    return self.weights + self.batch + self.temporaries + self.code

  def fitting(self, memory: int, chips: int) -> int:
    """Rows that fit at least, a multiple of the chips.

    As if all but weights and program grew with the rows, and the fast memory,
    where a small batch hides, were full. The nearer a batch comes to what fits,
    the nearer is this.
    """
    each = (self.batch + self.temporaries + _FAST) / self.rows
    left = memory - self.weights - self.code
    return max(0, int(left / each)) // chips * chips

  def seconds(self, chip: Chip, precision: str) -> float:
    """By the compiler's cycles, and no less than the chip's peaks allow."""
    return max(
      self.operations * _PASSES[precision] / chip.operations,
      (self.weights + self.batch) / chip.bandwidth,
      self.cycles / chip.clock,
    )


class Compiled(NamedTuple):
  """One program, compiled for its largest batch on one host of the target.

  `planned` rows are that batch; where they do not fit the footprint is of
  fewer. At least `fitting` rows of that length fit. `seconds` are of all
  batches on all hosts.
  """

  title: str
  hosts: int
  chips: int
  shared: int
  footprint: Footprint
  planned: int
  fitting: int
  seconds: float

  @property
  def fits(self) -> bool:
    return self.footprint.rows == self.planned


def compile_plan(
  entries: Iterable[EntryPlan], target: str, model_parallel: int = 0
) -> Iterator[Compiled]:
  """Compiles each program of a plan for a topology such as 'v5e:4x4'.

  Raises:
    InputError: The topology is not known, or there is no libtpu.
  """
  hosts = hosts_of(target)
  groups = collections.defaultdict(list)
  for entry in entries:
    groups[entry.model.name, entry.model.program].append(entry)
  for group in groups.values():
    yield _compile(group, hosts, chip_of(target), model_parallel)


def chip_of(target: str) -> Chip:
  return CHIPS[target.partition(':')[0]]


def hosts_of(target: str) -> list[list[Any]]:
  """The chips of each host of a topology such as 'v5e:4x4'.

  Raises:
    InputError: The topology is not known, or there is no libtpu.
  """
  by_host = collections.defaultdict(list)
  for device in _topology(target):
    by_host[device.process_index].append(device)
  return list(by_host.values())


def _topology(target: str) -> list[Any]:
  kind = target.partition(':')[0]
  if kind not in CHIPS or ':' not in target:
    known = ', '.join(CHIPS)
    raise InputError(
      f'--target={target}: write kind:shape, as v5e:4x4; kinds are {known}.'
    )
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')  # nothing is run
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
  group: Sequence[EntryPlan], hosts: Sequence[Any], chip: Chip, asked: int
) -> Compiled:
  model, options = group[0].model, group[0].options
  batches = [b for entry in group for u in entry.units for b in u.batches]
  largest = max(batches, key=lambda b: (b.size * b.padded_length, b.size))
  chips = len(hosts[0])
  chosen = fit.choose(model, options.precision, chips, chip.memory, asked)
  mesh = meshes.of_devices(hosts[0], chosen.shared)
  rows = planned = math.ceil(largest.size / mesh.size) * mesh.size
  measured = functools.partial(measure, model, options, mesh)
  found = measured(rows, largest.padded_length)
  while found is None and rows > mesh.size:
    rows = rows // 2 // mesh.size * mesh.size
    found = measured(rows, largest.padded_length)
  if found is None:
    raise InputError(
      f'--target: {model.name} {model.modality} does not fit on '
      f'{chips} chips of {chip.memory / _GIB:.2f} GiB with one row of '
      f'{largest.padded_length} each; take larger chips.'
    )
  whole = sum(_elements(b.size, b.padded_length, mesh.size) for b in batches)
  share = whole / (rows * largest.padded_length) / len(hosts)
  return Compiled(
    f'{model.name} {model.modality}',
    *(len(hosts), chips, chosen.shared, found, planned),
    found.fitting(chip.memory, mesh.size),
    found.seconds(chip, options.precision) * share,
  )


def _elements(rows: int, length: int, devices: int) -> int:
  return math.ceil(rows / devices) * devices * length


def compile_step(
  model: Model, options: Options, mesh: Mesh, rows: int, length: int
) -> Any:
  """The pooled step for a batch of `rows`, compiled for the mesh's devices."""
  rule = pooling.parse(options.pooling)
  step = pooled_step(
    model.program, rule, options.precision, mesh, options.specials
  )
  state = model.program.shapes(options.precision, meshes.placement(mesh))
  batch = jax.ShapeDtypeStruct((rows, length), model.inputs.dtype)
  lengths = jax.ShapeDtypeStruct((rows,), jnp.int32)
  return step.lower(state, batch, lengths).compile()


def measure(
  model: Model, options: Options, mesh: Mesh, rows: int, length: int
) -> Footprint | None:
  """The footprint of a step; None if the compiler runs out of memory."""
  try:
    step = compile_step(model, options, mesh, rows, length)
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return None
  return footprint(step, model, mesh, rows, length)


def footprint(
  step: Any, model: Model, mesh: Mesh, rows: int, length: int
) -> Footprint:
  """What the compiler says of a step of `compile_step`."""
  memory, cost = step.memory_analysis(), step.cost_analysis()
  itemsize = jnp.dtype(model.inputs.dtype).itemsize
  batch = rows // mesh.size * (length * itemsize + 4)
  return Footprint(
    *(rows, length),
    memory.argument_size_in_bytes - batch,
    batch + memory.output_size_in_bytes,
    memory.temp_size_in_bytes,
    memory.generated_code_size_in_bytes,
    float(cost['flops']),
    float(cost['bytes accessed']),
    hlo.cycles(step.as_text()),
  )


def describe(found: Compiled, target: str) -> str:
  """A paragraph for people."""
  one, chip = found.footprint, chip_of(target)
  gib = {
    name: getattr(one, name) / _GIB
    for name in ('weights', 'batch', 'temporaries', 'code')
  }
  said = 'fits'
  if not found.fits:
    said = f'the batch of {found.planned} rows DOES NOT FIT'
  return (
    f'{found.title} on {target} ({found.hosts} hosts of {found.chips} chips, '
    f'data={found.chips // found.shared} × model={found.shared} on each): '
    f'{said}\n'
    f'  a batch of {one.rows} × {one.length} takes of '
    f'{chip.memory / _GIB:.2f} GiB a chip {gib["weights"]:.2f} for weights, '
    f'{gib["temporaries"]:.2f} for temporaries, '
    f'{gib["batch"] + gib["code"]:.2f} for batch, results and program; '
    f'{found.fitting} rows or more would fit\n'
    f'  {one.operations:.3g} operations, {one.moved:.3g} bytes moved and '
    f'{one.cycles:.3g} cycles a chip and batch, as the compiler reckons: all '
    f'batches {duration(found.seconds)}, by what the largest takes an element'
  )


def duration(seconds: float) -> str:
  """For people, in a unit that leaves two digits or three."""
  for unit, size in (('h', 3600), ('min', 60)):
    if seconds >= 2 * size:
      return f'{seconds / size:.1f} {unit}'
  return f'{seconds:.0f} s' if seconds >= 10 else f'{seconds:.2g} s'
