"""Floors of canonical correlation: law, unevenness, what few draws add."""

import itertools

import numpy as np
import pytest

from jaxrep.stats import wachter

KEPT = (4, 10, 25, 50, 90)
N = 120


def basis(rng, kind, k, n=N):
  x = rng.normal(size=(n, k))
  if kind == 'log-normal':
    x *= rng.lognormal(size=(n, 1))
  if kind == 't3':
    x *= np.sqrt(3 / rng.chisquare(3, (n, 1)))
  return np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[0]


def random_pairings(rng, u, v, count):
  orders = rng.permuted(np.tile(np.arange(len(u)), (count, 1)), axis=1)
  s = np.linalg.svd(np.matmul(u.T, v[orders]), compute_uv=False)
  return s.mean(axis=-1)


def unevenness(bases):
  parts = [
    wachter.unevenness(np.square(u).sum(axis=1), u.shape[1]) for u in bases
  ]
  return wachter.Uneven(*(np.array(part) for part in zip(*parts, strict=True)))


def uneven(spread, reach=0.3, size=1):
  return wachter.Uneven(np.full(size, spread), np.full(size, reach))


def grid(rows, columns):
  """Bases of each cell of a map, and what is known of the cell."""
  cells = [(u, v) for u in rows for v in columns]
  k = np.array([[u.shape[1], v.shape[1]] for u, v in cells])
  sides = (unevenness(side) for side in zip(*cells, strict=True))
  return cells, wachter.chance(*k.T, N, *sides)


def test_half_and_half_is_the_arcsine_law():
  value = wachter.mean_cosine(np.array([200]), 200, 401)
  assert value[0] == pytest.approx(2 / np.pi, rel=1e-9)


def test_few_dimensions_are_the_quarter_circle_law():
  value = wachter.mean_cosine(np.array([3]), 3, 3_000_001)
  assert value[0] == pytest.approx(8e-3 / (3 * np.pi), rel=1e-5)


def test_a_subspace_and_its_complement_have_the_same_angles():
  n, space = 301, 300
  a, b = np.array([180, 250, 299, 160]), np.array([200, 51, 140, 160])
  shared = (a + b - space) + np.maximum(space - np.maximum(a, b), 0) * (
    wachter.mean_cosine(space - a, space - b, n)
  )
  found = np.minimum(a, b) * wachter.mean_cosine(a, b, n)
  np.testing.assert_allclose(found, shared, rtol=1e-6)


def test_the_whole_space_holds_every_subspace():
  whole = wachter.chance(
    np.array([7, 99]), np.array([99, 99]), 100, *[uneven(0.0, size=2)] * 2
  )
  np.testing.assert_allclose(whole.law, 1, rtol=1e-12)
  assert not whole.shift.any()
  assert not whole.sd.any()


@pytest.mark.parametrize(
  ('k_a', 'k_b'), [(4, 4), (2, 60), (40, 40), (60, 59), (90, 25), (90, 110)]
)
def test_law_and_sd_of_random_subspaces(k_a, k_b):
  rng = np.random.default_rng(k_a)
  u = basis(rng, 'even', k_a)
  values = np.array(
    [
      np.linalg.svd(u.T @ basis(rng, 'even', k_b), compute_uv=False).mean()
      for _ in range(300)
    ]
  )
  known = wachter.chance(np.array([k_a]), k_b, N, *[uneven(0.0)] * 2)
  error = values.std() / np.sqrt(300)
  mean = known.law[0] + known.edge[0]
  assert abs(values.mean() - mean) < 0.1 * values.std() + 3 * error
  assert known.sd[0] == pytest.approx(values.std(), rel=0.2)


def test_law_is_right_to_three_digits_at_the_sizes_of_use():
  rng = np.random.default_rng(0)
  for k in (100, 250):
    v = [basis(rng, 'even', k, 400) for _ in range(8)]
    found = np.mean(
      [
        np.linalg.svd(a.T @ b, compute_uv=False).mean()
        for a, b in itertools.pairwise(v)
      ]
    )
    assert wachter.mean_cosine(np.array([k]), k, 400)[0] == pytest.approx(
      found, abs=2e-3
    )


