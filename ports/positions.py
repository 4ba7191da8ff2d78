"""Products with each relative position, put where query and key have it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def placed(
  products: Float[Array, '*lead time distance'], left: int
) -> Float[Array, '*lead time time']:
  """[…, q, k] is the product in column left + k − q, or at either end."""
  time, distances = products.shape[-2:]
  if left == time - 1 and distances == 2 * time - 1:
    return skewed(products)
  return clipped(products, left)


def clipped(
  products: Float[Array, '*lead time distance'], left: int
) -> Float[Array, '*lead time time']:
  """[…, q, k] is the product at the distance k − q: column left + k − q.

  Beyond either end it is the first or the last column. A TPU gathers slowly, so
  there a product with ones and zeros picks them.
  """
  step, last = np.arange(products.shape[-2]), products.shape[-1] - 1
  column = np.clip(step[None] - step[:, None] + left, 0, last)
  return jax.lax.platform_dependent(
    products,
    tpu=functools.partial(picked_by_product, column=column),
    default=functools.partial(picked_by_index, column=column),
  )


def skewed(
  products: Float[Array, '*lead time distance'],
) -> Float[Array, '*lead time time']:
  """[…, q, k] is the product in column time − 1 + k − q: each has its own.

  With one column in front, rows read as if they were one shorter begin one
  column later each, which is the shift that is wanted.
  """
  *lead, time, distances = products.shape
  padded = jnp.pad(products, (*((0, 0),) * (products.ndim - 1), (1, 0)))
  rows = padded.reshape(*lead, distances + 1, time)[..., 1:, :]
  return rows.reshape(*lead, time, distances)[..., :time]


def picked_by_index(
  products: Float[Array, '*lead time distance'],
  column: Int[np.ndarray, 'time time'],
) -> Float[Array, '*lead time time']:
  """products[…, q, column[q, k]]."""
  lead = (1,) * (products.ndim - column.ndim)
  index = jnp.asarray(column).reshape(*lead, *column.shape)
  return jnp.take_along_axis(products, index, axis=-1)


def picked_by_product(
  products: Float[Array, '*lead time distance'],
  column: Int[np.ndarray, 'time time'],
) -> Float[Array, '*lead time time']:
  """As `picked_by_index`: in full precision the values are the same."""
  size, highest = products.shape[-1], jax.lax.Precision.HIGHEST
  chosen = jax.nn.one_hot(jnp.asarray(column), size, dtype=products.dtype)
  return jnp.einsum('...qe,qke->...qk', products, chosen, precision=highest)
