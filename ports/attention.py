"""Attention, in the form that each backend runs well.

All heads at once is one large program for an accelerator. On a CPU its scores,
[batch, head, query, key], go through memory once for each step of the softmax;
one head at a time they stay in the cache, which takes two thirds of the time or
less, and a quarter of the memory. Accelerators have kernels, where products may
read bfloat16.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float

from ports.kernels import flash, narrow
from ports.layers import wide
from ports.parallel import over_devices, several_devices
from ports.positions import placed

# Scores of a head, in numbers, from which it has a turn of its own on a CPU:
# below, the turns cost more than the cache gives.
WORTH_A_TURN = 2**16


class Bias(NamedTuple):
  """What positions add to the scores: `of(*operands)`, [… query key].

  Operands are [#batch, #head, …]. `of` gets them whole, or without these axes
  those of one head. `near` is the same for kernels, if they can have it.
  """

  of: Callable[..., Float[Array, '*lead query key']]
  operands: tuple[Array, ...]
  near: 'Relative | None' = None


class Relative(NamedTuple):
  """Positions by their distance: q · table[left + key − query] / √width.

  Beyond either end it is the first or the last row. The width is d, or 1.
  """

  q: Float[Array, 'batch head query #d']
  table: Float[Array, '1 #head distance #d']
  left: int

  @property
  def near(self) -> 'Relative':
    return self

  @property
  def operands(self) -> tuple[Array, Array]:
    return self.q, self.table

  def of(
    self,
    q: Float[Array, '*lead query d'],
    table: Float[Array, '*#lead distance d'],
  ) -> Float[Array, '*lead query key']:
    """Products with all of the table, computed wide, put where they belong."""
    products = _matmul(q, table.swapaxes(-1, -2)) * q.shape[-1] ** -0.5
    return placed(products, self.left)


def split_heads(
  x: Float[Array, 'batch time dim'], heads: int
) -> Float[Array, 'batch time head d']:
  return x.reshape(*x.shape[:2], heads, -1)


@jax.named_scope('attend')
def attention(
  q: Float[Array, 'batch query head d'],
  k: Float[Array, 'batch key head d'],
  v: Float[Array, 'batch key head d'],
  allowed: Bool[Array, '#batch #query key'],
  bias: Bias | Relative | None = None,
  heads_over: str | None = None,
) -> Float[Array, 'batch query head_d']:
  """softmax(q kᵀ/√d + bias) v over the allowed keys, heads concatenated.

  Args:
    heads_over: the axis of a mesh that heads are dealt over, and rows over the
      other; where there is none, rows are dealt over all devices.
  """
  of, operands = (bias.of, bias.operands) if bias else (None, ())
  near = bias.near if bias and narrow() else None
  of_heads = functools.partial(_attended, of)
  # Rows may lie on several devices: a turn for each would gather them.
  if q.shape[1] * k.shape[1] >= WORTH_A_TURN and not several_devices():
    of_heads = functools.partial(_by_head, of_heads)
  forms = {
    'cpu': functools.partial(_reading, 0, _heads_in_front, of_heads),
    'default': functools.partial(_reading, 0, _as_they_come, of),
  }
  if narrow() and (near or not bias):
    heads = q.shape[2]
    if heads_over and several_devices():
      heads //= jax.sharding.get_abstract_mesh().shape[heads_over]
    kernels = flash.forms(q, k, allowed, heads, placed=near is not None)
    for platform, form in kernels.items():
      if near:
        form = functools.partial(form, left=near.left)
      forms[platform] = functools.partial(
        _reading, 1, _in_one_kernel, form, heads_over
      )
  positions = operands, near.operands if near else ()
  return jax.lax.platform_dependent(q, k, v, allowed, *positions, **forms)


def _reading(which: int, form: Callable[..., Array], *given: Any) -> Array:
  """`form` of the first or the second of two sets of positions' operands."""
  *own, first, second = given
  return form(*own, *(first, second)[which])


def _in_one_kernel(
  form: Callable[..., Array],
  heads_over: str | None,
  q: Float[Array, 'batch query head d'],
  k: Float[Array, 'batch key head d'],
  v: Float[Array, 'batch key head d'],
  allowed: Bool[Array, '#batch #query key'],
  *operands: Array,
) -> Float[Array, 'batch query head_d']:
  """On each device for its own rows and heads: XLA cannot divide a kernel."""
  near = ()
  if operands:
    near = (operands[0].swapaxes(1, 2), operands[1][0])
  axes = jax.sharding.get_abstract_mesh().axis_names
  rows = tuple(axis for axis in axes if axis != heads_over)
  of_steps = PartitionSpec(rows, None, heads_over)
  of_mask = PartitionSpec(rows if allowed.shape[0] > 1 else None)
  of_near = (of_steps, PartitionSpec(heads_over))[: len(near)]
  form = over_devices(
    form, (of_steps, of_steps, of_steps, of_mask, *of_near), of_steps
  )
  found = form(q, k, v, allowed, *near)
  return found.reshape(*found.shape[:2], -1)


def _as_they_come(
  of: Callable[..., Array] | None,
  q: Float[Array, 'batch query head d'],
  k: Float[Array, 'batch key head d'],
  v: Float[Array, 'batch key head d'],
  allowed: Bool[Array, '#batch #query key'],
  *operands: Array,
) -> Float[Array, 'batch query head_d']:
  """The compiler lays the axes out.

  The TPU's reckons with an eighth fewer cycles for a text encoder than where
  heads are in front.
  """
  bias = Bias(of, operands) if of else None
  return mix(attention_weights(q, k, allowed, bias), v)


def _heads_in_front(
  form: Callable[..., Array],
  q: Float[Array, 'batch query head d'],
  k: Float[Array, 'batch key head d'],
  v: Float[Array, 'batch key head d'],
  allowed: Bool[Array, '#batch #query key'],
  *operands: Array,
) -> Float[Array, 'batch query head_d']:
  """`form` of arrays [batch, head, …]."""
  q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
  found = form(q, k, v, allowed[:, None], *operands).swapaxes(1, 2)
  return found.reshape(*found.shape[:2], -1)


def _attended(
  of: Callable[..., Array] | None,
  q: Float[Array, '*lead query d'],
  k: Float[Array, '*lead key d'],
  v: Float[Array, '*lead key d'],
  allowed: Bool[Array, '*#lead #query key'],
  *operands: Array,
) -> Float[Array, '*lead query d']:
  """The sum of the weights divides the mixture: it is smaller than they are."""
  scores = _matmul(q, k.swapaxes(-1, -2))
  added = of and of(*operands)
  logits = _logits(scores, q.shape[-1], allowed, added)
  weights = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
  mixed = _matmul(weights.astype(v.dtype), v)
  return (mixed / weights.sum(axis=-1, keepdims=True)).astype(v.dtype)


def _by_head(
  form: Callable[..., Array], q: Float[Array, 'batch head query d'], *others
) -> Float[Array, 'batch head query d']:
  """`form` for one row's one head after another."""
  batch, heads = q.shape[:2]

  def turn(at):
    return form(*(_of_head(x, *at) for x in (q, *others)))

  each = np.indices((batch, heads), np.uint32).reshape(2, -1)
  return jax.lax.map(turn, tuple(each)).reshape(q.shape)


def _of_head(x: Array, row: Array, head: Array) -> Array:
  """x[row, head], where an axis of length 1 stands for all."""
  zero = np.uint32(0)
  starts = [
    at if length > 1 else zero
    for at, length in zip((row, head), x.shape, strict=False)
  ]
  starts += [zero] * (x.ndim - 2)
  return jax.lax.dynamic_slice(x, starts, (1, 1, *x.shape[2:]))[0, 0]


def attention_weights(
  q: Float[Array, 'batch query head d'],
  k: Float[Array, 'batch key head d'],
  allowed: Bool[Array, '#batch #query key'],
  bias: Bias | None = None,
) -> Float[Array, 'batch head query key']:
  """softmax(q kᵀ/√d + bias) over the allowed keys."""
  scores = jnp.einsum(
    'bqhd,bkhd->bhqk', q, k, preferred_element_type=wide(q.dtype)
  )
  added = bias and bias.of(*bias.operands)
  logits = _logits(scores, q.shape[-1], allowed[:, None], added)
  return jax.nn.softmax(logits, axis=-1)


def mix(
  weights: Float[Array, 'batch head query key'],
  v: Float[Array, 'batch key head d'],
) -> Float[Array, 'batch query head_d']:
  """Each query's mean of the values, heads concatenated."""
  mixed = jnp.einsum(
    'bhqk,bkhd->bqhd',
    weights.astype(v.dtype),
    v,
    preferred_element_type=wide(v.dtype),
  )
  return mixed.reshape(*mixed.shape[:2], -1).astype(v.dtype)


def _logits(
  scores: Float[Array, '*lead query key'],
  d: int,
  allowed: Bool[Array, '*#lead #query key'],
  added: Array | None = None,
) -> Float[Array, '*lead query key']:
  """A query without any allowed key looks at all of them alike.

  So nothing is NaN: such queries are padding, and nothing valid reads them.
  """
  scores = scores * d**-0.5
  if added is not None:
    scores = scores + added
  return jnp.where(allowed, scores, jnp.finfo(scores.dtype).min)


def _matmul(x: Array, y: Array) -> Array:
  return jnp.matmul(x, y, preferred_element_type=wide(x.dtype))
