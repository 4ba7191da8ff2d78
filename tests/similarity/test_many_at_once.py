"""What a GPU or TPU does: many are factored and scored at once, by vmap.

A CPU takes one after the other, so elsewhere in the tests nothing is batched.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity import all_pairs, linalg, tiles
from jaxrep.similarity.measure import Calibration

# One of those that share their factors and scores.
DIFFERENT = [
  *('svcca', 'svcca_anatome', 'svcca_heldout', 'cca', 'pwcca', 'procrustes'),
  *('cka_debiased', 'rsa', 'mutual_knn', 'retrieval_csls_r1'),
]
NUMBERS = ('value', 'floor', 'floor_sd', 'calibrated', 'ci_low', 'ci_high')


def representations():
  rng = np.random.default_rng(0)
  shared = rng.standard_normal((64, 6))
  widths = {'a': 12, 'b': 80, 'c': 40}
  return {
    name: (
      shared @ rng.standard_normal((6, width))
      + rng.standard_normal((64, width))
    ).astype(np.float32)
    for name, width in widths.items()
  }


@pytest.mark.parametrize('measure', DIFFERENT)
def test_scores_are_those_of_one_after_the_other(measure, monkeypatch):
  calibration = Calibration(permutations=8)
  expected = all_pairs(representations(), measure, calibration)
  monkeypatch.setattr(tiles, '_each', lambda function, mesh: jax.vmap(function))
  jax.clear_caches()
  found = all_pairs(representations(), measure, calibration)
  for name in NUMBERS:
    np.testing.assert_allclose(
      getattr(found, name), getattr(expected, name), atol=2e-5, err_msg=name
    )
  assert (found.k == expected.k).all()
  jax.clear_caches()


@pytest.mark.parametrize('platform', ['cuda', 'tpu'])
@pytest.mark.parametrize(
  'function', [linalg.left_singular, linalg.nuclear_norm]
)
def test_they_are_lowered_for(platform, function):
  x = jax.ShapeDtypeStruct((3, 64, 40), jnp.float32)
  jax.jit(jax.vmap(function)).trace(x).lower(lowering_platforms=(platform,))


@pytest.mark.parametrize('width', [16, 48, 200])
def test_bases_of_a_batch_are_those_of_each(width):
  x = np.random.default_rng(1).standard_normal((2, 3, 64, width))
  x = x.astype(np.float32)
  u, s = jax.vmap(jax.vmap(linalg.left_singular))(jnp.asarray(x))
  for i in np.ndindex(2, 3):
    one_u, one_s = linalg.left_singular(jnp.asarray(x[i]))
    np.testing.assert_allclose(s[i], one_s, rtol=1e-5)
    # The signs of singular vectors are anybody's.
    np.testing.assert_allclose(abs(u[i]), abs(one_u), atol=1e-4)
