import numpy as np
import pytest
from scipy import stats

from jaxrep.stats.proportions import clustered_wilson


def test_rows_that_are_clusters_give_wilsons_interval():
  right = np.arange(200) < 170
  found = clustered_wilson(right, np.arange(200))
  # The variance of clusters has n - 1 below it, the binomial one n.
  expected = stats.binomtest(170, 200).proportion_ci(method='wilson')
  assert found == pytest.approx((expected.low, expected.high), abs=5e-4)


def test_copies_of_a_row_tell_nothing_more():
  right = np.arange(60) % 3 > 0
  once = clustered_wilson(right, np.arange(60))
  tenfold = clustered_wilson(np.repeat(right, 10), np.repeat(np.arange(60), 10))
  assert tenfold == pytest.approx(once)


@pytest.mark.parametrize('value', [True, False])
def test_no_variation_is_no_certainty(value):
  """All of 40 clusters right: the interval of 40 rows, not of 320."""
  right = np.full(320, value)
  low, high = clustered_wilson(right, np.repeat(np.arange(40), 8))
  expected = stats.binomtest(40 * value, 40).proportion_ci(method='wilson')
  assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(('a', 'b'), [(4, 1), (2, 2), (20, 2)])
def test_holds_the_expected_share_of_clustered_rows(a, b):
  """2,000 samples of 40 clusters of 8 whose shares are Beta(a, b)."""
  random = np.random.default_rng(a)
  cluster = np.repeat(np.arange(40), 8)
  held, narrow = 0, 0
  for _ in range(2000):
    share = np.repeat(random.beta(a, b, 40), 8)
    right = random.random(320) < share
    low, high = clustered_wilson(right, cluster)
    held += low <= a / (a + b) <= high
    low, high = clustered_wilson(right, np.arange(320))
    narrow += low <= a / (a + b) <= high
  assert 0.93 <= held / 2000 <= 0.97
  assert narrow < held


def test_cross_validation_widens_by_its_factor():
  """Five splits: 4 / 9 of the rows, unless there is nothing to go by."""
  right = np.arange(180) % 3 > 0
  plain = clustered_wilson(np.arange(81) % 3 > 0, np.arange(81))
  split = clustered_wilson(right, np.arange(180), splits=5)
  # 180 rows over five splits count as 80 and not as the 81 of the other.
  assert split[1] - split[0] == pytest.approx(plain[1] - plain[0], rel=0.02)
  every = np.full(40, True), np.arange(40)
  assert clustered_wilson(*every, splits=5) == clustered_wilson(*every)
