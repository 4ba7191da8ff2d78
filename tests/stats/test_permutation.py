"""Random pairings: reproducible, uniform, blind to padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.stats import permutation


def orders(count, valid, seed=0):
  keys = jax.random.split(jax.random.key(seed), count)
  draw = jax.vmap(permutation.random_order, in_axes=(0, None))
  return np.asarray(draw(keys, jnp.asarray(valid)))


def test_valid_rows_are_permuted_and_the_others_follow():
  valid = np.arange(30) < 23
  for order in orders(20, valid):
    assert sorted(order[:23]) == list(range(23))
    assert list(order[23:]) == list(range(23, 30))


def test_padding_changes_no_permutation():
  short, long = orders(9, np.ones(50, bool)), orders(9, np.arange(96) < 50)
  np.testing.assert_array_equal(short, long[:, :50])


def test_every_order_is_equally_likely():
  found = orders(24_000, np.arange(6) < 4)[:, :4]
  _, counts = np.unique(found, axis=0, return_counts=True)
  assert len(counts) == 24
  # Chi-square with 23 degrees of freedom stays below 49.7 in 999 of 1000.
  assert np.sum((counts - 1000) ** 2 / 1000) < 49.7


def test_a_pair_s_key_depends_on_both_members_and_the_seed():
  def draw(seed, first, second):
    key = permutation.pair_key(
      jax.random.key(seed), jnp.uint32(first), jnp.uint32(second)
    )
    return int(jax.random.bits(key))

  cases = [(0, 1, 2), (0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 1, 2)]
  assert len({draw(*case) for case in cases}) == len(cases)
  assert draw(0, 1, 2**32 - 1) == draw(0, 1, 2**32 - 1)


def test_null_values_are_the_statistic_at_different_orders():
  x = jnp.arange(40.0)
  valid = jnp.arange(40) < 33
  found = permutation.null_values(
    lambda order: jnp.sum(x[order] * x * valid),
    *(jax.random.key(0), 400, valid),
  )
  assert len(np.unique(found)) > 300
  rows = np.arange(33.0)
  mean = rows.sum() ** 2 / 33
  spread = np.var(rows) * 33 / np.sqrt(32)
  assert abs(np.mean(found) - mean) < 4 * spread / np.sqrt(400)
  assert np.std(found) == pytest.approx(spread, rel=0.15)


def test_calibrate_puts_chance_at_zero_and_the_most_at_one():
  floor = np.array([0.2, 0.2, 0.2, 1.0])
  value = np.array([0.2, 1.0, 0.0, 1.0])
  found = permutation.calibrate(value, floor)
  np.testing.assert_allclose(found, [0, 1, -0.25, np.nan])
