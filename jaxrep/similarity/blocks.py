"""Representations in blocks: each is factored once, when it is first needed."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int, Shaped

from jaxrep.similarity import inputs, saved, tiles
from jaxrep.similarity.measure import Factors, Measure

SIZE = 256  # representations of a block


class Block(NamedTuple):
  """Factors of up to SIZE representations.

  `reasons` says of each why it cannot be used, or is empty. `summary` is what
  the exact null of the measure needs, None where it has none.
  """

  factors: Factors
  summary: Float[np.ndarray, 'm q'] | None
  k: Int[np.ndarray, ' m']
  reasons: Shaped[np.ndarray, ' m']


@dataclasses.dataclass
class Blocks:
  """The usable representations of one map, in the order of their tags.

  `clusters` says of each row which of the others it is new together with, as
  the recordings of a sentence are: ids from 0 to n - 1.
  """

  rule: Measure
  arguments: Mapping[str, Any]
  arrays: Mapping[str, np.ndarray]
  mesh: Mesh | None
  clusters: Int[np.ndarray, ' n'] | None = None

  def __post_init__(self):
    self._made: dict[int, Block] = {}

  @property
  def n(self) -> int:
    return len(next(iter(self.arrays.values())))

  @property
  def units(self) -> int:
    """What is new together: clusters, or sentences if there are none."""
    return self.n if self.clusters is None else len(np.unique(self.clusters))

  @property
  def padded_clusters(self) -> Int[np.ndarray, ' padded'] | None:
    """Cluster ids; each padded row is one by itself."""
    if self.clusters is None:
      return None
    return np.append(self.clusters, np.arange(self.n, tiles.padded(self.n)))

  def take(self, number: int) -> Block:
    """The block of this number, factored now or before."""
    if number not in self._made:
      self._made[number] = self._make(number)
    return self._made[number]

  def refactored(
    self,
    number: int,
    valid: Bool[np.ndarray, ' n'] | None = None,
    order: Int[np.ndarray, ' n'] | None = None,
  ) -> Factors:
    """Factors of some of the sentences, or of all in another order."""
    chosen = self._names(number)
    arrays = [self._narrow(name) for name in chosen]
    if order is not None:
      arrays = [x[order] for x in arrays]
    if valid is None:
      valid = np.ones(self.n, bool)
    return tiles.factor_all(self.rule, self.arguments, arrays, valid, self.mesh)

  def digest(self, number: int) -> str:
    """A name for the contents of a block and for what is new together."""
    names = self._names(number)
    arrays = (part for n in names for part in (n, self.arrays[n]))
    return saved.digest(self.clusters, *arrays)

  def complete(self, number: int) -> Bool[np.ndarray, ' m']:
    """Which of a block have a complete basis; see `linalg.left_singular`."""
    names, rows = self._names(number), tiles.padded(self.n)
    return np.array([2 * self.arrays[name].shape[1] > rows for name in names])

  def _make(self, number: int) -> Block:
    factors = self.refactored(number)
    summary = None
    if self.rule.summary is not None:
      valid = tiles.valid_rows(self.n)
      summary = np.asarray(tiles.summaries(self.rule, factors, valid))
    names = self._names(number)
    k = np.asarray(factors.k)[: len(names)]
    defined = np.asarray(factors.defined)[: len(names)]
    reasons = np.array(
      [
        self._reason(*one)
        for one in zip(names, k.tolist(), defined.tolist(), strict=True)
      ],
      object,
    )
    bytes_each = sum(leaf.nbytes for leaf in jax.tree.leaves(factors))
    if -(-len(self.arrays) // SIZE) * bytes_each > tiles.room(self.mesh):
      factors = jax.device_get(factors)
    return Block(factors, summary, k, reasons)

  def _reason(self, name: str, k: int, defined: bool) -> str:
    if not defined:
      return f'{name}: {self.rule.undefined}'
    asked = self.arguments.get('k', 0)
    if k < asked:
      return self.too_few(name, k, asked)
    return ''

  def too_few(self, name: str, components: int, asked: int) -> str:
    """That a side has fewer components than asked for."""
    shape = f'n={self.n}, p={self.arrays[name].shape[1]}'
    return f'{name} has {components} components ({shape}), not k={asked}'

  def _narrow(self, name: str) -> Float[np.ndarray, 'n p']:
    return inputs.narrow(self.arrays[name], self.rule.centred)

  def _names(self, number: int) -> list[str]:
    return list(self.arrays)[number * SIZE : (number + 1) * SIZE]
