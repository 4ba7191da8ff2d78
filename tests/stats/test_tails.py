"""p-values: known curves, and uniform where nothing is similar."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrep.stats import moments, tails

N = 64
SETS = 600


def test_upper_tail_is_that_of_a_gamma_and_of_its_mirror():
  z = np.linspace(-6, 8, 57)
  for skewness in (0.02, 0.5, 2.0, 3.5):
    curve = stats.pearson3(skewness)
    up = tails.upper_tail(3 + 2 * z, 3.0, 2.0, skewness)
    np.testing.assert_allclose(up, curve.sf(z), rtol=1e-8, atol=1e-300)
    down = tails.upper_tail(3 + 2 * z, 3.0, 2.0, -skewness)
    np.testing.assert_allclose(down, curve.cdf(-z), rtol=1e-7, atol=1e-300)


def test_upper_tail_without_skewness_is_the_normal_one():
  z = np.linspace(-5, 5, 41)
  normal = stats.norm.sf(z)
  np.testing.assert_allclose(tails.upper_tail(z, 0.0, 1.0, 0.0), normal)
  for skewness in (-1.1e-3, -9e-4, 9e-4, 1.1e-3):
    found = tails.upper_tail(z, 0.0, 1.0, skewness)
    np.testing.assert_allclose(found, normal, rtol=0.025, atol=1e-8)


def test_where_there_is_no_spread_or_no_value():
  value = np.array([0.2, 0.2, np.nan, 0.2])
  sd = np.array([0.0, 0.1, 0.1, np.nan])
  found = tails.upper_tail(value, 0.2, sd, 0.0)
  np.testing.assert_allclose(found, [1, 0.5, np.nan, np.nan])
  found = tails.student(value, 0.2, sd, 9)
  np.testing.assert_allclose(found, [1, 0.5, np.nan, np.nan])


def test_monte_carlo_counts_the_value_itself():
  draws = np.array([[0.1, 0.2, 0.3, 0.4]] * 4)
  found = tails.monte_carlo(np.array([0.5, 0.3, -1.0, np.nan]), draws)
  np.testing.assert_allclose(found, [1 / 5, 3 / 5, 1, np.nan])


def test_student_with_an_error_of_the_mean():
  value = np.array([1.0, 2.0])
  found = tails.student(value, 0.5, 0.3, 7, 0.4)
  np.testing.assert_allclose(found, stats.t(7).sf((value - 0.5) / 0.5))


def rows(rng, kind, p, sets=SETS):
  x = rng.normal(size=(sets, N, p))
  if kind == 'decaying':
    x *= np.arange(1, p + 1) ** -0.8
  if kind == 'log-normal':
    x *= rng.lognormal(size=(sets, N, 1))
  if kind == 't3':
    x *= np.sqrt(3 / rng.chisquare(3, (sets, N, 1)))
  return x - x.mean(axis=1, keepdims=True)


def grams(x, debiased):
  gram = x @ x.transpose(0, 2, 1)
  if debiased:
    n = gram.shape[-1]
    gram *= 1 - np.eye(n)
    sums = gram.sum(axis=-1)
    total = sums.sum(axis=-1)[:, None, None] / ((n - 1) * (n - 2))
    gram -= (sums[:, :, None] + sums[:, None]) / (n - 2) - total
    gram *= 1 - np.eye(n)
  return gram / np.linalg.norm(gram, axis=(1, 2), keepdims=True)


@jax.jit
def chance(a, b):
  summarise = jax.vmap(moments.summarise, in_axes=(0, None))
  valid = jnp.ones(N, bool)
  return moments.null(summarise(a, valid), summarise(b, valid), N)


def pairs_and_p(kind, debiased):
  rng = np.random.default_rng(1)
  a, b = (grams(rows(rng, kind, p), debiased) for p in (40, 90))
  known = chance(jnp.float32(a), jnp.float32(b))
  values = np.sum(a * b, axis=(1, 2))
  return a, b, values, tails.upper_tail(values, *map(np.asarray, known))


@functools.cache
def p_of(kind, debiased):
  return pairs_and_p(kind, debiased)[-1]


@pytest.mark.parametrize('debiased', [False, True])
@pytest.mark.parametrize('kind', ['even', 'decaying'])
def test_p_of_unrelated_data_is_uniform(kind, debiased):
  p = p_of(kind, debiased)
  assert stats.kstest(p, 'uniform').pvalue > 0.01


@pytest.mark.parametrize('debiased', [False, True])
@pytest.mark.parametrize('kind', ['even', 'decaying', 'log-normal', 't3'])
def test_one_of_twenty_unrelated_pairs_is_called_related(kind, debiased):
  rate = np.mean(p_of(kind, debiased) <= 0.05)
  assert abs(rate - 0.05) < 3 * np.sqrt(0.05 * 0.95 / SETS)


@pytest.mark.parametrize(
  ('kind', 'debiased'), [('log-normal', False), ('t3', True)]
)
def test_p_by_random_pairings_is_uniform_for_heavy_rows_too(kind, debiased):
  a, b, values, curve = pairs_and_p(kind, debiased)
  rng = np.random.default_rng(3)
  orders = [rng.permutation(N) for _ in range(199)]
  flat = a.reshape(SETS, -1)
  draws = [
    np.einsum('sp,sp->s', flat, b[:, o][:, :, o].reshape(SETS, -1))
    for o in orders
  ]
  p = tails.monte_carlo(values, np.stack(draws, axis=-1))
  assert stats.kstest(p, 'uniform').pvalue > 0.01
  # The curve has the right mean and spread but not the shape of the rest.
  assert np.quantile(np.abs(p - curve), 0.5) < 0.1


@pytest.mark.parametrize('debiased', [False, True])
@pytest.mark.parametrize('kind', ['even', 'decaying'])
def test_far_tail_is_that_of_a_long_monte_carlo(kind, debiased):
  rng = np.random.default_rng(2)
  a, b = (grams(rows(rng, kind, p, 1), debiased)[0] for p in (40, 90))
  orders = rng.permuted(np.tile(np.arange(N), (40_000, 1)), axis=1)
  draws = np.array([np.vdot(a, b[o][:, o]) for o in orders])
  known = chance(jnp.float32(a[None]), jnp.float32(b[None]))
  for level in (1e-2, 1e-3):
    value = np.quantile(draws, 1 - level)
    p = tails.upper_tail(value, *(float(x[0]) for x in known))
    # The count above has a relative error of 5 % and 16 %.
    assert level / 1.6 < p < level * 1.6
