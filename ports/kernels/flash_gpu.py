"""Attention for NVIDIA's GPUs, in Pallas' Triton.

A block of queries meets the keys block by block, with a running maximum and sum
(Milakov & Gimelshein, 2018); products with relative positions are made before,
and picked in the kernel.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float

Carry = tuple[Array, Array, Array]

QUERIES, KEYS = 64, 64  # of a block, at most
LEAST = 16  # of each side of a product that a tensor core takes
LINE = 8  # numbers of bfloat16
WIDTHS = (16, 32, 64, 128)  # of a head: blocks have powers of two
# The logit of a key that is not allowed: a row of such alone is a mean, as the
# difference of two is 0.
HIDDEN = -1e30
# Beyond, Pallas' offsets into the mask overflow, and CUDA's grid is too small.
MASK, ROWS = 2**31, 2**16


def takes(
  q: Float[Array, 'batch query head d'],
  k: Float[Array, 'batch key head d'],
  allowed: Bool[Array, '#batch #query key'],
  heads: int,
  placed: bool,
) -> bool:
  """Whether the kernel is for these sizes; of any heads, with any positions."""
  del heads, placed
  long = min(q.shape[1], k.shape[1]) >= LEAST
  few = allowed.size < MASK and q.shape[0] < ROWS
  return long and few and q.shape[-1] in WIDTHS


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
  """softmax(q kᵀ/√d + near · table/√width) v over the allowed keys.

  Key k adds the product of query q with row left + k − q of the table, or with
  the first or last one beyond; their width is d or 1. Products are of bfloat16,
  sums of float32; the result is of v's dtype. A query without any allowed key
  looks at all alike.

  Args:
    interpret: runs the kernel on any backend, slowly.
  """
  # Logits to the base of 2, whose power is one instruction.
  power = math.log2(math.e)
  q = q * (q.shape[-1] ** -0.5 * power)
  narrow = [x.astype(jnp.bfloat16) for x in (q, k, v)]
  placed = ()
  if near is not None:
    near = near * (near.shape[-1] ** -0.5 * power)
    placed = _operands(near, table)
  found = _call(*narrow, allowed, *placed, left=left, interpret=interpret)
  return found.astype(v.dtype)


def _call(q, k, v, allowed, *placed, left, interpret):
  """The kernel once for each block of queries of each head of each row."""
  (batch, queries, heads, d), keys = q.shape, k.shape[1]
  rows, own = (length > 1 for length in allowed.shape[:2])
  mask = pl.BlockSpec(
    (None, queries if own else None, keys),
    lambda i, head, row: (row if rows else 0, 0, 0),
  )
  of_placed = [
    pl.BlockSpec(
      (None, None, queries, x.shape[-1]),
      lambda i, head, row: (head, row, 0, 0),
    )
    for x in placed[:1]
  ] + [
    pl.BlockSpec((None, *x.shape[1:]), lambda i, head, row: (head, 0, 0))
    for x in placed[1:]
  ]
  size = min(QUERIES, _power(queries)), min(KEYS, _power(keys))
  return pl.pallas_call(
    functools.partial(_kernel, size=size, left=left),
    grid=(pl.cdiv(queries, size[0]), heads, batch),
    in_specs=[*(_of_head(*x.shape[1::2]) for x in (q, k, v)), mask, *of_placed],
    out_specs=_of_head(queries, d),
    out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
    compiler_params=triton.CompilerParams(num_warps=4, num_stages=3),
    interpret=interpret,
    name='flash_attention',
  )(q, k, v, allowed, *placed)


def _operands(near: Array, table: Array) -> tuple[Array, ...]:
  """Products with all distances; of single numbers the kernel makes them."""
  if near.shape[-1] > 1:
    return (_products(near.astype(jnp.bfloat16), table),)
  gate = near.transpose(2, 0, 1, 3)
  return gate.astype(jnp.float32), table.astype(jnp.float32)


def _products(
  near: Float[Array, 'batch query head d'],
  table: Float[Array, '#head distance d'],
) -> Float[Array, 'head batch query column']:
  """Heads in front, as a product of many matrices is laid out.

  The last distance is there as often as fills a line that cuBLAS' tensor cores
  write.
  """
  more = -table.shape[1] % LINE
  table = jnp.pad(table, ((0, 0), (0, more), (0, 0)), mode='edge')
  each = (near.shape[2], *table.shape[1:])
  table = jnp.broadcast_to(table, each).astype(near.dtype)
  return jnp.einsum('bqhd,hwd->hbqw', near, table)


def _of_head(time: int, d: int) -> pl.BlockSpec:
  """All steps of one head of one row."""
  return pl.BlockSpec(
    (None, time, None, d), lambda i, head, row: (row, 0, head, 0)
  )


def _power(length: int) -> int:
  """The least power of two that is as long, or as a tensor core needs."""
  return max(LEAST, 1 << (length - 1).bit_length())


def _kernel(q_ref, k_ref, v_ref, allowed_ref, *refs, size, left):
  """One block of queries of one head of one row; references are of all."""
  *placed_refs, out_ref = refs
  (queries, d), keys = q_ref.shape, k_ref.shape[0]
  first = pl.program_id(0) * size[0]
  row = first + jnp.arange(size[0], dtype=jnp.int32)
  mine, there = pl.ds(first, size[0]), row < queries
  q = triton.load(q_ref.at[mine, :], mask=there[:, None], other=0)

  def turn(added, block: Array, carry: Carry) -> Carry:
    """The same with the next block of keys."""
    mixed, total, top = carry
    at = pl.ds(block * size[1], size[1])
    column = block * size[1] + jnp.arange(size[1], dtype=jnp.int32)
    real = column < keys
    both = there[:, None] & real
    k = triton.load(k_ref.at[at, :], mask=real[:, None], other=0)
    logits = triton.dot(q, k, trans_b=True) + added(column, both)
    if allowed_ref.ndim == 1:
      seen = triton.load(allowed_ref.at[at], mask=real, other=False)
      seen = seen[None]
    else:
      seen = triton.load(allowed_ref.at[mine, at], mask=both, other=False)
    logits = jnp.where(seen, logits, jnp.where(real, HIDDEN, -jnp.inf)[None])
    higher = jnp.maximum(top, logits.max(axis=1))
    weights = jnp.exp2(logits - higher[:, None])
    kept = jnp.exp2(top - higher)
    v = triton.load(v_ref.at[at, :], mask=real[:, None], other=0)
    mixed = mixed * kept[:, None] + triton.dot(weights.astype(v.dtype), v)
    return mixed, total * kept + weights.sum(axis=1), higher

  carry = (
    jnp.zeros((size[0], d), jnp.float32),
    jnp.zeros(size[0], jnp.float32),
    jnp.full(size[0], HIDDEN, jnp.float32),
  )
  blocks = pl.cdiv(keys, size[1])
  stretches = [(0, blocks, lambda column, both: 0)]
  if placed_refs:
    stretches = _placed(placed_refs, first, left, size, blocks)
  for start, end, added in stretches:
    carry = jax.lax.fori_loop(start, end, functools.partial(turn, added), carry)
  mixed, total, _ = carry
  out = (mixed / total[:, None]).astype(out_ref.dtype)
  triton.store(out_ref.at[mine, :], out, mask=there[:, None])


def _placed(refs, first, left, size, blocks):
  """Blocks from and to → what positions add to the logits of such a block.

  Most of a long sequence lies beyond the distances that have a column, where a
  query's product is the same for every key: only between is one picked each.
  """
  row = first + jnp.arange(size[0], dtype=jnp.int32)
  there = row < refs[0].shape[0]
  columns, product = _by_column(refs, row, there)
  before = jnp.maximum(first - left + 1, 0) // size[1]
  before = jnp.minimum(before, blocks)
  behind = pl.cdiv(first + size[0] - 2 - left + columns, size[1])
  behind = jnp.minimum(behind, blocks)

  def same(at):
    found = product(jnp.full((size[0], 1), at), there[:, None])
    return lambda column, both: found

  def picked(column, both):
    at = jnp.clip(left + column - row[:, None], 0, columns - 1)
    return product(at, both)

  return [
    (0, before, same(0)),
    (before, behind, picked),
    (behind, blocks, same(columns - 1)),
  ]


def _by_column(refs, row, there):
  """How many distances there are, and what reads the rows' products with some.

  References are of all products, or of what they are made of in place.
  """
  if len(refs) == 1:
    (products_ref,) = refs

    def read(at, mask):
      of = jnp.broadcast_to(row[:, None], at.shape)
      product = triton.load(products_ref.at[of, at], mask=mask, other=0)
      return product.astype(jnp.float32)

    return products_ref.shape[1], read
  gate_ref, table_ref = refs
  gate = triton.load(
    gate_ref.at[row[:, None], jnp.zeros_like(row)[:, None]],
    mask=there[:, None],
    other=0,
  )

  def made(at, mask):
    of = table_ref.at[at, jnp.zeros_like(at)]
    return gate * triton.load(of, mask=mask, other=0)

  return table_ref.shape[0], made
