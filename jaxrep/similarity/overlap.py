"""Sums of canonical correlations of many pairs of orthonormal bases.

The cosines of the principal angles between two subspaces of R^n sum to a
nuclear norm. The subspaces' complements have the same angles but for those of
0 and 90 degrees, so with dimensions a and b

  ||U_a' U_b||_* = a + b - n + ||W_a' W_b||_*

(Jordan's decomposition of a pair of subspaces), and the smaller of the two
problems is solved. Pairs of similar size share a kernel.
"""

from collections.abc import Iterator

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from jaxrep.similarity import canonical, linalg, tiles
from jaxrep.similarity.measure import Factors
from jaxrep.similarity.tiles import Items

_GRAIN = 8  # widths of kernels are multiples of it
# Pairs that are not worth a kernel of their own, which has to be compiled:
# these are padded to the next width.
_FEW, _SHARE = 64, 1 / 16


def mean_cosines(
  first: Factors,
  second: Factors,
  items: Items,
  complete: Bool[np.ndarray, ' item'],
  n: int,
  seed: int,
  mesh: Mesh | None,
) -> Float[np.ndarray, ' item']:
  """Mean canonical correlation of each item, over min(k_a, k_b).

  Args:
    first: bases of the items' `a`.
    second: bases of the items' `b`.
    items: pairs, how many columns of each count, and the sentences' order.
    complete: where both bases are complete, so that complements are at hand.
    n: sentences.
    seed: of the orders.
    mesh: devices that share the work.
  """
  rows = tiles.padded(n)
  small, large = (
    np.minimum(items.k_a, items.k_b),
    np.maximum(items.k_a, items.k_b),
  )
  turned = complete & (rows - small < large)
  sums = np.empty(len(small))
  for mine, most, complement in _kernels(
    turned, np.where(turned, rows - small, large)
  ):
    sides = [
      side._replace(rows=tiles.columns(side, most, complement), rest=())
      for side in (first, second)
    ]
    part = items.take(mine)
    if complement:
      part = part._replace(k_a=rows - part.k_a, k_b=rows - part.k_b)
    sums[mine] = tiles.score_items(_sum_of_cosines, *sides, part, n, seed, mesh)
  sums += np.where(turned, items.k_a + items.k_b - rows, 0)
  return sums / np.maximum(small, 1)


def _sum_of_cosines(fx: Factors, fy: Factors) -> Float[Array, '']:
  return linalg.nuclear_norm(
    linalg.cross(canonical.kept(fx), canonical.kept(fy))
  )


def _kernels(
  turned: Bool[np.ndarray, ' item'], sizes: Int[np.ndarray, ' item']
) -> Iterator[tuple[Int[np.ndarray, ' some'], int, bool]]:
  """Items, their common width, and whether complements are taken."""
  for complement in (False, True):
    left = np.flatnonzero(turned == complement)
    widths = np.maximum(-(-sizes[left] // _GRAIN), 1) * _GRAIN
    few, waiting = max(_FEW, _SHARE * len(left)), []
    for width in np.unique(widths):
      waiting.append(left[widths == width])
      if width == widths.max() or sum(map(len, waiting)) >= few:
        yield np.sort(np.concatenate(waiting)), int(width), complement
        waiting = []
