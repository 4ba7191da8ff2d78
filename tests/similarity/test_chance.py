"""Floors, p-values and family-wise p of whole maps, against simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from jaxrep import similarity
from jaxrep.similarity import Calibration, Parameters, pairs, tiles
from jaxrep.similarity.blocks import Blocks
from jaxrep.similarity.cells import Cells
from jaxrep.similarity.tiles import AS_THEY_ARE, Items
from tests.similarity import oracle

N = 96
ROWS = {
  'even': lambda rng: np.ones(N),
  'log-normal': lambda rng: np.exp(rng.normal(size=N)),
  't3': lambda rng: 1 / np.sqrt(rng.chisquare(3, size=N) / 3),
}


def unrelated(rng, rows, widths=(64, 64)):
  return {
    str(i): ROWS[rows](rng)[:, None] * rng.normal(size=(N, width))
    for i, width in enumerate(widths)
  }


def long_simulation(x, y, k, draws=2000):
  u, v = (
    np.linalg.svd(s - s.mean(axis=0), full_matrices=False)[0][:, :k]
    for s in (x, y)
  )
  rng = np.random.default_rng(1)
  return [
    np.linalg.svd(u.T @ v[rng.permutation(N)], compute_uv=False).mean()
    for _ in range(draws)
  ]


def test_a_scaled_score_has_a_scaled_floor():
  sides = {str(p): oracle.related(96, 40, p)[1] for p in (8, 24, 40)}
  plain = similarity.all_pairs(sides, 'svcca')
  found = similarity.all_pairs(sides, 'svcca_netrep')
  kept = np.diagonal(plain.k)
  scale = np.sqrt(plain.k / np.maximum.outer(kept, kept))
  assert scale.min() < 0.7
  for name in ('value', 'floor', 'floor_sd'):
    np.testing.assert_allclose(
      getattr(found, name), getattr(plain, name) * scale, rtol=1e-5
    )
  # Differences of rounded numbers, divided by small spreads.
  for name in ('z', 'p'):
    np.testing.assert_allclose(
      getattr(found, name), getattr(plain, name), rtol=1e-3
    )


@pytest.mark.parametrize('rows', ROWS)
@pytest.mark.parametrize('k', [5, 40, 70])
def test_floors_of_svcca_are_within_a_hundredth(rows, k):
  rng = np.random.default_rng(0)
  sides = unrelated(rng, rows, (80, 80, 80, 80))
  found = [
    similarity.all_pairs(sides, 'svcca', Calibration(seed=seed), k=k)
    for seed in range(4)
  ]
  for i, j in ((0, 1), (2, 3)):
    null = long_simulation(sides[str(i)], sides[str(j)], k)
    # What a floor of SVCCA is asked to be right to; its spread comes from
    # some 50 draws and a law that leaves out higher moments.
    off = [one.floor[i, j] - np.mean(null) for one in found]
    assert np.sqrt(np.mean(np.square(off))) < 0.01
    for one in found:
      assert one.floor_sd[i, j] == pytest.approx(np.std(null), rel=0.5)


@pytest.mark.parametrize('rows', ROWS)
@pytest.mark.parametrize('name', ['cka', 'cka_debiased', 'mean_squared_cca'])
def test_exact_floors_agree_with_random_pairings(rows, name):
  rng = np.random.default_rng(0)
  x, y = unrelated(rng, rows).values()
  exact = similarity.compare(x, y, name)
  orders = [rng.permutation(N) for _ in range(200)]
  sides = {'x': x} | {str(i): y[order] for i, order in enumerate(orders)}
  pairs = np.array([[0, i + 1] for i in range(200)])
  null = similarity.score_pairs(sides, pairs, name).value
  error = exact.floor_sd / np.sqrt(200)
  assert abs(null.mean() - exact.floor) < 4 * error + 1e-6
  # An sd over 200 pairings has a standard error of 5 %, more in heavy tails.
  assert null.std() == pytest.approx(exact.floor_sd, rel=0.2)


@pytest.mark.parametrize('name', ['svcca', 'cka', 'cka_debiased'])
def test_p_is_uniform_for_unrelated_representations(name):
  rng = np.random.default_rng(0)
  sides = unrelated(rng, 'even', (48,) * 60)
  every = itertools.combinations(range(60), 2)
  pairs = np.array(list(itertools.islice(every, 0, 1770, 9)))
  chosen = {} if name != 'svcca' else {'k': 20}
  found = similarity.score_pairs(
    sides, pairs, name, similarity.Parameters(**chosen)
  )
  assert stats.kstest(found.p, 'uniform').pvalue > 0.01


@pytest.mark.parametrize('k', [1, 2, 3])
def test_p_of_few_components_is_as_rare_as_it_says(k):
  """A mean of few cosines has a longer upper tail than Student's t."""
  rng = np.random.default_rng(0)
  sides = unrelated(rng, 'even', (48,) * 160)
  pairs = np.array(list(itertools.combinations(range(160), 2)))
  found = similarity.score_pairs(sides, pairs, 'svcca', Parameters(k=k))
  for level in (0.05, 0.01, 0.001):
    expected = level * len(pairs)
    count = np.sum(found.p <= level)
    # Pairs that share a side vary together: twice their own spread.
    assert abs(count - expected) < 4 * 2 * np.sqrt(expected), (level, count)


