"""Mean cosines of many pairs of subspaces, by whichever problem is smaller."""

import numpy as np
import pytest

from jaxrep.similarity import overlap, tiles
from jaxrep.similarity.measure import Factors
from jaxrep.similarity.tiles import AS_THEY_ARE, Items

N = 48


def bases(count, seed=0):
  rng = np.random.default_rng(seed)
  rows = [np.linalg.qr(rng.normal(size=(N, N)))[0] for _ in range(count)]
  rows = np.stack(rows).astype(np.float32)
  return Factors(rows, np.full(count, N), np.ones(count, bool))


def items(k_a, k_b, order=AS_THEY_ARE):
  k_a, k_b = np.atleast_1d(k_a), np.atleast_1d(k_b)
  a = np.arange(k_a.size) % 3
  return Items(a, (a + 1) % 3, k_a, k_b, np.full(k_a.size, order))


def truth(sides, some, order=None):
  found = []
  for a, b, k_a, k_b, _ in zip(*some, strict=True):
    u = sides.rows[a][:, :k_a].astype(np.float64)
    v = sides.rows[b][:, :k_b].astype(np.float64)
    v = v if order is None else v[order]
    cosines = np.linalg.svd(u.T @ v, compute_uv=False)
    found.append(cosines.sum() / min(k_a, k_b))
  return found


def cosines(sides, some, complete=True):
  complete = np.full(len(some.a), complete)
  return overlap.mean_cosines(sides, sides, some, complete, N, 0, None)


@pytest.mark.parametrize('order', [AS_THEY_ARE, 3])
def test_equals_the_svd_at_every_pair_of_dimensions(order):
  sides = bases(3)
  k_a, k_b = np.indices((N, N)).reshape(2, -1) + 1
  some = items(k_a, k_b, order)
  moved = None if order == AS_THEY_ARE else tiles.order(N, 0, order)
  for complete in (True, False):
    found = cosines(sides, some, complete)
    np.testing.assert_allclose(found, truth(sides, some, moved), atol=2e-6)


def test_complements_are_used_where_they_are_smaller(monkeypatch):
  sizes, score = [], tiles.score_items

  def watch(function, first, *rest):
    sizes.append(first.rows.shape[2])
    return score(function, first, *rest)

  monkeypatch.setattr(tiles, 'score_items', watch)
  cosines(bases(3), items(40, 44))
  assert sizes == [8]
  cosines(bases(3), items(40, 44), complete=False)
  assert sizes == [8, 48]


def test_pairs_of_few_sizes_share_a_kernel():
  sizes = np.repeat([10, 20, 40], [3, 100, 5])
  kernels = list(overlap._kernels(np.zeros(108, bool), sizes))
  assert [(len(mine), width) for mine, width, _ in kernels] == [
    *((103, 24), (5, 40))
  ]


def test_shared_directions_count_as_one():
  sides = bases(1)
  same = Items(
    *(np.zeros(1, int),) * 2, np.array([30]), np.array([45]), items(1, 1).order
  )
  found = overlap.mean_cosines(sides, sides, same, np.ones(1, bool), N, 0, None)
  np.testing.assert_allclose(found, 1, atol=1e-6)
