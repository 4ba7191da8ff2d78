"""Many cells at once: error rates over maps, and power."""

import numpy as np

from jaxrep.stats import multiplicity


def unit_grams(x):
  x = x - x.mean(axis=1, keepdims=True)
  gram = x @ x.transpose(0, 2, 1)
  return gram / np.linalg.norm(gram, axis=(1, 2), keepdims=True)


def layer_map(rng, related=False, layers=5, n=30, draws=99):
  """A layer x layer map of CKA, its random pairings and their moments.

  The layers of a side resemble one another, the sides only in one cell.
  """
  sides = []
  for _ in range(2):
    shared = rng.normal(size=(1, n, 6))
    sides.append(shared + 0.5 * rng.normal(size=(layers, n, 6)))
  if related:
    sides[1][0, :, :3] = sides[0][0, :, :3]
  a, b = map(unit_grams, sides)
  flat = a.reshape(layers, -1)
  orders = [np.arange(n)] + [rng.permutation(n) for _ in range(draws)]
  maps = np.stack(
    [flat @ b[:, o][:, :, o].reshape(layers, -1).T for o in orders]
  )
  return maps[0], maps[1:], maps[1:].mean(axis=0), maps[1:].std(axis=0)


def test_unrelated_maps_have_an_error_in_at_most_one_of_twenty():
  rng = np.random.default_rng(0)
  count = 400
  errors = np.mean(
    [
      multiplicity.maximum_statistic(*layer_map(rng)).min() <= 0.05
      for _ in range(count)
    ]
  )
  assert errors < 0.05 + 3 * np.sqrt(0.05 * 0.95 / count)
  assert errors > 0.01  # it does use what it may


def test_one_related_cell_is_found_and_the_others_are_not():
  rng = np.random.default_rng(1)
  p = np.array(
    [
      multiplicity.maximum_statistic(*layer_map(rng, related=True))
      for _ in range(40)
    ]
  )
  assert np.mean(p[:, 0, 0] <= 0.05) > 0.9
  assert np.mean(p[:, 1:, 1:].min(axis=(1, 2)) <= 0.05) < 0.2


def test_adjusted_p_counts_the_largest_cell_of_each_draw():
  null = np.array([[0.0, 3.0], [1.0, -1.0], [2.5, 0.0]])
  mean, sd = np.array([0.0, 1.0]), np.array([1.0, 2.0])
  # Standardised: largest 1, 1, 2.5.
  found = multiplicity.maximum_statistic(np.array([1.0, 5.0]), null, mean, sd)
  np.testing.assert_allclose(found, [4 / 4, 2 / 4])
  found = multiplicity.maximum_statistic(np.array([3.0, 1.0]), null, mean, sd)
  np.testing.assert_allclose(found, [1 / 4, 4 / 4])


def test_cells_without_value_or_spread_take_no_part():
  rng = np.random.default_rng(2)
  observed, null = rng.normal(size=4), rng.normal(size=(50, 4))
  mean, sd = np.zeros(4), np.ones(4)
  wide = [np.r_[observed, np.nan, 9.0], np.c_[null, null[:, :2] * np.nan]]
  wide[1][:, 5] = 9.0
  found = multiplicity.maximum_statistic(
    *wide, np.r_[mean, 0, 9], np.r_[sd, 1, 0]
  )
  alone = multiplicity.maximum_statistic(observed, null, mean, sd)
  np.testing.assert_allclose(found, [*alone, np.nan, 1])


def by_definition(p):
  """Smallest rate at which the step-up procedure rejects each cell."""
  known = p[~np.isnan(p)]
  q = np.full(p.shape, np.nan)
  for i, own in enumerate(p):
    if not np.isnan(own):
      rates = [
        len(known) * other / np.sum(known <= other)
        for other in known
        if other >= own
      ]
      q[i] = min([1, *rates])
  return q


def test_benjamini_hochberg_is_the_procedure_s_smallest_rate():
  rng = np.random.default_rng(3)
  for size in (1, 2, 7, 40):
    p = np.round(rng.beta(0.5, 2, size), 2)  # with ties
    np.testing.assert_allclose(
      multiplicity.benjamini_hochberg(p), by_definition(p)
    )
  p[[3, 17, 39]] = np.nan
  np.testing.assert_allclose(
    multiplicity.benjamini_hochberg(p), by_definition(p)
  )
  square = multiplicity.benjamini_hochberg(p.reshape(8, 5))
  np.testing.assert_allclose(square, by_definition(p).reshape(8, 5))
  assert np.isnan(multiplicity.benjamini_hochberg(np.full(3, np.nan))).all()


def test_known_rates():
  found = multiplicity.benjamini_hochberg(np.array([0.04, 0.01, 0.03, 0.8]))
  np.testing.assert_allclose(found, [0.16 / 3, 0.04, 0.16 / 3, 0.8])
