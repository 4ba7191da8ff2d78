"""The device side of a comparison: factors in batches, scores in tiles.

Sentences, kept components, batches and tiles are padded to few sizes, so few
kernels are compiled. With a mesh each device works on its share of a batch or
tile and nothing is communicated until the results are gathered; what is drawn
at random does not depend on the number of devices. A CPU takes one item after
the other, since its batched products are slow; other devices take all at once.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from jaxrep.similarity import canonical, linalg
from jaxrep.similarity.measure import Factors, Measure, Null
from jaxrep.stats import permutation

# Items, and representations to factor, per device and step: few where they are
# taken one after the other, so that little is padded.
_TILE = {'cpu': 16}
_BATCH = {'cpu': 8}
_TILE_OF_OTHERS, _BATCH_OF_OTHERS = 128, 32
_TILES, _LARGEST = 64, 512  # tiles beyond which they grow, and how far
_UNKNOWN = 8 * 2**30  # bytes of a device that does not say how many it has
_GRAIN = 16  # sentences are padded to a multiple of it
_SHARED, _WHOLE = PartitionSpec('data'), PartitionSpec()
AS_THEY_ARE = -1  # the number of the pairing that the data have


class Items(NamedTuple):
  """What is scored: member `a` of one stack with member `b` of another.

  `k_a`, `k_b` are the components that count, `order` the number of the random
  order in which b's sentences are taken, or AS_THEY_ARE.
  """

  a: Int[np.ndarray, ' item']
  b: Int[np.ndarray, ' item']
  k_a: Int[np.ndarray, ' item']
  k_b: Int[np.ndarray, ' item']
  order: Int[np.ndarray, ' item']

  def take(self, chosen: Any) -> 'Items':
    return Items(*(field[chosen] for field in self))


def factor_all(
  measure: Measure,
  arguments: Mapping[str, Any],
  arrays: Sequence[Float[np.ndarray, 'n _']],
  valid: Bool[np.ndarray, ' n'],
  mesh: Mesh | None,
) -> Factors:
  """Factors of representations of n sentences, stacked in their order.

  Those of equal width share a batch. The stack is padded with more copies, so
  that its length takes few values.
  """
  n, traced = len(arrays[0]), dict(arguments)
  static = tuple((name, traced.pop(name)) for name in measure.static)
  valid = np.pad(valid, (0, padded(n) - n))
  most = _BATCH.get(platform(mesh), _BATCH_OF_OTHERS)
  length = _up(len(arrays), _size(len(arrays), most, None))
  slots, parts = np.zeros(length, np.int32), []
  for width in sorted({x.shape[1] for x in arrays}):
    group = [i for i, x in enumerate(arrays) if x.shape[1] == width]
    size = _size(len(group), most, mesh)
    for start in range(0, len(group), size):
      batch = group[start : start + size]
      slots[batch] = sum(len(part.k) for part in parts) + np.arange(len(batch))
      x = np.zeros((size, valid.size, width), np.float32)
      for row, i in enumerate(batch):
        x[row, :n] = arrays[i]
      x = _place(x, mesh, _SHARED)
      with jax.profiler.StepTraceAnnotation('factor', step_num=start):
        parts.append(factor_batch(measure, static, mesh, x, valid, traced))
  return _stack(parts, slots, mesh)


@jax.jit(static_argnames='measure')
def summaries(
  measure: Measure, factors: Factors, valid: Bool[Array, ' n']
) -> Float[Array, 'm q']:
  """What the exact null of the measure needs of each side."""
  return jax.lax.map(lambda rows: measure.summary(rows, valid), factors.rows)


@jax.jit(static_argnames='measure')
def exact_null(
  measure: Measure,
  first: Float[Array, 'm q'],
  second: Float[Array, 'l q'],
  n: Int[Array, ''] | int,
) -> Null:
  """Moments over all pairings, [m, l], from the summaries of both sides."""
  return Null(*measure.null(first[:, None], second, n))


@jax.jit
def leverages(
  factors: Factors, places: Int[Array, ' some'], k: Int[Array, ' some']
) -> Float[Array, 'some n']:
  """`canonical.leverages` of members of the stack at the given k."""

  def one(side: tuple[Array, Array]) -> Float[Array, ' n']:
    member = jax.tree.map(lambda leaf: leaf[side[0]], factors)
    return canonical.leverages(member._replace(k=side[1]))

  return jax.lax.map(one, (places, k))


@jax.jit(static_argnames=('most', 'complement'))
def columns(
  factors: Factors, most: int, complement: bool
) -> Float[Array, 'm n most']:
  """The first columns of the bases or, of their complements, the last ones."""
  rows = factors.rows[:, :, ::-1] if complement else factors.rows
  missing = max(most - rows.shape[2], 0)
  return jnp.pad(rows[:, :, :most], ((0, 0), (0, 0), (0, missing)))


@jax.jit(static_argnames='most')
def narrowed(factors: Factors, most: int) -> Factors:
  """The first components alone, in the rows and in what belongs to them."""
  rest = tuple(leaf[:, :most] for leaf in factors.rest)
  return factors._replace(rows=factors.rows[:, :, :most], rest=rest)


@jax.jit(static_argnames='mesh')
@jax.named_scope('pair')
def inner_products(
  first: Factors, second: Factors, mesh: Mesh | None
) -> Float[Array, 'm l']:
  """Inner products of the rows of every pair, as one matrix product."""

  def product(left, second):
    return linalg.long_product(left, _flat(second.rows))

  left = _divisible(_flat(first.rows), mesh)
  product = _share(product, mesh, (_SHARED, _WHOLE))
  return _gather(product(left, second), mesh)[: len(first.rows)]


@jax.jit(static_argnames=('measure', 'mesh'))
@jax.named_scope('pair')
def permuted_products(
  measure: Measure,
  first: Factors,
  second: Factors,
  orders: Int[Array, ' draw'],
  valid: Bool[Array, ' n'],
  seed: Int[Array, ''],
  mesh: Mesh | None,
) -> Float[Array, 'draw m l']:
  """`inner_products` with the second's sentences in random orders.

  Of symmetric matrices one triangle is gathered.
  """
  i, j, weight = _entries(measure, *second.rows.shape[1:])

  def product(orders, first, second, valid, seed):
    left = first.rows[:, i, j] * weight

    def at(number):
      order = permutation.numbered_order(seed, number, valid)
      places = second.rows.at[:, order[i], order[j] if measure.pairwise else j]
      return linalg.product(left, places.get(mode='promise_in_bounds').T)

    return jax.lax.map(at, orders)

  specs = (_SHARED, _WHOLE, _WHOLE, _WHOLE, _WHOLE)
  product = _share(product, mesh, specs)
  dealt = _divisible(orders, mesh)
  maps = _gather(product(dealt, first, second, valid, seed), mesh)
  return maps[: len(orders)]


def _entries(
  measure: Measure, n: int, width: int
) -> tuple[
  Int[np.ndarray, ' entry'],
  Int[np.ndarray, ' entry'],
  Float[np.ndarray, ' entry'],
]:
  """Rows, columns and weights of what an inner product sums."""
  if not measure.pairwise or measure.directed:
    i, j = np.indices((n, width)).reshape(2, -1)
    return i, j, np.ones(len(i), np.float32)
  i, j = np.triu_indices(n)
  return i, j, np.where(i == j, 1, 2).astype(np.float32)


def score_items(
  score: Callable[[Factors, Factors], Array],
  first: Factors,
  second: Factors,
  items: Items,
  n: int,
  seed: int,
  mesh: Mesh | None,
) -> Float[np.ndarray, ' item']:
  """Scores of items, in their order."""
  count = len(items.a)
  most = _TILE.get(platform(mesh), _TILE_OF_OTHERS)
  many = min(1 << (count // _TILES).bit_length(), _LARGEST)
  size = _size(count, max(most, many), mesh)
  missing = (0, _up(count, size) - count)
  items = Items(*(np.pad(field.astype(np.int32), missing) for field in items))
  valid, scores = valid_rows(n), []
  # What the host keeps goes to the devices once, not with every batch.
  first, second = jax.tree.map(
    lambda x: _place(x, mesh, _WHOLE) if isinstance(x, np.ndarray) else x,
    (first, second),
  )
  for start in range(0, len(items.a), size):
    part = items.take(slice(start, start + size))
    mine = Items(*(_place(field, mesh, _SHARED) for field in part))
    with jax.profiler.StepTraceAnnotation('pair', step_num=start):
      scores.append(
        score_batch(score, mesh, mine, first, second, valid, np.int32(seed))
      )
  return np.concatenate(jax.device_get(scores))[:count]


def order(n: int, seed: int, number: int) -> Int[np.ndarray, ' n']:
  """The random order of this number of n sentences."""
  found = _order(np.int32(seed), np.int32(number), valid_rows(n))
  return np.asarray(found)[:n]


def padded(n: int) -> int:
  """Rows of a stack of n sentences."""
  return _up(n, _GRAIN)


def valid_rows(n: int) -> Bool[np.ndarray, ' padded']:
  return np.arange(padded(n)) < n


_order = jax.jit(permutation.numbered_order)


@jax.jit(static_argnames=('measure', 'static', 'mesh'))
@jax.named_scope('factor')
def factor_batch(
  measure: Measure,
  static: tuple[tuple[str, Any], ...],
  mesh: Mesh | None,
  x: Float[Array, 'batch n p'],
  valid: Bool[Array, ' n'],
  traced: dict[str, Any],
) -> Factors:
  """Each device factors its share of a batch."""

  def many(x, valid, traced):
    one = functools.partial(measure.factor, **dict(static))
    return _each(lambda x: one(x, valid=valid, **traced), mesh)(x)

  return _share(many, mesh, (_SHARED, _WHOLE, _WHOLE))(x, valid, traced)


@jax.jit(static_argnames='mesh')
def _stack(
  parts: list[Factors], slots: Int[Array, ' m'], mesh: Mesh | None
) -> Factors:
  """One stack of factors of equal width, whole on every device."""

  def join(*leaves):
    largest = np.max([leaf.shape for leaf in leaves], axis=0)[1:]
    fitted = []
    for leaf in leaves:
      missing = [(0, 0), *((0, m) for m in largest - leaf.shape[1:])]
      fitted.append(jnp.pad(leaf, missing))
    return jnp.concatenate(fitted)[slots]

  return _gather(jax.tree.map(join, *parts), mesh)


@jax.jit(static_argnames=('score', 'mesh'))
@jax.named_scope('pair')
def score_batch(
  score: Callable[[Factors, Factors], Array],
  mesh: Mesh | None,
  items: Items,
  first: Factors,
  second: Factors,
  valid: Bool[Array, ' n'],
  seed: Int[Array, ''],
) -> Float[Array, ' item']:
  """Each device scores its share of a tile; then all have all scores."""

  def many(items, first, second, valid, seed):
    def one(item):
      fx = jax.tree.map(lambda leaf: leaf[item.a], first)
      fy = jax.tree.map(lambda leaf: leaf[item.b], second)
      rows = jax.lax.cond(item.order < 0, _as_it_is, moved, fy.rows, item.order)
      return score(fx._replace(k=item.k_a), fy._replace(k=item.k_b, rows=rows))

    def moved(rows, number):
      return rows[permutation.numbered_order(seed, number, valid)]

    return _each(one, mesh)(items)

  specs = (_SHARED, _WHOLE, _WHOLE, _WHOLE, _WHOLE)
  return _gather(
    _share(many, mesh, specs)(items, first, second, valid, seed), mesh
  )


def _as_it_is(rows: Float[Array, 'n w'], _: Array) -> Float[Array, 'n w']:
  return rows


def _each(function: Callable, mesh: Mesh | None) -> Callable:
  """The function of each item along the first axis."""
  if platform(mesh) == 'cpu':
    return functools.partial(jax.lax.map, function)
  return jax.vmap(function)


def is_first() -> bool:
  """Whether this process is the one that writes."""
  return jax.process_index() == 0


def anywhere(flag: bool) -> bool:
  """Whether the flag is set in any process; all of them ask."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.array(flag)).any())


