"""Products with each relative position, put where query and key have it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


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
