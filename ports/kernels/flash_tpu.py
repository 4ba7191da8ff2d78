"""Attention for TPUs, in Pallas' Mosaic.

A block of queries meets all keys of its row at once. A tile is 128 lanes wide,
which hold the heads of width 64 in pairs, as their linear maps wrote them: no
axis is moved. The queries of a head are set to 0 in the other's lanes, and a
product over all lanes is its own; a tensor unit takes no longer for them.

Products with relative positions are made for the distances that a block can
have, and each row is turned by one lane more than that above it.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu
from jaxtyping import Array, Bool, Float

LANES = 128
QUERIES = 128  # of a block, at most
SHORTEST = 16  # below, blocks are mostly padding
# Beyond, a row's keys and positions fill the memory that a kernel has.
LONGEST = 4096
# These cannot turn each row of a tile by its own number of lanes.
UNTURNED = ('TPU v2', 'TPU v3', 'TPU v4')
# What is added to the logit of a key that is not allowed: a row of such alone
# is a mean, as all else is lost against it.
HIDDEN = -1e30


def takes(
  q: Float[Array, 'batch query head d'],
  k: Float[Array, 'batch key head d'],
  allowed: Bool[Array, '#batch #query key'],
  heads: int,
  placed: bool,
) -> bool:
  """Whether the kernel is for these sizes and so many heads of a device.

  With positions, if the mesh is not known to be of chips that cannot turn them.
  """
  del allowed
  d = q.shape[-1]
  whole = LANES % d == 0 and heads * d % LANES == 0
  time = q.shape[1], k.shape[1]
  device = jax.sharding.get_abstract_mesh().abstract_device
  unturned = device is not None and device.device_kind.startswith(UNTURNED)
  fits = min(time) >= SHORTEST and max(time) <= LONGEST
  return whole and fits and not (placed and unturned)


@functools.partial(jax.jit, static_argnames=('left', 'interpret'))
def flash_attention(
  q: Float[Array, 'batch query head d'],
  k: Float[Array, 'batch key head d'],
  v: Float[Array, 'batch key head d'],
  allowed: Bool[Array, '#batch #query key'],
  near: Float[Array, 'batch query head #d'] | None = None,
  table: Float[Array, '#head distance #d'] | None = None,
  *,
  left: int = 0,
  interpret: bool = False,
) -> Float[Array, 'batch query head d']:
  """As `flash_gpu.flash_attention`."""
  # Logits to the base of 2, whose power is one instruction.
  power, d = math.log2(math.e), q.shape[-1]
  size = min(QUERIES, _up(q.shape[1], 16))
  added = jnp.where(allowed, 0, jnp.float32(HIDDEN))
  operands = [q * (d**-0.5 * power), k, v]
  if near is not None:
    near = near * (near.shape[-1] ** -0.5 * power)
    near, table = (_of_width(d, x) for x in (near, table))
    operands += [
      near,
      _by_distance(table, left, size, *q.shape[1:3], k.shape[1]),
    ]
  flat = [x.astype(jnp.bfloat16).reshape(*x.shape[:2], -1) for x in operands]
  found = _call(*flat, added, d=d, size=size, interpret=interpret)
  return found.reshape(q.shape).astype(v.dtype)


def _of_width(d: int, x: Array) -> Array:
  """As wide as a head, whose other lanes are 0."""
  return jnp.pad(x, (*((0, 0),) * (x.ndim - 1), (0, d - x.shape[-1])))


def _up(length: int, to: int) -> int:
  return -(-length // to) * to


def _by_distance(
  table: Float[Array, '#head row d'],
  left: int,
  size: int,
  queries: int,
  heads: int,
  keys: int,
) -> Float[Array, '1 distance head d']:
  """The table's row of every distance from the last query to the last key.

  The first is that of key 0 and of the last query of the last block. Heads that
  share the rows are as many as share a tile.
  """
  last = _up(queries, size) - 1
  total = last + 1 + _up(keys, LANES)
  front = max(last - left, 0)
  rows = table[:, max(left - last, 0) :][:, : total - front]
  behind = total - front - rows.shape[1]
  rows = jnp.pad(rows, ((0, 0), (front, behind), (0, 0)), mode='edge')
  if len(table) < heads:
    rows = jnp.broadcast_to(rows, (LANES // rows.shape[-1], *rows.shape[1:]))
  return rows.swapaxes(0, 1)[None]


def _call(q, k, v, *others, d, size, interpret):
  """The kernel once for each tile of heads, row and block of queries."""
  *placed, added = others
  (batch, queries, width), keys = q.shape, k.shape[1]
  grid = width // LANES, batch, pl.cdiv(queries, size)
  rows, own = (length > 1 for length in added.shape[:2])
  steps = pl.BlockSpec((None, size, LANES), lambda tile, row, i: (row, i, tile))
  whole = pl.BlockSpec((None, keys, LANES), lambda tile, row, i: (row, 0, tile))
  mask = pl.BlockSpec(
    (None, size if own else 1, keys),
    lambda tile, row, i: (row if rows else 0, i if own else 0, 0),
  )
  specs = [steps, whole, whole, mask]
  if placed:
    each = placed[1].shape[-1] > LANES
    table = pl.BlockSpec(
      (None, placed[1].shape[1], LANES),
      lambda tile, row, i: (0, 0, tile if each else 0),
    )
    specs += [steps, table]
  return pl.pallas_call(
    functools.partial(_kernel, d=d),
    grid=grid,
    in_specs=specs,
    out_specs=steps,
    out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
    compiler_params=tpu.CompilerParams(
      dimension_semantics=('parallel', 'parallel', 'arbitrary')
    ),
    cost_estimate=pl.CostEstimate(
      flops=(6 if placed else 4) * batch * queries * keys * width,
      transcendentals=math.prod(grid) * LANES // d * size * _up(keys, LANES),
      bytes_accessed=sum(2 * x.size for x in (q, k, v, q, *placed)),
    ),
    interpret=interpret,
    name='flash_attention',
  )(q, k, v, added, *placed)


def _kernel(q_ref, k_ref, v_ref, added_ref, *refs, d):
  """One block of queries of the heads of a tile, in one row."""
  *placed, out_ref = refs
  q, k, v, added = q_ref[...], k_ref[...], v_ref[...], added_ref[...]
  if placed:
    near, distances = placed[0][...], _distances(placed[1], len(q), len(k))
  lane = jax.lax.broadcasted_iota(jnp.int32, (1, LANES), 1)
  out = jnp.zeros(q.shape, jnp.float32)
  for first in range(0, LANES, d):
    own = (first <= lane) & (lane < first + d)
    logits = _products(_alone(q, own), k) + added
    if placed:
      logits += _turned(_products(_alone(near, own), distances), len(k))
    weights = jnp.exp2(logits - logits.max(axis=1, keepdims=True))
    mixed = jnp.dot(
      weights.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    mixed = mixed / weights.sum(axis=1, keepdims=True)
    out = jnp.where(own, mixed, out)
  out_ref[...] = out.astype(out_ref.dtype)


def _alone(x, own):
  """Without the lanes of other heads."""
  return jnp.where(own, x, jnp.zeros_like(x))


def _products(x, y):
  """x yᵀ."""
  return jax.lax.dot_general(
    x, y, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
  )


def _distances(table_ref, queries: int, keys: int):
  """Rows of a table of all distances that this block's queries can have."""
  behind = pl.num_programs(2) - 1 - pl.program_id(2)
  start = pl.multiple_of(behind * queries, queries)
  return table_ref[pl.ds(start, _up(keys, LANES) + queries), :]


def _turned(products, keys: int):
  """[q, k] is in column queries − 1 + k − q."""
  queries, width = products.shape
  turn = width - (queries - 1)
  turned = tpu.roll(products, turn, 1, stride=1, stride_axis=0)
  return turned[:, :keys]
