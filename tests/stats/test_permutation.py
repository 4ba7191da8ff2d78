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


def numbered(count, seed=0, size=33):
  draw = jax.vmap(permutation.numbered_order, in_axes=(None, 0, None))
  return np.asarray(
    draw(jnp.int32(seed), jnp.arange(count), jnp.arange(40) < size)
  )


def test_an_order_depends_on_its_number_and_the_seed():
  first, again, other = numbered(50), numbered(50), numbered(50, seed=1)
  np.testing.assert_array_equal(first, again)
  assert len(np.unique(np.concatenate([first, other]), axis=0)) == 100


def test_numbered_orders_have_the_moments_of_all_orders():
  rows = np.arange(33.0)
  found = rows[numbered(400)[:, :33]] @ rows
  mean, spread = rows.sum() ** 2 / 33, np.var(rows) * 33 / np.sqrt(32)
  assert abs(np.mean(found) - mean) < 4 * spread / np.sqrt(400)
  assert np.std(found) == pytest.approx(spread, rel=0.15)


def test_a_negative_number_leaves_all_in_place():
  valid = jnp.arange(40) < 33
  order = permutation.numbered_order(jnp.int32(0), jnp.int32(-1), valid)
  np.testing.assert_array_equal(order, np.arange(40))


def test_calibrate_puts_chance_at_zero_and_the_most_at_one():
  floor = np.array([0.2, 0.2, 0.2, 1.0])
  value = np.array([0.2, 1.0, 0.0, 1.0])
  found = permutation.calibrate(value, floor)
  np.testing.assert_allclose(found, [0, 1, -0.25, np.nan])
