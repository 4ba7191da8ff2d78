"""Mantel's test against enumeration by hand, SciPy, and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from jaxrep.stats.mantel import mantel
from jaxrep.types import InputError


def symmetric(values, count):
  matrix = np.zeros((count, count))
  matrix[np.triu_indices(count, 1)] = values
  return matrix + matrix.T


def random_pair(count, seed):
  random = np.random.default_rng(seed)
  size = count * (count - 1) // 2
  return [symmetric(random.standard_normal(size), count) for _ in range(2)]


def by_loop(x, y):
  """p and two-sided p over all relabellings, one np.corrcoef at a time."""
  upper = np.triu_indices(len(x), 1)
  found = []
  for order in itertools.permutations(range(len(x))):
    moved = y[np.ix_(order, order)][upper]
    both = ~np.isnan(x[upper] + moved)
    found.append(np.corrcoef(x[upper][both], moved[both])[0, 1])
  found = np.array(found)
  return (
    found[0],
    np.mean(found >= found[0] - 1e-9),
    np.mean(np.abs(found) >= abs(found[0]) - 1e-9),
  )


def test_three_languages_by_hand():
  """Six relabellings give each order of (1, 2, 4) once; only one rises."""
  x = symmetric([1.0, 2.0, 3.0], 3)
  y = symmetric([1.0, 2.0, 4.0], 3)
  found = mantel(x, y)
  assert found.r == pytest.approx(9 / math.sqrt(84))
  assert (found.relabellings, found.exact, found.pairs) == (6, True, 3)
  assert found.p == pytest.approx(1 / 6)
  assert found.p_two_sided == pytest.approx(2 / 6)  # its reverse: -9/sqrt(84)


@pytest.mark.parametrize('count', [4, 5, 6])
def test_every_relabelling_is_counted_once(count):
  x, y = random_pair(count, count)
  found = mantel(x, y)
  assert found[:3] == pytest.approx(by_loop(x, y))
  assert found.relabellings == math.factorial(count)


@pytest.mark.parametrize('kind', ['pearson', 'spearman'])
def test_correlation_and_naive_p_are_scipys(kind):
  x, y = random_pair(9, 1)
  upper = np.triu_indices(9, 1)
  call = {'pearson': stats.pearsonr, 'spearman': stats.spearmanr}[kind]
  expected = call(x[upper], (x + y)[upper])
  found = mantel(x, x + y, kind, draws=99)
  assert found.r == pytest.approx(expected.statistic)
  assert found.p_naive == pytest.approx(expected.pvalue, rel=1e-9)


def test_draws_come_near_to_the_exact_share(monkeypatch):
  x, y = random_pair(7, 3)
  exact = mantel(x, y)
  monkeypatch.setattr('jaxrep.stats.mantel.EXACT', 6)
  drawn = mantel(x, y, draws=9999)
  assert exact.exact and not drawn.exact and drawn.relabellings == 9999
  assert 0.05 < exact.p < 0.95
  assert drawn.p == pytest.approx(exact.p, abs=0.02)  # four standard errors
  assert drawn.p_two_sided == pytest.approx(exact.p_two_sided, abs=0.02)


def test_draws_repeat_with_their_seed_and_never_give_zero():
  x, _ = random_pair(9, 4)
  first, again = mantel(x, x, draws=99), mantel(x, x, draws=99)
  assert first == again
  assert first.p == first.p_two_sided == 0.01
  y = random_pair(9, 4)[1]
  assert mantel(x, y, draws=99) != mantel(x, y, draws=99, seed=1)


@pytest.mark.parametrize('count', [6, 12])
def test_scale_and_shift_of_a_matrix_change_nothing(count):
  x, y = random_pair(count, 5)
  plain = mantel(x, y, draws=499)
  moved = mantel(1e-4 * x + 7, 1e3 * y - 2e4, draws=499)
  assert moved == pytest.approx(plain, rel=1e-6)
  turned = mantel(x, 5 - y, draws=499)
  assert turned.r == pytest.approx(-plain.r)
  assert turned.p_two_sided == pytest.approx(plain.p_two_sided)
  # Relabellings that tie with the data, itself among them, count in both.
  assert turned.p == pytest.approx(1 - plain.p, abs=0.01)


def test_the_diagonal_does_not_count():
  x, y = random_pair(6, 6)
  assert mantel(x + np.eye(6), y - 3 * np.eye(6)) == mantel(x, y)


def test_holes_of_the_second_matrix_move_with_its_languages():
  x, y = random_pair(5, 7)
  x[0, 1] = x[1, 0] = np.nan
  y[2, 4] = y[4, 2] = y[1, 2] = y[2, 1] = np.nan
  found = mantel(x, y)
  assert found.pairs == 7
  assert found[:3] == pytest.approx(by_loop(x, y))


def test_too_few_pairs_or_no_spread_have_no_value():
  x, y = random_pair(4, 8)
  hidden = np.full((4, 4), np.nan)
  hidden[0, 1] = hidden[1, 0] = 1.0
  for other in (hidden, np.full((4, 4), 0.3), np.full((4, 4), np.nan)):
    found = mantel(x, other)
    assert all(map(math.isnan, found[:4])), other
  assert math.isnan(mantel(x[:2, :2], y[:2, :2]).r)


def test_a_matrix_that_is_not_symmetric_is_refused():
  x, y = random_pair(4, 9)
  with pytest.raises(InputError, match='symmetric'):
    mantel(x, np.triu(y))


def test_the_naive_p_finds_what_is_not_there_and_mantels_does_not():
  """Distances of two unrelated sets of 30 points on a line, 300 times.

  A point at the end of its line is far from all others, so pairs of one
  language go together. 15 of 300 are expected at the 5 % level; 27 is three
  standard errors above.
  """
  false = np.zeros(3, int)
  for seed in range(300):
    points = np.random.default_rng(seed).standard_normal((2, 30))
    x, y = (np.abs(p[:, None] - p) for p in points)
    found = mantel(x, y, draws=99, seed=seed)
    false += np.array(found[1:4]) <= 0.05
  one_sided, two_sided, naive = false
  assert naive > 60
  assert 4 <= one_sided <= 27
  assert 4 <= two_sided <= 27
