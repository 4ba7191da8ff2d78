"""Both forms in which products are put where query and key have them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ports import positions


@pytest.mark.parametrize('time', [1, 7, 90])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_each_pair_has_the_product_of_its_clipped_distance(time, dtype):
  left, columns = 20, 29
  rng = np.random.default_rng(0)
  with jax.enable_x64(dtype == 'float64'):
    products = jnp.asarray(rng.standard_normal((2, 3, time, columns)), dtype)
    step = np.arange(time)
    column = np.clip(step[None] - step[:, None] + left, 0, columns - 1)
    wanted = np.asarray(products)[:, :, step[:, None], column]
    for form in (positions.picked_by_index, positions.picked_by_product):
      np.testing.assert_array_equal(form(products, column), wanted)
    np.testing.assert_array_equal(positions.clipped(products, left), wanted)
