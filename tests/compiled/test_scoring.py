"""What all-pairs scoring communicates on a slice of a TPU, and on GPUs.

None is needed: their compilers run on any machine. Needs the extra `tpu-aot` or
`gpu-aot`; run with `pytest -n 0 -m tpu` and `-m gpu`.
"""

import functools
import math

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxrep import mesh as meshes
from jaxrep.extract import hlo, topology
from jaxrep.similarity import alignment, canonical, tiles
from jaxrep.similarity.measure import Factors

SENTENCES, WIDTH, KEPT = 256, 1024, 160
STACK = 8
DEVICES = {'v5e:2x4': 8, 'v5e:16x16': 256, 'h200:2x8': 16}
TARGETS = [
  *(pytest.param(name, marks=pytest.mark.tpu) for name in list(DEVICES)[:2]),
  pytest.param('h200:2x8', marks=pytest.mark.gpu),
]


@functools.cache
def mesh_of(name):
  chips = [chip for host in topology.hosts_of(name) for chip in host]
  assert len(chips) == DEVICES[name]
  return meshes.of_devices(chips)


def described(mesh, spec, *arrays):
  """Shapes and dtypes, placed on the mesh."""
  sharding = NamedSharding(mesh, spec)
  return [
    jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
    for shape, dtype in arrays
  ]


DEALT, WHOLE = PartitionSpec('data'), PartitionSpec()


def stack(mesh, width):
  rows = ((STACK, SENTENCES, width), jnp.float32)
  count = ((STACK,), jnp.int32)
  rows, k, defined, rank = described(
    mesh, WHOLE, rows, count, ((STACK,), jnp.bool_), count
  )
  return Factors(rows, k, defined, rank=rank)


def gathered(compiled):
  """Numbers that the one collective gives to all.

  The compiler may add up parts that are zero elsewhere, to gather them.
  """
  ((kind, (shape,)),) = hlo.collectives(compiled.as_text()).items()
  assert kind in ('all-gather', 'all-reduce')
  return math.prod(shape)


@pytest.mark.parametrize('name', TARGETS)
@pytest.mark.parametrize(
  'measure, options',
  [(canonical.SVCCA, {'left_out': 0.01, 'k': 0}), (alignment.CKA, {})],
  ids=['svcca', 'cka'],
)
def test_factors_communicate_nothing(name, measure, options):
  mesh = mesh_of(name)
  (x,) = described(
    mesh, DEALT, ((2 * mesh.size, SENTENCES, WIDTH), jnp.float32)
  )
  (valid,) = described(mesh, WHOLE, ((SENTENCES,), jnp.bool_))
  lowered = tiles.factor_batch.lower(measure, (), mesh, x, valid, options)
  assert hlo.collectives(lowered.compile().as_text()) == {}


@pytest.mark.parametrize('name', TARGETS)
def test_pairs_communicate_their_scores_alone(name):
  """Each device has all factors and scores its share; then one gather."""
  mesh = mesh_of(name)
  each = 128  # a tile of a device that is no CPU
  size = each * mesh.size
  items = tiles.Items(*described(mesh, DEALT, *[((size,), jnp.int32)] * 5))
  (valid,) = described(mesh, WHOLE, ((SENTENCES,), jnp.bool_))
  (seed,) = described(mesh, WHOLE, ((), jnp.int32))
  sides = stack(mesh, KEPT), stack(mesh, KEPT)
  lowered = tiles.score_batch.lower(
    canonical.score, mesh, items, *sides, valid, seed
  )
  compiled = lowered.compile()
  assert gathered(compiled) == size
  memory = compiled.memory_analysis()
  held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
  assert held < topology.chip_of(name).memory


@pytest.mark.parametrize('name', TARGETS)
def test_a_map_of_linear_cka_is_one_product_and_one_gather(name):
  mesh = mesh_of(name)
  sides = [stack(mesh, SENTENCES) for _ in range(2)]
  lowered = tiles.inner_products.lower(*sides, mesh)
  dealt = -(-STACK // mesh.size) * mesh.size
  assert gathered(lowered.compile()) == dealt * STACK