def test_counted_p_is_uniform_for_heavy_tailed_rows():
  rng = np.random.default_rng(0)
  sides = unrelated(rng, 'log-normal', (48,) * 60)
  pairs = np.arange(60).reshape(30, 2)
  found = similarity.score_pairs(
    sides, pairs, 'cka_debiased', calibration=Calibration(joint=199)
  )
  assert stats.kstest(found.p, 'uniform').pvalue > 0.01
  assert found.p.min() >= 1 / 200


@pytest.mark.parametrize('name', ['cka', 'svcca', 'procrustes'])
def test_p_of_a_map_allows_for_its_largest_cell(name):
  x, y = oracle.related(N, 30, 30)
  rng = np.random.default_rng(0)
  sides = {'x': x, 'y': y} | unrelated(rng, 'even', (30, 30))
  chosen = {'k': 5} if name == 'svcca' else {}
  found = similarity.all_pairs(sides, name, Calibration(joint=39), **chosen)
  assert found.p_map[0, 1] == pytest.approx(1 / 40)
  off = found.p_map[2, 3]
  assert off > 0.05
  assert np.all(found.p_map >= found.p - 1e-9)


@pytest.mark.parametrize('name', ['procrustes', 'retrieval_r1', 'cka'])
def test_few_pairings_find_nothing_in_maps_of_noise(name):
  """Of 80 maps in which there is nothing, a twentieth is found: 4, or to 10."""
  rng, count, layers = np.random.default_rng(0), 80, 4
  sides = {
    f'{number}/{side}/{layer}': rng.normal(size=(32, 6)).astype(np.float32)
    for number in range(count)
    for side in 'ab'
    for layer in range(layers)
  }
  pairs = np.array(
    [
      (8 * number + a, 8 * number + layers + b)
      for number in range(count)
      for a in range(layers)
      for b in range(layers)
    ]
  )
  found = similarity.score_pairs(
    *(sides, pairs, name, None, Calibration(joint=19)),
    maps=np.repeat(np.arange(count), layers**2).tolist(),
  )
  lowest = found.p_map.reshape(count, -1).min(axis=1)
  assert np.sum(lowest <= 0.05) <= 10


def test_cells_that_are_alike_are_paired_anew_alike():
  """Whatever the layers of a side are called."""
  rng = np.random.default_rng(0)
  text, speech = rng.normal(size=(2, 40, 6)).astype(np.float32)
  sides = {f'eng/text/{i}': text for i in range(5)}
  sides |= {f'eng/speech/{i}': speech for i in range(5)}
  pairs = np.array([(a, 5 + b) for a in range(5) for b in range(5)])
  chosen = Calibration(joint=99)
  found = similarity.score_pairs(sides, pairs, 'procrustes', None, chosen)
  assert len(set(found.p.tolist())) == 1
  np.testing.assert_allclose(found.p_map, found.p)


def test_each_map_allows_for_its_own_cells_alone():
  rng = np.random.default_rng(0)
  sides = unrelated(rng, 'even', (30,) * 8)
  pairs = np.stack(np.triu_indices(8, 1), axis=1)
  chosen = Calibration(joint=99)
  together = similarity.score_pairs(sides, pairs, 'cka', None, chosen)
  apart = similarity.score_pairs(
    sides, pairs, 'cka', None, chosen, maps=list(range(len(pairs)))
  )
  assert np.all(together.p_map >= apart.p_map)
  assert together.p_map.min() > apart.p_map.min()
  np.testing.assert_allclose(apart.p_map, apart.p, atol=1e-9)


def test_held_out_scores_are_judged_by_other_factors():
  x, y = oracle.related(N, 30, 30)
  noise = np.random.default_rng(0).normal(size=(N, 30))
  sides = {'x': x, 'y': y, 'noise': noise}
  found = similarity.all_pairs(
    sides, 'svcca_heldout', Calibration(permutations=19), k=4
  )
  assert found.floor[0, 1] == 0
  assert found.p[0, 1] == pytest.approx(1 / 20)
  assert found.p[0, 2] > 0.05
  assert 0 < found.floor_sd[0, 2] < 0.2


@pytest.mark.parametrize(
  'name', ['cka', 'rsa', 'mutual_knn', 'cosine_gap', 'mean_squared_cca']
)
def test_all_cells_share_a_random_pairing(name):
  # Scored one by one with the sentences in the same order.
  x, y = oracle.related(N, 30, 30)
  sides = {'x': x, 'y': y}
  rule = pairs.measure_named(name)
  made = Blocks(rule, rule.arguments(Parameters()), sides, None)
  k = made.take(0).k
  a, b = np.array([0, 0, 1]), np.array([0, 1, 0])
  items = Items(a, b, k[a], k[b], np.full(3, AS_THEY_ARE))
  (drawn,) = Cells(made, 0, 0, items, 0).nulls(2)
  for number in range(2):
    order = tiles.order(N, 0, number)
    moved = {'x': x[order], 'y': y[order]}
    for cell, (i, j) in enumerate(zip('xxy', 'xyx', strict=True)):
      alone = similarity.score_pairs(
        {'fixed': sides[i], 'moved': moved[j]}, np.array([[0, 1]]), name
      )
      assert drawn[number, cell] == pytest.approx(alone.value[0], abs=2e-6)


def test_few_pairings_give_no_p():
  x, y = oracle.related(N, 30, 30)
  few, enough = (
    similarity.compare(x, y, 'procrustes', Calibration(permutations=count))
    for count in (18, 19)
  )
  assert few.p is None
  assert enough.p == pytest.approx(1 / 20)