def test_unevenness_runs_from_equal_leverages_to_a_few_sentences():
  few, equal = np.repeat([1.0, 0.0], [5, 35]), np.full(40, 5 / 40)
  found = wachter.unevenness(np.stack([few, equal]), np.array([5, 5]))
  # 5 rows 0.875 away and 35 rows 0.125: squares 4.375, cubes 3.418.
  np.testing.assert_allclose(found.spread, [4.375 / 5 * 39 / 34, 0])
  np.testing.assert_allclose(found.reach, [3.41796875 / 4.375, 0])
  whole = wachter.unevenness(np.full(40, 39 / 40), 39)
  assert whole.spread == 0


@pytest.mark.parametrize('kind', ['even', 'log-normal', 't3', 'mixed'])
def test_pooled_floor_is_within_a_hundredth_of_a_long_monte_carlo(kind):
  rng = np.random.default_rng(5)
  kinds = ['even', 'log-normal', 't3'] if kind == 'mixed' else [kind]
  layers = [(name, k) for name in kinds for k in KEPT]
  layers = layers[:12] if kind == 'mixed' else layers
  rows, columns = ([basis(rng, *layer) for layer in layers] for _ in range(2))
  cells, known = grid(rows, columns)
  which = rng.integers(0, len(cells), 96)
  draws = [random_pairings(rng, *cells[i], 1)[0] for i in which]
  drawn = wachter.Chance(*(part[which] for part in known))
  floor = wachter.pooled(np.array(draws), drawn, known)
  counts = [4000 if min(u.shape[1], v.shape[1]) < 20 else 500 for u, v in cells]
  long = [
    random_pairings(rng, u, v, count)
    for (u, v), count in zip(cells, counts, strict=True)
  ]
  means = np.array([values.mean() for values in long])
  misses = floor.mean - means
  assert np.abs(misses).max() < 0.007
  assert np.sqrt(np.mean(misses**2)) < 0.003
  spread = floor.sd / [values.std() for values in long]
  assert np.median(spread) == pytest.approx(1, abs=0.2)
  assert np.all((spread > 0.7) & (spread < 1.6))
  # The law alone misses by more.
  assert np.abs(known.law - means).max() > 2 * np.abs(misses).max() or (
    kind == 'even'
  )


def test_draws_of_another_slope_move_the_floor_to_it():
  known = wachter.chance(
    np.full(400, 40), np.full(400, 50), N, *[uneven(0.4, size=400)] * 2
  )
  rng = np.random.default_rng(1)
  noise = 0.5 * known.sd * rng.normal(size=400)
  floor = wachter.pooled(
    known.law + known.edge + 2 * known.shift + noise, known, known
  )
  np.testing.assert_allclose(floor.mean - known.law, 2 * known.shift, rtol=0.15)
  np.testing.assert_allclose(floor.sd, known.sd / 2, rtol=0.1)
  assert floor.dof == 402
  assert np.all(floor.error < known.sd / 10)


def test_without_draws_the_floor_is_what_is_known():
  known = wachter.chance(np.array([40]), 50, N, *[uneven(0.4)] * 2)
  none = wachter.Chance(*(part[:0] for part in known))
  floor = wachter.pooled(np.zeros(0), none, known)
  np.testing.assert_allclose(floor.mean, known.law + known.edge + known.shift)
  np.testing.assert_allclose(floor.sd, known.sd)
  assert floor.error[0] > 0.3 * -known.shift[0]


def test_a_cell_that_no_pairing_changes_teaches_nothing():
  k = np.array([119, 40])
  known = wachter.chance(k, 50, N, *[uneven(0.3, size=2)] * 2)
  floor = wachter.pooled(np.array([1.0, known.law[1]]), known, known)
  alone = wachter.Chance(*(part[1:] for part in known))
  expected = wachter.pooled(known.law[1:], alone, alone)
  assert (floor.mean[0], floor.sd[0], floor.error[0]) == (1, 0, 0)
  assert floor.mean[1] == expected.mean[0]


def test_cells_whose_own_draws_are_elsewhere_are_named():
  flat = np.full(4, 0.5)
  floor = wachter.Floor(flat, flat * 0.002, flat * 0.04, 50)
  means = np.array([0.5 + 0.029, 0.5 + 0.035, 0.5 - 0.035, np.nan])
  found = wachter.disagrees(means, np.array([4, 4, 4, 0]), floor)
  assert found.tolist() == [False, True, True, False]
