"""Chance: what a statistic gives when sentences are paired at random.

A random order depends on a seed and its number alone, so the same seed gives
the same numbers on any number of devices and in any tiling, and one order
serves all layers of a side.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key


def random_order(
  key: Key[Array, ''], valid: Bool[Array, ' n']
) -> Int[Array, ' n']:
  """A random permutation of the valid rows, the others after them.

  More invalid rows at the end leave the permutation as it is.
  """
  draws = jax.random.bits(key, valid.shape, jnp.uint32) >> 1
  return jnp.argsort(jnp.where(valid, draws, jnp.uint32(2**32 - 1)))


def numbered_order(
  seed: Int[Array, ''], number: Int[Array, ''], valid: Bool[Array, ' n']
) -> Int[Array, ' n']:
  """The random order of this number; a negative one leaves all in place."""
  key = jax.random.fold_in(jax.random.key(seed), number)
  return jnp.where(number < 0, jnp.arange(valid.size), random_order(key, valid))


def calibrate(
  value: Float[np.ndarray, '*shape'], floor: Float[np.ndarray, '*shape']
) -> Float[np.ndarray, '*shape']:
  """(value - floor) / (1 - floor): 0 is chance, 1 the most there can be.

  NaN where the floor is 1. It does not make values at different n or k
  comparable.
  """
  room = 1 - floor
  return (value - floor) / np.where(room == 0, np.nan, room)
