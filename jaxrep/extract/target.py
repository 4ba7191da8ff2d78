"""What the compiler says of a plan, before the machine is rented.

It needs no TPU and no GPU. Each process extracts on its own chips alone, so the
step is compiled for those of one host; the work is dealt over all hosts.
"""

import collections
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrep import mesh as meshes
from jaxrep.extract import fit, hlo, pooling
from jaxrep.extract.kernels import Kernel, kernels
from jaxrep.extract.plan import EntryPlan, Options
from jaxrep.extract.step import pooled_step
from jaxrep.extract.topology import Chip, chip_of, hosts_of
from jaxrep.opened import Model
from jaxrep.types import InputError

_GIB = 2**30


class Footprint(NamedTuple):
  """What one batch takes on each chip of a mesh.

  `rows` of `length` are the batch of the whole mesh. `weights`, `batch` (with
  the results), `temporaries` and `code` are bytes. `moved` are bytes between
  operations, most of which never leave a TPU's fast memory. Of a TPU the
  compiler reckons with `cycles`, but for gathers; of a GPU there are `kernels`.
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
  kernels: tuple[Kernel, ...] = ()

  @property
  def held(self) -> int:
    return self.weights + self.batch + self.temporaries + self.code

  def fitting(self, chip: Chip, chips: int) -> int:
    """Rows that fit at least, a multiple of the chips.

    As if all but weights and program grew with the rows, and the fast memory,
    where a small batch hides, were full. The nearer a batch comes to what fits,
    the nearer is this. For a GPU a row's temporaries differ from batch to batch
    by up to a third: those of this one may be the least.
    """
    uneven = 4 / 3 if self.kernels else 1
    each = (self.batch + uneven * self.temporaries + chip.fast) / self.rows
    left = chip.memory - self.weights - self.code
    return max(0, int(left / each)) // chips * chips

  def seconds(self, chip: Chip, precision: str) -> float:
    """By cycles or kernels, and no less than the chip's peaks allow."""
    if self.kernels:
      return sum(kernel.seconds(chip) for kernel in self.kernels)
    passes = chip.full if precision == 'float32' else 1
    return max(
      self.operations * passes / chip.operations,
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
  """Compiles each program of a plan for a target such as 'v5e:4x4' or 'h200:8'.

  Raises:
    InputError: The target is not known, its compiler is not there, or one row
      of a program does not fit.
  """
  hosts = hosts_of(target)
  groups = collections.defaultdict(list)
  for entry in entries:
    groups[entry.model.name, entry.model.program].append(entry)
  for group in groups.values():
    yield _compile(group, hosts, chip_of(target), model_parallel)


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
  measured = functools.partial(measure, model, options, mesh, chip)
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
    found.fitting(chip, mesh.size),
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
  model: Model,
  options: Options,
  mesh: Mesh,
  chip: Chip,
  rows: int,
  length: int,
) -> Footprint | None:
  """The footprint of a step; None where the chip has too little memory."""
  try:
    step = compile_step(model, options, mesh, rows, length)
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return None
  found = footprint(step, model, mesh, rows, length)
  # Of a GPU the compiler does not ask whether it is enough.
  return found if found.held <= chip.memory else None


def footprint(
  step: Any, model: Model, mesh: Mesh, rows: int, length: int
) -> Footprint:
  """What the compiler says of a step of `compile_step`."""
  memory, text = step.memory_analysis(), step.as_text()
  itemsize = jnp.dtype(model.inputs.dtype).itemsize
  batch = rows // mesh.size * (length * itemsize + 4)
  held = (
    memory.argument_size_in_bytes - batch,
    batch + memory.output_size_in_bytes,
    memory.temp_size_in_bytes,
    memory.generated_code_size_in_bytes,
  )
  if mesh.devices.flat[0].platform == 'gpu':
    all_of_them = tuple(kernels(text))
    operations, moved = (
      float(sum(getattr(kernel, name) for kernel in all_of_them))
      for name in ('operations', 'moved')
    )
    return Footprint(rows, length, *held, operations, moved, 0, all_of_them)
  cost = step.cost_analysis()
  return Footprint(
    *(rows, length, *held),
    float(cost['flops']),
    float(cost['bytes accessed']),
    hlo.cycles(text),
  )


def describe(found: Compiled, target: str) -> str:
  """A paragraph for people."""
  one, chip = found.footprint, chip_of(target)
  reckoned = (
    f'{one.cycles:.3g} cycles a chip and batch, as the compiler reckons'
  )
  if chip.platform == 'cuda':
    reckoned = (
      f'{len(one.kernels)} kernels a GPU and batch, as fast as measured on one'
    )
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
    f'{reckoned}: all batches {duration(found.seconds)}, by what the largest '
    'takes an element'
  )


def duration(seconds: float) -> str:
  """For people, in a unit that leaves two digits or three."""
  for unit, size in (('h', 3600), ('min', 60)):
    if seconds >= 2 * size:
      return f'{seconds / size:.1f} {unit}'
  return f'{seconds:.0f} s' if seconds >= 10 else f'{seconds:.2g} s'
