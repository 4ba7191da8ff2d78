"""SVCCA against float64, known values, and what it must (not) change under."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity import Calibration, canonical, svcca
from jaxrep.types import InputError
from tests.similarity import oracle

SHAPES = {'n>p': (90, 60, 40), 'n=p': (60, 60, 60), 'n<p': (90, 128, 200)}
EXACT = 1e-5  # of a value, against float64


fewest = jax.jit(canonical.fewest_components)


def kept(s, variance):
  return int(fewest(np.asarray(s, np.float32), 1 - variance))


@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
  'cut', [{'variance': 0.99}, {'variance': 0.7}, {'k': 9}]
)
def test_agrees_with_float64(shape, cut):
  x, y = oracle.related(*shape)
  found = svcca(x, y, **cut)
  assert found.value == pytest.approx(oracle.svcca(x, y, **cut), abs=EXACT)
  assert found.n == shape[0]
  assert found.k == min(found.k_a, found.k_b)
  if 'k' in cut:
    assert found.k_a == found.k_b == 9
  else:
    assert found.k_a == oracle.kept(x, cut['variance'])
    assert found.k_b == oracle.kept(y, cut['variance'])


@pytest.mark.parametrize('scale', [1e-6, 1e-2, 1, 1e6])
@pytest.mark.parametrize('offset', [0, 10, 100])
def test_offsets_and_scales_keep_float64_accuracy(scale, offset):
  x, y = oracle.related(90, 128, 60)
  direction = np.random.default_rng(1).normal(size=128)
  x = ((x + offset * x.std() * direction) * scale).astype(np.float32)
  assert svcca(x, y).value == pytest.approx(oracle.svcca(x, y), abs=EXACT)


def test_cut_is_on_squared_singular_values():
  s = np.sqrt([0.5, 0.3, 0.15, 0.04, 0.01])
  assert [kept(s, share) for share in (0.4, 0.7, 0.94, 0.985, 0.995)] == [
    *(1, 2, 3, 4, 5)
  ]
  assert kept(s, 1.0) == 5


@pytest.mark.parametrize('count', [10, 30, 40])
def test_cut_of_equal_singular_values_takes_the_fewest_that_reach_it(count):
  s = np.where(np.arange(40) < count, 0.3, 0)
  wanted = list(range(1, count + 1))
  assert [kept(s, k / count) for k in wanted] == wanted


def test_bug_1_the_cut_does_not_depend_on_units():
  x, y = oracle.related(90, 60, 60)
  truth = svcca(x, y)
  for scale in (2.0**-20, 2.0**-7, 2.0**10):
    assert svcca(x * np.float32(scale), y) == truth


def test_bug_10_all_canonical_correlations_count():
  u, v = oracle.bases(96, [0.9, 0.5, 0.1, 0.0])
  assert svcca(u, v, k=4).value == pytest.approx(0.375, abs=1e-6)


def test_denominator_is_the_smaller_k():
  u, v = oracle.bases(96, [0.8] * 6)
  found = svcca(u, v[:, :2], variance=1.0)
  assert (found.k_a, found.k_b, found.k) == (6, 2, 2)
  assert found.value == pytest.approx(0.8, abs=1e-6)


def test_identical_is_one_and_orthogonal_is_zero():
  u, v = oracle.bases(96, [0.0] * 30)
  assert svcca(u, u, k=30).value == pytest.approx(1, abs=2e-6)
  assert svcca(u, v, k=30).value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('rho', [(0.9, 0.6, 0.3), (0.5, 0.5, 0.5)])
def test_recovers_planted_correlations(rho):
  # The mean of k sample correlations has a standard error of about
  # sqrt(sum (1 - rho^2)^2 / n) / k, and a bias of order k / n.
  n, k = 20_000, len(rho)
  rng, rho = np.random.default_rng(0), np.array(rho)
  x = rng.normal(size=(n, k))
  y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=(n, k))
  x, y = x @ rng.normal(size=(k, 7)) + 3, y @ rng.normal(size=(k, 5)) - 1
  error = np.sqrt(np.sum((1 - rho**2) ** 2) / n) / k
  found = svcca(x, y, k=k, calibration=Calibration(permutations=1)).value
  assert found == pytest.approx(rho.mean(), abs=3 * error + k / n)


def test_changes_only_under_what_it_should():
  x, y = oracle.related(90, 60, 128)
  rng = np.random.default_rng(2)
  same = {
    'rotation': x @ oracle.rotation(60),
    'scale': -1e3 * x,
    'shift': x + 20 * rng.normal(size=60),
    'wider by zeros': np.pad(x, ((0, 0), (0, 9))),
  }
  other = {
    'sentences permuted': x[rng.permutation(90)],
    'linear map': x @ (rng.normal(size=(60, 60)) * np.logspace(0, 3, 60)),
  }
  truth = svcca(x, y).value
  for name, changed in same.items():
    assert svcca(changed, y).value == pytest.approx(truth, abs=EXACT), name
  for name, changed in other.items():
    assert abs(svcca(changed, y).value - truth) > 0.02, name
  order = rng.permutation(90)
  both = svcca(x[order], y[order]).value
  assert both == pytest.approx(truth, abs=EXACT)


def test_all_components_are_invariant_to_linear_maps():
  x, y = oracle.related(90, 40, 60)
  mixed = x @ np.random.default_rng(0).normal(size=(40, 40))
  truth = svcca(x, y, variance=1.0).value
  assert svcca(mixed, y, variance=1.0).value == pytest.approx(truth, abs=1e-4)


@pytest.mark.parametrize('k', [0, 7])
def test_mask_is_subset(k):
  x, y = (jnp.asarray(side) for side in oracle.related(60, 24, 60))
  valid = np.random.default_rng(0).random(60) < 0.7
  poisoned = jnp.where(valid[:, None], x, jnp.nan)
  some, every = jnp.asarray(valid), jnp.ones(valid.sum(), bool)
  factor = jax.jit(lambda side, rows: canonical.factor(side, rows, 0.01, k))
  masked = [factor(side, some) for side in (poisoned, y)]
  subset = [factor(side[valid], every) for side in (x, y)]
  assert [f.k for f in masked] == [f.k for f in subset]
  np.testing.assert_allclose(
    canonical.score(*masked), canonical.score(*subset), atol=1e-6
  )


def degenerate():
  rng = np.random.default_rng(3)
  x = oracle.related(90, 60, 60)[0]
  constant, outlier, deficient = x.copy(), x.copy(), x.copy()
  constant[:, 7] = 0.1
  constant[:, 8] = 1e5
  outlier[5] *= 1e4
  deficient[:, 10:] = x[:, :10] @ rng.normal(size=(10, 50))
  return {
    'constant columns': constant,
    'duplicated rows': np.concatenate([x[:45], x[:45]]),
    'rank deficient': deficient,
    'one outlier': outlier,
  }


@pytest.mark.parametrize('name', degenerate())
@pytest.mark.parametrize('variance', [0.99, 1.0])
def test_degenerate_input_has_the_value_of_its_rank(name, variance):
  x, y = degenerate()[name], oracle.related(90, 60, 60)[1]
  found = svcca(x, y, variance)
  # An outlier of 1e4 leaves the other rows four digits less.
  allowed = 2e-4 if name == 'one outlier' else EXACT
  assert found.value == pytest.approx(oracle.svcca(x, y, variance), abs=allowed)
  assert found.k_a == oracle.kept(x, variance)


def test_bug_11_offsets_do_not_change_the_score():
  x, y = oracle.related(90, 60, 60)
  truth = svcca(x, y).value
  for offset in (5, 64):  # few bits, so that the sum itself rounds little
    moved = svcca(x + np.float32(offset), y).value
    assert moved == pytest.approx(truth, abs=EXACT)


def test_bug_12_the_same_input_gives_the_same_number():
  x, y = oracle.related(90, 60, 60)
  assert svcca(x, y) == svcca(x, y)


@pytest.mark.parametrize('q', [12, 128])
def test_bugs_14_and_15_spanning_all_sentences_is_an_error(q):
  # Every direction of the other side lies in the span of n - 1 components.
  x, y = oracle.related(90, 128, q)
  with pytest.raises(InputError, match=r'n=90.*scores 1.*k_a=89.*floor 1'):
    svcca(x, y, variance=1.0)


def test_more_components_than_there_are_is_an_error():
  x, y = oracle.related(90, 128, 12)
  with pytest.raises(InputError, match=r'y has 12 .*n=90, p=12.*not k=13'):
    svcca(x, y, k=13)
  with pytest.raises(InputError, match=r'x has 89 .*n=90, p=128.*not k=90'):
    svcca(x, y, k=90)


@pytest.mark.parametrize(
  ('cut', 'message'),
  [
    ({'variance': 0.0}, r'variance=0\.0 is no share'),
    ({'variance': 1.1}, r'variance=1\.1 is no share'),
    ({'k': 0}, 'k=0: keep at least one'),
  ],
)
def test_meaningless_cuts_are_refused(cut, message):
  x, y = oracle.related(90, 60, 60)
  with pytest.raises(InputError, match=message):
    svcca(x, y, **cut)


def test_the_definition_stands_with_the_number():
  x, y = oracle.related(90, 60, 60)
  assert '0.9 of the variance (squared' in svcca(x, y, 0.9).definition
  assert 'first 3 principal' in svcca(x, y, k=3).definition
  assert 'floor: Wachter law plus what 64 random' in svcca(x, y, k=3).definition
