"""Intervals against closed forms and brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.stats import intervals
from jaxrep.types import InputError

KEY = jax.random.key(0)


def array(*values):
  return np.array(values, np.float64)


def test_interval_has_students_quantiles():
  found = intervals.interval(array(1, 1), array(2, 2), array(10, np.inf))
  # 2.228139 and 1.959964 are tabulated.
  np.testing.assert_allclose(found.high - 1, array(4.456278, 3.919928), 1e-6)
  np.testing.assert_allclose(1 - found.low, array(4.456278, 3.919928), 1e-6)
  narrow = intervals.interval(array(0), array(1), 10.0, 0.9)
  np.testing.assert_allclose(narrow.high, 1.812461, rtol=1e-6)


@pytest.mark.parametrize('level', [0.0, 1.0, 95.0])
def test_a_level_that_is_no_share_is_refused(level):
  with pytest.raises(InputError, match='level'):
    intervals.interval(array(0), array(1), 10.0, level)


def test_ends_above_chance_are_as_far_as_their_own_error_allows():
  value, error, chance, alone = 0.3, 0.05, 0.1, 0.02
  low, high = intervals.interval_above_chance(
    array(value), array(error), 20.0, array(chance), array(alone)
  )
  slope = (error**2 - alone**2) / (value - chance)
  for end in (low[0], high[0]):
    own = np.sqrt(alone**2 + slope * (end - chance))
    np.testing.assert_allclose(abs(value - end) / own, 2.085963, rtol=1e-6)
  assert low < value - 2.085963 * alone
  assert high - value > value - low


def test_far_above_chance_or_below_it_the_interval_is_the_plain_one():
  value, error = array(0.9, -0.01), array(0.02, 0.02)
  plain = intervals.interval(value, error, 30.0)
  found = intervals.interval_above_chance(
    value, error, 30.0, array(0, 0), array(0.02, 0.01)
  )
  np.testing.assert_allclose(found.low, plain.low, rtol=1e-12)
  np.testing.assert_allclose(found.high, plain.high, rtol=1e-12)


def test_above_chance_nothing_jumps_near_chance():
  value = np.linspace(-0.01, 0.06, 2000)
  cells = np.ones_like(value)
  found = intervals.interval_above_chance(
    value, 0.02 * cells, 50.0, 0 * cells, 0.01 * cells
  )
  at_chance = np.searchsorted(value, 0)
  for end in found:
    assert np.abs(np.diff(end[at_chance:])).max() < 4e-4


def test_contrast_is_a_paired_t_test():
  found = intervals.contrast(
    array(0.5, 0.5), array(0.3, 0.5), array(0.1, 0), 8.0
  )
  np.testing.assert_allclose(found.difference, array(0.2, 0), atol=1e-12)
  np.testing.assert_allclose(found.low[0], 0.2 - 0.2306004, rtol=1e-5)
  # Student's distribution with 8 degrees of freedom, beyond t = 2
  np.testing.assert_allclose(found.p[0], 0.080516, rtol=1e-4)
  assert np.isnan(found.p[1])


def test_each_round_leaves_each_of_three_groups_out_once():
  valid = jnp.arange(45) < 40
  found = np.asarray(intervals.subsets(KEY, valid, 5))
  assert found.shape == (5, 3, 45)
  left_out = ~found[:, :, :40]
  assert np.all(left_out.sum(axis=2) == 40 // 3)
  assert np.all(left_out.sum(axis=1) <= 1)
  assert not found[:, :, 40:].any()
  assert len({subset.tobytes() for subset in found.reshape(15, 45)}) == 15


def test_subsets_keep_clusters_together():
  ids = jnp.asarray(np.random.default_rng(0).permutation(np.arange(45) // 3))
  valid = jnp.arange(45) != 7
  found = np.asarray(intervals.subsets(KEY, valid, 3, ids))
  for subset in found.reshape(9, 45):
    left_out = set(np.asarray(ids)[~subset & np.asarray(valid)])
    kept = set(np.asarray(ids)[subset])
    assert len(left_out) == 15 // 3
    assert not left_out & kept


def test_subsets_do_not_depend_on_padding():
  short = intervals.subsets(KEY, jnp.ones(40, bool), 3)
  long = intervals.subsets(KEY, jnp.arange(64) < 40, 3)
  np.testing.assert_array_equal(long[:, :, :40], short)


def test_error_of_a_mean_of_three_is_the_textbook_one():
  x = np.random.default_rng(0).normal(size=3)
  masks = np.asarray(intervals.subsets(KEY, jnp.ones(3, bool), 4))
  values = (masks * x).sum(axis=2) / masks.sum(axis=2)
  found = intervals.subset_error(values[..., None], 3)
  np.testing.assert_allclose(found, x.std(ddof=1) / np.sqrt(3), rtol=1e-12)


def test_error_of_a_mean_is_right_on_average_over_rounds():
  x = np.random.default_rng(1).exponential(size=47)
  masks = np.asarray(intervals.subsets(KEY, jnp.ones(47, bool), 3000))
  values = (masks * x).sum(axis=2) / masks.sum(axis=2)
  found = intervals.subset_error(values[..., None], 47)
  np.testing.assert_allclose(found, x.std(ddof=1) / np.sqrt(47), rtol=0.02)


def test_what_comes_from_pairs_counts_one_and_a_half_times():
  n, rounds, sets = 48, 4, 4000
  masks = np.asarray(intervals.subsets(KEY, jnp.ones(n, bool), rounds))
  x = np.random.default_rng(2).normal(size=(sets, n))
  sums, squares = masks @ x.T, masks @ (x**2).T
  kept = n - n // 3
  values = (sums**2 - squares) / (kept * (kept - 1))  # mean of x_i x_j
  truth = kept / n * 2 / (kept * (kept - 1))
  found = np.mean(intervals.subset_error(values, n) ** 2)
  # The standard error of a mean over so many sets is 3 %.
  np.testing.assert_allclose(found, 1.5 * truth, rtol=0.08)


def test_too_few_sentences_or_a_wrong_shape_are_refused():
  with pytest.raises(InputError, match='3 sentences'):
    intervals.subset_error(np.zeros((2, 3, 1)), 2)
  with pytest.raises(InputError, match='one for each group'):
    intervals.subset_error(np.zeros((2, 6, 1)), 50)
