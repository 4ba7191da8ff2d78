"""Mutual kNN against float64, with ties, by hand and by enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity import neighbours
from jaxrep.similarity.measure import Parameters
from jaxrep.similarity.neighbours import MUTUAL_KNN
from tests.similarity import oracle_rows

EXACT = 2e-6


@pytest.mark.parametrize('k', [1, 10])
@pytest.mark.parametrize('regime', oracle_rows.REGIMES)
def test_agrees_with_float64(regime, k):
  x, y = oracle_rows.REGIMES[regime]
  found = oracle_rows.score(MUTUAL_KNN, x, y, neighbours=k)
  truth = oracle_rows.mutual_knn(x, y, neighbours=k)
  assert found == pytest.approx(truth, abs=EXACT)


def test_widths_may_differ():
  x, y = oracle_rows.sides(60, 128, 20)
  found = oracle_rows.score(MUTUAL_KNN, x, y)
  assert found == pytest.approx(oracle_rows.mutual_knn(x, y), abs=EXACT)


def test_changes_only_under_what_it_should():
  oracle_rows.check_changes(MUTUAL_KNN, oracle_rows.OF_EACH_SIDE)


def test_neighbours_on_a_circle_by_hand():
  angle = 2 * np.pi * np.arange(24) / 24
  x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
  fives = x[np.arange(24) * 5 % 24]
  # The two nearest are one step away; going round by fives, five steps.
  same = oracle_rows.score(MUTUAL_KNN, x, x, neighbours=2)
  assert same == pytest.approx(1, abs=EXACT)
  assert oracle_rows.score(MUTUAL_KNN, x, fives, neighbours=2) == 0
  # The ten nearest are 1 to 5 steps away; by fives 5, 10, 9, 4 and 1.
  found = oracle_rows.score(MUTUAL_KNN, x, fives, neighbours=10)
  assert found == pytest.approx(0.6, abs=EXACT)


def test_each_row_marks_k_others():
  for regime, (x, _) in oracle_rows.REGIMES.items():
    rows = np.asarray(oracle_rows.factor(MUTUAL_KNN, x, neighbours=7).rows)
    marks = rows * np.sqrt(60 * 7)
    np.testing.assert_allclose(marks.sum(axis=1), 7, atol=1e-5, err_msg=regime)
    assert not np.diagonal(marks).any()
    assert marks.min() >= 0 and marks.max() < 1 + 1e-6


def test_ties_give_neither_one_nor_zero():
  # All sentences are equally like each other: any ten are the nearest.
  flat, x = np.eye(40), oracle_rows.sides(40)[0]
  chance = 10 / 39
  for side in (flat, x):
    found = oracle_rows.score(MUTUAL_KNN, flat, side)
    assert found == pytest.approx(chance, abs=EXACT)


def test_ties_do_not_look_at_the_order():
  x, y = oracle_rows.REGIMES['duplicated rows']
  labels = np.eye(5)[np.arange(60) % 5]
  order = np.random.default_rng(0).permutation(60)
  for side in (x, labels):
    base = oracle_rows.score(MUTUAL_KNN, side, y)
    moved = oracle_rows.score(MUTUAL_KNN, side[order], y[order])
    assert moved == pytest.approx(base, abs=EXACT)


@pytest.mark.parametrize('k', [1, 3, 50, 59])
def test_largest_of_each_row(k):
  rng = np.random.default_rng(0)
  values = rng.integers(-9, 9, (7, 60)).astype(np.float32)
  kth, total = jax.jit(neighbours.largest)(jnp.asarray(values), k)
  ordered = np.sort(values, axis=1)[:, ::-1]
  np.testing.assert_array_equal(kth, ordered[:, k - 1])
  np.testing.assert_array_equal(total, ordered[:, :k].sum(axis=1))


def test_needs_more_sentences_than_neighbours():
  x, _ = oracle_rows.sides(12)
  assert oracle_rows.factor(MUTUAL_KNN, x).defined
  assert not oracle_rows.factor(MUTUAL_KNN, x[:11]).defined
  assert not oracle_rows.factor(MUTUAL_KNN, x, np.arange(12) < 11).defined
  assert oracle_rows.factor(MUTUAL_KNN, x[:11], neighbours=9).defined


def test_a_sentence_at_the_mean_has_no_direction():
  x = np.array([[-1, -2], [0, 0], [1, 2], [3, -1], [-3, 1]]) + 0.3
  assert not oracle_rows.factor(MUTUAL_KNN, x, neighbours=1).defined
  x[0] += 0.01
  assert oracle_rows.factor(MUTUAL_KNN, x, neighbours=1).defined


def test_mask_is_subset():
  oracle_rows.check_mask_is_subset(MUTUAL_KNN)


def test_vmapped_is_alone():
  oracle_rows.check_vmapped_is_alone(MUTUAL_KNN)


@pytest.mark.parametrize('k', [1, 3])
def test_null_is_that_of_all_720_pairings(k):
  truth = oracle_rows.mutual_knn
  values = oracle_rows.check_exact_null(MUTUAL_KNN, truth, neighbours=k)
  assert values.mean() == pytest.approx(k / 5, abs=1e-12)


def test_another_number_of_neighbours_compiles_nothing():
  x, _ = oracle_rows.sides()
  count = oracle_rows.factors._cache_size
  assert oracle_rows.factor(MUTUAL_KNN, x, neighbours=4).k == 4
  before = count()
  assert oracle_rows.factor(MUTUAL_KNN, x, neighbours=9).k == 9
  assert count() == before


def test_the_definition_says_how_many():
  assert 'the 7 nearest' in MUTUAL_KNN.describe(Parameters(neighbours=7))
