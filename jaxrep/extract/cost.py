"""What a plan costs, from its shapes alone."""

import collections
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrep import mesh as meshes
from jaxrep.extract import fit, pooling
from jaxrep.extract.plan import EntryPlan, Options
from jaxrep.extract.step import pooled_step
from jaxrep.opened import Model
from jaxrep.precision import PRECISIONS
from jaxrep.types import InputError

_SIZE = {'float32': 4, 'float16': 2, 'bfloat16': 2}


class Cost(NamedTuple):
  """Of all entries that one program reads.

  `encoders` counts the sets of weights that it runs with, one after another;
  `weight_bytes` is the size of one.
  """

  title: str
  encoders: int
  languages: int
  rows: int
  units: int
  seconds: float
  padding: float
  shapes: dict[tuple[int, int], int]
  store_bytes: int
  weight_bytes: int
  flops: float
  fit: fit.Fit


def costs(
  entries: Iterable[EntryPlan], model_parallel: int = 0
) -> Iterator[Cost]:
  groups = collections.defaultdict(list)
  for entry in entries:
    groups[entry.model.name, entry.model.program].append(entry)
  for (name, program), group in groups.items():
    yield _cost(f'{name} {program.modality}', group, model_parallel)


def describe(entries: Iterable[EntryPlan], model_parallel: int = 0) -> str:
  """A paragraph per model and modality, for people."""
  entries = list(entries)
  rate = _matmul_rate(entries[0].options.precision)
  found = costs(entries, model_parallel)
  return '\n'.join(_describe(cost, rate) for cost in found)


def _cost(title: str, group: list[EntryPlan], asked: int) -> Cost:
  batches = [b for entry in group for u in entry.units for b in u.batches]
  shapes = collections.Counter((b.size, b.padded_length) for b in batches)
  padded = sum(b.size * b.padded_length for b in batches)
  used = sum(row.length for entry in group for row in entry.rows)
  rows = sum(len(entry.rows) for entry in group)
  model, options = group[0].model, group[0].options
  chosen = fit.here(model, options.precision, asked)
  devices = jax.local_device_count()
  state = model.program.shapes(options.precision)
  width = sum(dim for _, dim in model.taps)
  flops = sum(
    flops_of(model, options, -(-size // devices) * devices, length) * count
    for (size, length), count in shapes.items()
  )
  return Cost(
    title,
    len({id(entry.model) for entry in group}),
    len(group),
    rows,
    sum(len(entry.units) for entry in group),
    sum(entry.seconds for entry in group),
    1 - used / padded,
    dict(sorted(shapes.items())),
    rows * width * _SIZE[options.store_dtype],
    sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)),
    flops,
    chosen,
  )


def flops_of(model: Model, options: Options, rows: int, length: int) -> float:
  """Of one batch, as XLA counts them in the lowered program.

  In that for an accelerator, whose loops it counts whole; in float32's, as of a
  kernel it counts nothing; and on the CPU, as a GPU's client counts nothing.

  Raises:
    InputError: JAX was told to do without the CPU.
  """
  try:
    cpu, *_ = jax.local_devices(backend='cpu')
  except RuntimeError as error:
    raise InputError(
      f'A plan counts its operations on the CPU, which JAX does not have here '
      f'({error}); leave JAX_PLATFORMS out, or end it in ",cpu".'
    ) from error
  mesh = meshes.of_devices([cpu])
  rule = pooling.parse(options.pooling)
  step = pooled_step(
    *(model.program, rule, 'float32', mesh, options.specials), turns=False
  )
  state = model.program.shapes('float32', meshes.placement(mesh))
  batch = jax.ShapeDtypeStruct((rows, length), model.inputs.dtype)
  lengths = jax.ShapeDtypeStruct((rows,), jnp.int32)
  traced = step.trace(state, batch, lengths)
  lowered = traced.lower(lowering_platforms=('cuda',))
  return float(lowered.cost_analysis()['flops'])


def _matmul_rate(precision: str) -> float:
  """Floating-point operations per second of a matrix product, all devices."""
  policy = PRECISIONS[precision]
  size = 1024 if jax.default_backend() == 'cpu' else 8192
  x = jnp.ones((size, size), policy.parameters)
  product = jax.jit(lambda x: jnp.dot(x, x, precision=policy.matmul))
  product(x).block_until_ready()
  times = []
  for _ in range(5):
    began = time.perf_counter()
    product(x).block_until_ready()
    times.append(time.perf_counter() - began)
  return 2 * size**3 / float(np.min(times)) * jax.device_count()


def _describe(cost: Cost, rate: float) -> str:
  audio = f', {cost.seconds / 3600:.2f} h of audio' if cost.seconds else ''
  hours = cost.flops / rate / 3600
  shapes = ', '.join(f'{n}×{size}×{t}' for (size, t), n in cost.shapes.items())
  return (
    f'{cost.title}: {cost.rows} rows{audio} of {cost.languages} languages in '
    f'{cost.units} units; padding {cost.padding:.0%}\n'
    f'  {fit.describe(cost.fit)}\n'
    f'  weights {_encoders(cost)}{cost.weight_bytes / 2**30:.2f} GiB, store '
    f'{cost.store_bytes / 2**20:.1f} MiB, {cost.flops:.3g} floating-point '
    f'operations: at least {hours:.2f} h at the {rate:.3g} a second of a '
    f'matrix product on these {jax.device_count()} devices\n'
    f'  {len(cost.shapes)} shapes to compile (batches × rows × length): '
    f'{shapes}'
  )


def _encoders(cost: Cost) -> str:
  return f'{cost.encoders} × ' if cost.encoders > 1 else ''
