"""Bugs that other packages have, by their number in the survey of peers.

A test of this package is named `test_bug_N_…`. Those that concern one measure
alone stand with its other tests, those of intervals in `tests/stats`. Here are
those of the calls that people make, for every measure, and the test that no
number is without one.
"""

import pathlib
import re

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

from jaxrep.registry import resolve
from jaxrep.similarity import MEASURES, Calibration, all_pairs, cka, compare
from jaxrep.types import InputError
from tests.similarity import oracle, oracle_rows

BUGS = {*range(1, 16), 17, *range(20, 24)}
ONCE = Calibration(permutations=1, intervals=False)
EXACT = 1e-5

# 1 for a representation and itself; what is scored on held-out sentences, or is
# no similarity, has another value.
ONE_TO_ITSELF = [
  *('svcca', 'cca', 'pwcca', 'mean_squared_cca', 'cka', 'cka_debiased'),
  'procrustes',
  *('rsa', 'rsa_cosine', 'mutual_knn', 'retrieval_r1', 'retrieval_r5'),
]
CENTRED = [name for name in MEASURES if resolve(MEASURES[name]).centred]


def value(x, y, measure):
  return compare(x, y, measure, ONCE).value


def test_every_bug_has_a_test():
  found = set()
  for path in pathlib.Path(__file__).parents[1].rglob('test_*.py'):
    for numbers in re.findall(r'def test_bugs?_([\d_and]+)_', path.read_text()):
      found.update(map(int, re.findall(r'\d+', numbers)))
  assert found >= BUGS


@pytest.mark.parametrize('measure', MEASURES)
def test_bug_2_all_sentences_count(measure):
  x, y = oracle_rows.sides(45, 24, 24)
  whole = value(x, y, measure)
  for some in (slice(34), slice(34, None)):
    changed = x.copy()
    changed[some] = 2 * x[some][::-1]
    assert abs(value(changed, y, measure) - whole) > 10 * EXACT


@pytest.mark.parametrize('measure', ONE_TO_ITSELF)
def test_bug_4_sentences_keep_their_order_on_both_sides(measure):
  x, y = oracle_rows.sides(45, 24, 24)
  order = np.random.default_rng(0).permutation(45)
  both = {'x': x, 'again': x.copy(), 'y': y}
  found = all_pairs(both, measure, ONCE).value
  np.testing.assert_allclose(np.diagonal(found), 1, atol=EXACT)
  assert found[0, 1] == pytest.approx(1, abs=EXACT)
  shuffled = {name: side[order] for name, side in both.items()}
  moved = all_pairs(shuffled, measure, ONCE).value
  np.testing.assert_allclose(moved, found, atol=EXACT)
  assert value(x, x[order], measure) < 0.97


@pytest.mark.parametrize('relative', [10, 100])
@pytest.mark.parametrize('measure', CENTRED)
def test_bug_5_offsets_change_no_measure(measure, relative):
  x, y = (64 * side for side in oracle_rows.sides(45, 24, 24))
  # Few bits of both, so that the sum is exact and the truth does not move.
  x, y = (np.round(side).astype(np.float32) for side in (x, y))
  signs = np.random.default_rng(1).choice([-1, 1], 24)
  offset = (np.round(relative * x.std()) * signs).astype(np.float32)
  moved = value(x + offset, y - offset, measure)
  assert moved == pytest.approx(value(x, y, measure), abs=EXACT)


@pytest.mark.parametrize('measure', CENTRED)
def test_bug_6_a_constant_representation_is_an_error(measure):
  noise, _ = oracle_rows.sides(45, 24, 24)
  constant = np.full_like(noise, 0.1)
  for pair in ((constant, noise), (noise, constant)):
    with pytest.raises(InputError, match='constant'):
      value(*pair, measure)


@pytest.mark.parametrize('scale', [1, 30])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize(
  'half',
  {
    'numpy float16': (np.float16, np.asarray),
    'numpy bfloat16': (ml_dtypes.bfloat16, np.asarray),
    'jax bfloat16': (jnp.bfloat16, jnp.asarray),
    'torch float16': (np.float16, torch.from_numpy),
    'torch bfloat16': (
      ml_dtypes.bfloat16,
      lambda x: torch.from_numpy(x.astype(np.float32)).to(torch.bfloat16),
    ),
  }.items(),
  ids=lambda half: half[0],
)
def test_bug_7_half_precision_does_not_overflow(half, offset, scale):
  dtype, array = half[1]
  x, y = oracle.related(60, 1024, 1024, decay=0)
  x, y = (
    (scale * (side / side.std() + offset)).astype(dtype) for side in (x, y)
  )
  wide = [side.astype(np.float64) for side in (x, y)]
  for debiased, truth in ((False, oracle.cka), (True, oracle.cka_debiased)):
    found = cka(array(x), array(y), debiased, calibration=ONCE).value
    assert found == pytest.approx(truth(*wide), abs=EXACT)


def test_bug_13_no_bandwidth_is_assumed():
  x, y = oracle_rows.sides(45, 24, 24)

  def saturated(side):  # a Gaussian kernel of width 1, without normalisation
    squares = np.sum((side[:, None] - side) ** 2, axis=2)
    centring = np.eye(45) - 1 / 45
    return centring @ np.exp(-squares / 2) @ centring

  a, b = (saturated(100 * side) for side in (x, y))
  assert np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b) > 0.9999
  assert value(100 * x, 100 * y, 'cka') < 0.9
  with pytest.raises(InputError, match='rbf'):
    cka(x, y, kernel='rbf')


def test_bug_20_many_correlations_of_1_converge():
  # Of 30 + 30 directions in 44 dimensions, 16 or more are common.
  rng = np.random.default_rng(0)
  bases = [
    np.linalg.qr(side - side.mean(axis=0))[0]
    for side in rng.normal(size=(24, 45, 30))
  ]
  found = all_pairs(
    {f'{i}': u for i, u in enumerate(bases)}, 'svcca', ONCE, k=30
  )
  assert (found.status == 'ok').all()
  truth = [
    [np.linalg.svd(u.T @ v, compute_uv=False).mean() for v in bases]
    for u in bases
  ]
  np.testing.assert_allclose(found.value, truth, atol=EXACT)


@pytest.mark.parametrize('measure', ONE_TO_ITSELF)
def test_bug_22_every_measure_is_one_to_itself(measure):
  for width in (24, 80):
    x, _ = oracle_rows.sides(45, width, width)
    assert value(x, x, measure) == pytest.approx(1, abs=2e-6)
