"""Modality gap measures against float64, by hand, at any scale."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity import gap
from jaxrep.similarity.gap import CENTROID_DISTANCE, COSINE_GAP, NORM_RATIO
from tests.similarity import oracle_rows

# Of the value itself: a small gap between far clouds has its digits too.
RELATIVE = 2e-5
MEASURES = {
  'centroid distance': (CENTROID_DISTANCE, oracle_rows.centroid_distance),
  'norm ratio': (NORM_RATIO, oracle_rows.norm_ratio),
  'cosine gap': (COSINE_GAP, oracle_rows.cosine_gap),
}
_COMMON = {
  *('both rotated', 'both scaled', 'wider by zeros', 'both permuted'),
  'swapped',
}
UNCHANGED = {
  'centroid distance': {'sentences permuted', *_COMMON},
  'norm ratio': {'sentences permuted', 'rotation', 'sign', *_COMMON},
  'cosine gap': {'scale', 'rows scaled', *_COMMON},
}
every = pytest.mark.parametrize('name', MEASURES)


@every
@pytest.mark.parametrize('regime', oracle_rows.REGIMES)
def test_agrees_with_float64(regime, name):
  x, y = oracle_rows.REGIMES[regime]
  measure, truth = MEASURES[name]
  found = oracle_rows.score(measure, x, y)
  assert found == pytest.approx(truth(x, y), rel=RELATIVE, abs=1e-9)


@every
@pytest.mark.parametrize(
  'scales', [(1e-30, 1e-30), (1e30, 1e30), (1e-20, 1e15)]
)
def test_any_float32_scale_will_do(scales, name):
  x, y = (
    side * np.float32(scale)
    for side, scale in zip(oracle_rows.sides(), scales, strict=True)
  )
  measure, truth = MEASURES[name]
  found = oracle_rows.score(measure, x, y)
  assert found == pytest.approx(truth(x, y), rel=RELATIVE)


@every
def test_changes_only_under_what_it_should(name):
  measure = MEASURES[name][0]
  oracle_rows.check_changes(measure, UNCHANGED[name])


def test_identical_clouds_have_no_gap():
  x, _ = oracle_rows.sides()
  turned = x[::-1]
  distance = oracle_rows.score(CENTROID_DISTANCE, x, turned)
  assert distance == pytest.approx(0, abs=1e-6)
  assert oracle_rows.score(NORM_RATIO, x, turned) == pytest.approx(1, abs=1e-6)


def test_centroids_by_hand():
  # Unit rows around (1, 0) and around (0, 1), 60 degrees wide: Liang's gap.
  angles = np.deg2rad([[-30, 30, 0, 0], [60, 120, 90, 90]])
  x, y = (np.stack([np.cos(a), np.sin(a)], axis=1) for a in angles)
  mean = (2 + np.sqrt(3)) / 4
  found = oracle_rows.score(CENTROID_DISTANCE, x, y)
  assert found == pytest.approx(np.sqrt(2) * mean, abs=1e-6)
  # The most there can be: points that face each other.
  x = np.tile([[1.0, 0.0]], (4, 1))
  assert oracle_rows.score(CENTROID_DISTANCE, x, -x) == pytest.approx(2)


def test_norm_ratio_by_hand():
  x = np.array([[3, 4], [0, 1], [0, 0]])  # mean length 2
  y = np.array([[0, 5, 12], [0, 8, 0], [3, 0, 0]])  # mean length 8
  assert oracle_rows.score(NORM_RATIO, x, y) == pytest.approx(0.25)


def test_cosine_gap_by_hand():
  # Matched cosines 1, unmatched 0; then all the same.
  assert oracle_rows.score(COSINE_GAP, np.eye(5), 3 * np.eye(5)) == (
    pytest.approx(1, abs=1e-6)
  )
  one = np.tile([[3.0, 4.0]], (5, 1))
  assert oracle_rows.score(COSINE_GAP, one, one) == pytest.approx(0, abs=1e-9)
  # Matched -1, unmatched 1 and -1 in turn: 2 of 6 pairs are alike.
  x = np.array([[1.0], [1.0], [-1.0]])
  found = oracle_rows.score(COSINE_GAP, x, -x)
  assert found == pytest.approx(-1 - (-2 + 4) / 6, abs=1e-6)


def test_a_common_offset_hides_the_cosines_but_not_their_gap():
  x, y = oracle_rows.REGIMES['offset of both']
  found = oracle_rows.score(COSINE_GAP, x, y)
  assert 1e-6 < found < 1e-3
  assert found == pytest.approx(oracle_rows.cosine_gap(x, y), rel=RELATIVE)


def test_mean_in_parts_is_right_to_the_spread():
  x = np.random.default_rng(0).normal(size=(400, 30)) + 1e4
  x = x.astype(np.float32)
  parts = gap.mean_in_parts(jnp.asarray(x), jnp.ones(400, bool))
  found = np.asarray(parts, np.float64).sum(axis=0)
  truth = oracle_rows.wide(x).mean(axis=0)
  np.testing.assert_allclose(found, truth, rtol=0, atol=1e-6)


def test_zeros_have_no_value():
  zeros, some = np.zeros((6, 4)), np.eye(6)
  for measure in (CENTROID_DISTANCE, NORM_RATIO):
    assert not oracle_rows.factor(measure, zeros).defined
    assert oracle_rows.factor(measure, np.ones((6, 4))).defined
  some[2] = 0
  assert not oracle_rows.factor(COSINE_GAP, some).defined


@every
def test_mask_is_subset(name):
  oracle_rows.check_mask_is_subset(MEASURES[name][0])


@every
def test_vmapped_is_alone(name):
  oracle_rows.check_vmapped_is_alone(MEASURES[name][0])


@every
def test_mean_over_all_720_pairings(name):
  measure, truth = MEASURES[name]
  values = oracle_rows.over_pairings(measure, truth)
  if measure.paired:
    law = measure.law(np.zeros(1), np.zeros(1), 6)
    assert law == pytest.approx(values.mean(), abs=1e-12)
    assert values.std() > 0.05
  else:
    assert np.ptp(values) < 1e-12
