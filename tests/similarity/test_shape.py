"""Procrustes similarity against float64 and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity import shape
from jaxrep.similarity.shape import PROCRUSTES
from tests.similarity import oracle, oracle_rows

EXACT = 2e-6


@pytest.mark.parametrize('regime', oracle_rows.REGIMES)
def test_agrees_with_float64(regime):
  x, y = oracle_rows.REGIMES[regime]
  truth = oracle_rows.procrustes(x, y)
  assert oracle_rows.score(PROCRUSTES, x, y) == pytest.approx(truth, abs=EXACT)


@pytest.mark.parametrize('p, q', [(20, 128), (128, 60), (60, 20)])
def test_widths_may_differ(p, q):
  x, y = oracle_rows.sides(60, p, q)
  truth = oracle_rows.procrustes(x, y)
  assert oracle_rows.score(PROCRUSTES, x, y) == pytest.approx(truth, abs=EXACT)


def test_changes_only_under_what_it_should():
  oracle_rows.check_changes(PROCRUSTES, oracle_rows.OF_EACH_SIDE)


def test_planted_overlap_by_hand():
  # Equal singular values: the mean of the cosines between the subspaces.
  u, v = oracle.bases(96, [0.9, 0.5, 0.1, 0.0])
  assert oracle_rows.score(PROCRUSTES, u, u) == pytest.approx(1, abs=EXACT)
  found = oracle_rows.score(PROCRUSTES, u, v)
  assert found == pytest.approx(0.375, abs=EXACT)
  # Singular values 2, 1 against 1, 2 in one frame: (2 + 2) / 5.
  found = oracle_rows.score(PROCRUSTES, u[:, :2] * [2, 1], u[:, :2] * [1, 2])
  assert found == pytest.approx(0.8, abs=EXACT)


def test_orthogonal_is_zero():
  u, v = oracle.bases(96, [0.0] * 30)
  assert oracle_rows.score(PROCRUSTES, u, v) == pytest.approx(0, abs=EXACT)


def test_gives_the_metric_of_williams():
  # sqrt(2 - 2 similarity) keeps the triangle inequality.
  sides = [oracle_rows.sides(seed=seed)[0] for seed in range(3)]
  distance = np.sqrt(
    [
      2 - 2 * oracle_rows.score(PROCRUSTES, sides[i], sides[j])
      for i, j in ((0, 1), (1, 2), (0, 2))
    ]
  )
  assert distance[2] < distance[0] + distance[1]
  assert distance.min() > 0.1


def test_k_is_the_rank():
  x, _ = oracle_rows.REGIMES['rank deficient']
  factors = oracle_rows.factor(PROCRUSTES, x)
  assert factors.k == 10
  assert not np.asarray(factors.rows[:, 10:]).any()
  assert not oracle_rows.factor(PROCRUSTES, np.ones((60, 40))).defined


@pytest.mark.parametrize('complete', [False, True])
def test_any_left_singular_basis_will_do(monkeypatch, complete):
  def left_singular(x):
    u, s, _ = np.linalg.svd(np.asarray(x), full_matrices=complete)
    s = np.pad(s, (0, u.shape[1] - s.size))
    return jnp.asarray(u), jnp.asarray(s)

  x, y = oracle_rows.REGIMES['n>p']
  monkeypatch.setattr(shape.linalg, 'left_singular', left_singular)
  fx, fy = (
    shape.factor(jnp.asarray(side), jnp.ones(60, bool)) for side in (x, y)
  )
  assert fx.rows.shape[1] == (60 if complete else 40)
  truth = oracle_rows.procrustes(x, y)
  assert shape.score(fx, fy) == pytest.approx(truth, abs=EXACT)


def test_mask_is_subset():
  oracle_rows.check_mask_is_subset(PROCRUSTES)


def test_vmapped_is_alone():
  oracle_rows.check_vmapped_is_alone(PROCRUSTES)


def test_reordered_factors_are_those_of_reordered_sentences():
  values = oracle_rows.over_pairings(PROCRUSTES, oracle_rows.procrustes)
  assert values.std() > 0.01