def platform(mesh: Mesh | None) -> str:
  """Where the work is done: cpu, gpu or tpu."""
  device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
  return device.platform


def room(mesh: Mesh | None) -> int:
  """Bytes of factors that may stay where the work is done."""
  # Another process does not know how much memory a device has.
  own = jax.local_devices(backend=platform(mesh))[0]
  return (own.memory_stats() or {}).get('bytes_limit', _UNKNOWN) // 2


def _share(function: Callable, mesh: Mesh | None, specs: tuple) -> Callable:
  """The function with its first axis split over the devices."""
  if mesh is None:
    return function
  return jax.shard_map(
    function, mesh=mesh, in_specs=specs, out_specs=_SHARED, check_vma=False
  )


def _gather(tree: Any, mesh: Mesh | None) -> Any:
  if mesh is None:
    return tree
  return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, _WHOLE))


def _divisible(x: Array, mesh: Mesh | None) -> Array:
  """Zeros behind the first axis, so that each device gets as much."""
  devices = 1 if mesh is None else mesh.shape['data']
  missing = _up(len(x), devices) - len(x)
  return jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))


def _flat(rows: Float[Array, 'm n w']) -> Float[Array, 'm nw']:
  return rows.reshape(len(rows), -1)


def _place(x: np.ndarray, mesh: Mesh | None, spec: PartitionSpec) -> Array:
  """Every process has the whole array and gives its devices their parts.

  `device_put` onto devices of others would first gather it from all processes,
  to see that it is the same.
  """
  if mesh is None:
    return jnp.asarray(x)
  sharding = NamedSharding(mesh, spec)
  return jax.make_array_from_callback(x.shape, sharding, x.__getitem__)


def _up(count: int, grain: int) -> int:
  return max(-(-count // grain), 1) * grain


def _size(count: int, most: int, mesh: Mesh | None) -> int:
  """Items of a batch: a power of two for each device, up to `most`."""
  devices = 1 if mesh is None else mesh.shape['data']
  each = -(-count // devices)
  return devices * min(most, 1 << (each - 1).bit_length())
