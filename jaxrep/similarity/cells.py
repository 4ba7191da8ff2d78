"""The cells of one tile: their values, and their values by chance.

A tile holds pairs of members of one block with members of another.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxrep.similarity import overlap, tiles
from jaxrep.similarity.blocks import Block, Blocks
from jaxrep.similarity.measure import Factors, Measure
from jaxrep.similarity.tiles import Items

_NULL_BYTES = 2**28  # of the maps under random pairings made at once


@dataclasses.dataclass(frozen=True)
class Cells:
  """Pairs of a tile, every one of which can be scored.

  `items` are places in the blocks numbered `rows` and `columns`, with the
  sentences as they are.
  """

  blocks: Blocks
  rows: int
  columns: int
  items: Items
  seed: int

  @property
  def rule(self) -> Measure:
    return self.blocks.rule

  @property
  def sides(self) -> tuple[Block, Block]:
    return self.blocks.take(self.rows), self.blocks.take(self.columns)

  @property
  def same(self) -> Bool[np.ndarray, ' cell']:
    """Which cells hold a representation against itself."""
    return (self.items.a == self.items.b) & (self.rows == self.columns)

  def scale(self, items: Items) -> Float[np.ndarray, ' item'] | float:
    """What their inner products or mean cosines are multiplied by."""
    if self.rule.scale is None:
      return 1.0
    return np.asarray(self.rule.scale(items.k_a, items.k_b))

  def values(self) -> Float[np.ndarray, ' cell']:
    """The score of each cell."""
    return self._scores(*self._factors(), self.items)

  def under(
    self, chosen: Int[np.ndarray, ' item'], orders: Int[np.ndarray, ' item']
  ) -> Float[np.ndarray, ' item']:
    """Scores of chosen cells with b's sentences in the orders numbered."""
    items = self.items.take(chosen)._replace(order=orders)
    return self._scores(*self._factors(), items)

  def nulls(self, count: int) -> Iterator[Float[np.ndarray, 'some cell']]:
    """Scores of all cells under random pairings 0 … count, a few at a time."""
    if self.rule.inner:
      yield from self._permuted_products(count)
      return
    for number in range(count):
      if self.rule.fixed_rows:
        order = tiles.order(self.blocks.n, self.seed, number)
        first = self._factors()[0]
        second = self.blocks.refactored(self.columns, order=order)
        yield self._scores(first, second, self.items)[None]
      else:
        orders = np.full(len(self.items.a), number)
        yield self.under(np.arange(orders.size), orders)[None]

  def without(
    self, valid: Bool[np.ndarray, ' n'], cuts: Sequence[int] = (0,)
  ) -> Float[np.ndarray, 'cut cell']:
    """The score of each cell on the valid sentences alone.

    At each of `cuts` both sides keep so many components; 0 is their own choice
    on these sentences. NaN where a side has no value without the others, or
    fewer components than the cut.
    """
    first = second = self.blocks.refactored(self.rows, valid)
    if self.columns != self.rows:
      second = self.blocks.refactored(self.columns, valid)
    return np.stack([self._cut(first, second, cut) for cut in cuts])

  def _cut(
    self, first: Factors, second: Factors, cut: int
  ) -> Float[np.ndarray, ' cell']:
    places = ((first, self.items.a), (second, self.items.b))
    defined = np.ones(len(self.items.a), bool)
    for side, at in places:
      defined &= np.asarray(side.defined)[at]
      if cut:
        defined &= np.asarray(side.rank)[at] >= cut
    k_a, k_b = (
      np.full(len(at), cut) if cut else np.asarray(side.k)[at]
      for side, at in places
    )
    items = self.items._replace(k_a=k_a, k_b=k_b)
    return np.where(defined, self._scores(first, second, items), np.nan)

  def _factors(self) -> tuple[Factors, Factors]:
    first, second = self.sides
    return first.factors, second.factors

  def _scores(
    self, first: Factors, second: Factors, items: Items
  ) -> Float[np.ndarray, ' item']:
    mesh = self.blocks.mesh
    if self.rule.inner:
      products = tiles.inner_products(first, second, mesh)
      return np.asarray(products)[items.a, items.b] * self.scale(items)
    where = (self.blocks.n, self.seed, mesh)
    if self.rule.nuclear:
      complete = [self.blocks.complete(i) for i in (self.rows, self.columns)]
      both = complete[0][items.a] & complete[1][items.b]
      cosines = overlap.mean_cosines(first, second, items, both, *where)
      return cosines * self.scale(items)
    if self.rule.components:
      most = tiles.padded(int(max(items.k_a.max(), items.k_b.max())))
      first, second = (tiles.narrowed(x, most) for x in (first, second))
    return tiles.score_items(self.rule.score, first, second, items, *where)

  def _permuted_products(
    self, count: int
  ) -> Iterator[Float[np.ndarray, 'some cell']]:
    first, second = self._factors()
    some = max(1, _NULL_BYTES // (4 * len(first.k) * len(second.k)))
    for start in range(0, count, some):
      maps = tiles.permuted_products(
        self.rule,
        first,
        second,
        np.arange(start, min(start + some, count), dtype=np.int32),
        tiles.valid_rows(self.blocks.n),
        np.int32(self.seed),
        self.blocks.mesh,
      )
      maps = np.asarray(jax.device_get(maps))
      yield maps[:, self.items.a, self.items.b] * self.scale(self.items)
