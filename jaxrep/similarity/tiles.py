"""The device side of a comparison: factors in batches, pairs in tiles.

Sentences, kept components and batches are padded to few sizes, so few kernels
are compiled. With a mesh each device works on its share of a batch or tile
and nothing is communicated until the results are gathered; what is drawn at
random does not depend on the number of devices.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, UInt32

from jaxrep.similarity.measure import Factors, Measure
from jaxrep.stats import permutation

_TILE = 128  # pairs per device and step
_BATCH = 32  # representations per device and factorisation
_GRAIN = 16  # sentences and kept components are padded to a multiple of it
_SHARED, _WHOLE = PartitionSpec('data'), PartitionSpec()


def factor_all(
  measure: Measure,
  arguments: Mapping[str, Any],
  arrays: Sequence[Float[np.ndarray, 'n _']],
  mesh: Mesh | None,
) -> Factors:
  """Factors of representations of n sentences, stacked in their order.

  Those of equal width share a batch. The stack is padded with more copies, so
  that its length takes few values.
  """
  n = len(arrays[0])
  valid = _valid(n)
  length = _up(len(arrays), _size(len(arrays), _BATCH, None))
  slots, parts = np.zeros(length, np.int32), []
  for width in sorted({x.shape[1] for x in arrays}):
    group = [i for i, x in enumerate(arrays) if x.shape[1] == width]
    size = _size(len(group), _BATCH, mesh)
    for start in range(0, len(group), size):
      batch = group[start : start + size]
      slots[batch] = sum(len(part.k) for part in parts) + np.arange(len(batch))
      x = np.zeros((size, valid.size, width), np.float32)
      for row, i in enumerate(batch):
        x[row, :n] = arrays[i]
      x = _place(x, mesh, _SHARED)
      parts.append(_factor(measure, mesh, x, valid, dict(arguments)))
  most = valid.size
  if not measure.pairwise:
    most = _up(max(int(np.max(part.k)) for part in parts), _GRAIN)
  return _stack(parts, slots, most, mesh)


def score_all(
  measure: Measure,
  factors: Factors,
  pairs: Int[np.ndarray, 'pair 2'],
  tags: UInt32[np.ndarray, 'pair 2'],
  n: int,
  permutations: int,
  seed: int,
  mesh: Mesh | None,
) -> tuple[Float[np.ndarray, ' pair'], Float[np.ndarray, ' pair']]:
  """Values and floors of pairs of the stacked factors.

  `tags` are the stable integers from which the random pairings are drawn.
  """
  count, size = len(pairs), _size(len(pairs), _TILE, mesh)
  missing = ((0, _up(count, size) - count), (0, 0))
  pairs = np.pad(pairs.astype(np.int32), missing)
  tags = np.pad(tags, missing)
  valid, scores = _valid(n), []
  for start in range(0, len(pairs), size):
    tile = slice(start, start + size)
    mine, drawn = (_place(x[tile], mesh, _SHARED) for x in (pairs, tags))
    scores.append(
      _score(
        *(measure, permutations, mesh),
        *(mine, drawn, factors, valid, np.uint32(seed)),
      )
    )
  value, floor = zip(*jax.device_get(scores), strict=True)
  return np.concatenate(value)[:count], np.concatenate(floor)[:count]


@jax.jit(static_argnames=('measure', 'mesh'))
def _factor(
  measure: Measure,
  mesh: Mesh | None,
  x: Float[Array, 'batch n p'],
  valid: Bool[Array, ' n'],
  arguments: dict[str, Any],
) -> Factors:
  def one(x, valid, arguments):
    return measure.factor(x, valid, **arguments)

  many = jax.vmap(one, in_axes=(0, None, None))
  return _share(many, mesh, (_SHARED, _WHOLE, _WHOLE))(x, valid, arguments)


@jax.jit(static_argnames=('most', 'mesh'))
def _stack(
  parts: list[Factors],
  slots: Int[Array, ' m'],
  most: int,
  mesh: Mesh | None,
) -> Factors:
  """One stack of factors of equal width, whole on every device."""

  def fit(rows: Float[Array, 'batch n _']) -> Float[Array, 'batch n most']:
    missing = max(most - rows.shape[2], 0)
    return jnp.pad(rows[:, :, :most], ((0, 0), (0, 0), (0, missing)))

  parts = [part._replace(rows=fit(part.rows)) for part in parts]
  return _gather(
    jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[slots], *parts), mesh
  )


@jax.jit(static_argnames=('measure', 'permutations', 'mesh'))
def _score(
  measure: Measure,
  permutations: int,
  mesh: Mesh | None,
  pairs: Int[Array, 'pair 2'],
  tags: UInt32[Array, 'pair 2'],
  factors: Factors,
  valid: Bool[Array, ' n'],
  seed: UInt32[Array, ''],
) -> tuple[Float[Array, ' pair'], Float[Array, ' pair']]:
  def one(pair, tags, factors, valid, seed):
    fx = jax.tree.map(lambda leaf: leaf[pair[0]], factors)
    fy = jax.tree.map(lambda leaf: leaf[pair[1]], factors)
    value = measure.score(fx, fy)
    if measure.floor is not None:
      return value, measure.floor(fx, fy, jnp.sum(valid))
    null = permutation.null_values(
      lambda order: measure.score(fx, _reorder(measure, fy, order)),
      permutation.pair_key(jax.random.key(seed), *tags),
      permutations,
      valid,
    )
    return value, jnp.mean(null)

  many = jax.vmap(one, in_axes=(0, 0, None, None, None))
  specs = (_SHARED, _SHARED, _WHOLE, _WHOLE, _WHOLE)
  shared = _share(many, mesh, specs)
  return _gather(shared(pairs, tags, factors, valid, seed), mesh)


def _reorder(
  measure: Measure, factors: Factors, order: Int[Array, ' n']
) -> Factors:
  """The factors of the same representation with its sentences reordered."""
  rows = factors.rows[order]
  return factors._replace(rows=rows[:, order] if measure.pairwise else rows)


def _share(function: Callable, mesh: Mesh | None, specs: tuple) -> Callable:
  """The function with its first axis split over the devices."""
  if mesh is None:
    return function
  return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=_SHARED)


def _gather(tree: Any, mesh: Mesh | None) -> Any:
  if mesh is None:
    return tree
  return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, _WHOLE))


def _place(x: np.ndarray, mesh: Mesh | None, spec: PartitionSpec) -> Array:
  if mesh is None:
    return jnp.asarray(x)
  return jax.device_put(x, NamedSharding(mesh, spec))


def _valid(n: int) -> Bool[np.ndarray, ' padded']:
  return np.arange(_up(n, _GRAIN)) < n


def _up(count: int, grain: int) -> int:
  return max(-(-count // grain), 1) * grain


def _size(count: int, most: int, mesh: Mesh | None) -> int:
  """Items of a batch: a power of two for each device, up to `most`."""
  devices = 1 if mesh is None else mesh.shape['data']
  each = -(-count // devices)
  return devices * min(most, 1 << (each - 1).bit_length())
