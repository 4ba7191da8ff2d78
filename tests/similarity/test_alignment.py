"""CKA against float64, by hand, by enumeration; what it must change under."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity import alignment, cka
from jaxrep.types import InputError
from tests.similarity import oracle

SHAPES = {'n>p': (90, 60, 40), 'n=p': (60, 60, 60), 'n<p': (90, 128, 200)}
EXACT = 2e-6


@pytest.fixture(params=[False, True], ids=['biased', 'debiased'])
def debiased(request):
  return request.param


def truth(x, y, debiased):
  return (oracle.cka_debiased if debiased else oracle.cka)(x, y)


@pytest.mark.parametrize('shape', SHAPES.values(), ids=SHAPES)
def test_agrees_with_float64(shape, debiased):
  x, y = oracle.related(*shape)
  found = cka(x, y, debiased)
  assert found.value == pytest.approx(truth(x, y, debiased), abs=EXACT)
  assert (found.n, found.k) == (shape[0], None)


@pytest.mark.parametrize('scale', [1e-6, 1, 1e6])
@pytest.mark.parametrize('relative', [0, 3, 10, 30, 100])
def test_bug_5_offsets_and_scales_keep_the_digits(scale, relative, debiased):
  x, y = oracle.related(90, 128, 60, decay=0)
  direction = np.random.default_rng(1).normal(size=128)
  x = ((x + relative * x.std() * direction) * scale).astype(np.float32)
  found = cka(x, y, debiased).value
  assert found == pytest.approx(truth(x, y, debiased), abs=EXACT)


def test_bug_3_debiased_is_another_number():
  x, y = oracle.related(90, 128, 128, decay=0)
  assert cka(x, y).value - cka(x, y, debiased=True).value > 0.02


def test_bug_6_nothing_is_clamped():
  rng = np.random.default_rng(0)
  values = [
    cka(*rng.normal(size=(2, 20, 60)), debiased=True).value for _ in range(50)
  ]
  standard_error = np.std(values) / np.sqrt(len(values))
  assert min(values) < -0.02
  assert abs(np.mean(values)) < 3 * standard_error


def test_bug_22_a_representation_is_one_to_itself(debiased):
  x, _ = oracle.related(90, 60, 60)
  assert cka(x, x, debiased).value == pytest.approx(1, abs=5e-7)


def test_class_labels_by_hand():
  # Centred Grams of 2 and of 4 nested equal classes: norms n/2, n sqrt(3)/4,
  # inner product n^2 (3/32 - 1/32 + 2/32).
  classes = np.arange(64)
  two, four = (np.eye(c)[classes * c // 64] for c in (2, 4))
  assert cka(two, four).value == pytest.approx(1 / np.sqrt(3), abs=1e-6)


def test_is_the_rv_coefficient():
  x, y = oracle.related(90, 60, 40)
  joint = np.cov(x.astype(np.float64), y.astype(np.float64), rowvar=False)
  xx, yy, xy = joint[:60, :60], joint[60:, 60:], joint[:60, 60:]
  rv = np.sum(xy**2) / np.sqrt(np.sum(xx**2) * np.sum(yy**2))
  assert cka(x, y).value == pytest.approx(rv, abs=EXACT)


def test_changes_only_under_what_it_should(debiased):
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
    'linear map': x @ (rng.normal(size=(60, 60)) * np.logspace(0, 2, 60)),
  }
  base = cka(x, y, debiased).value
  for name, changed in same.items():
    found = cka(changed, y, debiased).value
    assert found == pytest.approx(base, abs=EXACT), name
  for name, changed in other.items():
    assert abs(cka(changed, y, debiased).value - base) > 0.02, name
  order = rng.permutation(90)
  both = cka(x[order], y[order], debiased).value
  assert both == pytest.approx(base, abs=EXACT)


def test_floor_is_the_mean_over_all_720_pairings(debiased):
  x, y = oracle.related(6, 4, 9, decay=0)
  values = [
    truth(x, y[list(order)], debiased)
    for order in itertools.permutations(range(6))
  ]
  found = cka(x, y, debiased)
  assert found.floor == pytest.approx(np.mean(values), abs=1e-6)
  if debiased:
    assert abs(found.floor) < 1e-12
  room = 1 - found.floor
  expected = (found.value - found.floor) / room
  assert found.calibrated == pytest.approx(expected, abs=1e-6)
  assert found.floor_sd == pytest.approx(np.std(values), abs=1e-6)
  z = (values[0] - found.floor) / np.std(values)
  # A value right to 1e-6 over a spread of 0.1.
  assert np.std(values) > 0.1 and found.z == pytest.approx(z, abs=1e-5)


def test_mask_is_subset(debiased):
  factor = alignment.factor_debiased if debiased else alignment.factor
  factor = jax.jit(factor)
  x, y = (jnp.asarray(side) for side in oracle.related(60, 24, 60))
  valid = np.random.default_rng(0).random(60) < 0.7
  poisoned = jnp.where(valid[:, None], x, jnp.nan)
  some, every = jnp.asarray(valid), jnp.ones(valid.sum(), bool)
  masked = [factor(side, some) for side in (poisoned, y)]
  subset = [factor(side[valid], every) for side in (x, y)]
  np.testing.assert_allclose(
    alignment.score(*masked), alignment.score(*subset), atol=1e-6
  )


@pytest.mark.parametrize('n', [4, 5, 45])
def test_few_or_duplicated_rows_have_their_value(n, debiased):
  x, y = oracle.related(n, 60, 40)
  x = np.concatenate([x, x])
  y = np.concatenate([y, y[::-1]])
  found = cka(x, y, debiased).value
  assert found == pytest.approx(truth(x, y, debiased), abs=EXACT)


def test_an_outlier_alone_has_no_debiased_value():
  x, y = np.zeros((20, 9)), oracle.related(20, 9, 9)[1]
  x[3] = np.arange(9)
  assert cka(x, y).value == pytest.approx(oracle.cka(x, y), abs=EXACT)
  with pytest.raises(InputError, match='x: no pair of sentences is more alike'):
    cka(x, y, debiased=True)


def test_a_floor_of_one_is_an_error():
  # One-hot sentences are equally far apart: every pairing scores 1.
  with pytest.raises(InputError, match='every pairing of the n=8 sentences'):
    cka(np.eye(8), 3 * np.eye(8))


def test_too_few_sentences_are_an_error():
  x, y = oracle.related(3, 4, 9)
  assert cka(x, y).value == pytest.approx(oracle.cka(x, y), abs=EXACT)
  with pytest.raises(InputError, match=r'n=3 sentences.*at least 4'):
    cka(x, y, debiased=True)
  with pytest.raises(InputError, match=r'n=2 sentences.*at least 3'):
    cka(x[:2], y[:2])


def test_an_unknown_kernel_is_named():
  x, y = oracle.related(6, 4, 9)
  with pytest.raises(InputError, match="kernel='rbf'"):
    cka(x, y, kernel='rbf')
