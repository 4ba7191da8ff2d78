"""Chance: what a statistic gives when sentences are paired at random.

Pure functions of a key. A key comes from stable integers by `fold_in`, so the
same seed gives the same numbers on any number of devices and in any tiling.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32


def pair_key(
  key: Key[Array, ''], first: UInt32[Array, ''], second: UInt32[Array, '']
) -> Key[Array, '']:
  """The key of a pair, from the stable integers of its two members."""
  return jax.random.fold_in(jax.random.fold_in(key, first), second)


def random_order(
  key: Key[Array, ''], valid: Bool[Array, ' n']
) -> Int[Array, ' n']:
  """A random permutation of the valid rows, the others after them.

  More invalid rows at the end leave the permutation as it is.
  """
  draws = jax.random.bits(key, valid.shape, jnp.uint32) >> 1
  return jnp.argsort(jnp.where(valid, draws, jnp.uint32(2**32 - 1)))


def null_values(
  statistic: Callable[[Int[Array, ' n']], Float[Array, '']],
  key: Key[Array, ''],
  count: int,
  valid: Bool[Array, ' n'],
) -> Float[Array, ' count']:
  """The statistic at `count` random orders of the rows."""

  def at(index: Int[Array, '']) -> Float[Array, '']:
    return statistic(random_order(jax.random.fold_in(key, index), valid))

  return jax.lax.map(at, jnp.arange(count))


def calibrate(
  value: Float[np.ndarray, '*shape'], floor: Float[np.ndarray, '*shape']
) -> Float[np.ndarray, '*shape']:
  """(value - floor) / (1 - floor): 0 is chance, 1 the most there can be.

  NaN where the floor is 1. It does not make values at different n or k
  comparable.
  """
  room = 1 - floor
  return (value - floor) / np.where(room == 0, np.nan, room)
