"""Values, intervals and effect sizes of statistics of known cells."""

import numpy as np
import pytest
from scipy import stats

from jaxrep.findings import cells as cells_of
from jaxrep.findings.cells import Place
from jaxrep.findings.estimates import estimate
from jaxrep.findings.scores import Scores
from jaxrep.stats import intervals

PAIR = ('text/1', 'speech/1')
NAMES = tuple('abcdefghijklmnopqrstuvwxyz')
N, ROUNDS = 60, 20


def scores_of(values, on_subsets, floor=0.2, reasons=None):
  def calibrated(x):
    return (x - floor) / (1 - floor)

  return Scores(
    *(N, (0, 0), values, calibrated(values), on_subsets),
    *(calibrated(on_subsets), reasons or ('',) * len(values)),
  )


def linear(generator, count):
  """Cells that are means over sentences of values of their own."""
  each = generator.normal(0.5, 0.3, (N, count))
  size = N // intervals.GROUPS
  subsets = np.array(
    [
      [
        np.delete(order, np.s_[g * size : (g + 1) * size])
        for g in range(intervals.GROUPS)
      ]
      for order in (generator.permutation(N) for _ in range(ROUNDS))
    ]
  )
  return each, scores_of(each.mean(axis=0), each[subsets].mean(axis=2))


def test_a_mean_over_languages_has_the_standard_error_of_its_sentences():
  """Each cell is a mean over sentences, so the statistic is one too."""
  each, scores = linear(np.random.default_rng(0), 4)
  units = {one: {cells_of.spoken(one, PAIR): 1.0} for one in NAMES[:4]}
  statistic = cells_of.mean(units)
  found = estimate(statistic, statistic.cells, scores).raw
  by_sentence = each.mean(axis=1)
  error = stats.sem(by_sentence)
  assert found.value == pytest.approx(by_sentence.mean())
  half = (found.interval.high - found.interval.low) / 2
  # An error of 40 degrees of freedom has a standard deviation of 11 %.
  assert half == pytest.approx(stats.t.ppf(0.975, 40) * error, rel=0.25)
  assert found.interval.low + half == pytest.approx(found.value)
  assert found.p == pytest.approx(
    2 * stats.t.sf(found.value / (half / stats.t.ppf(0.975, 40)), 40)
  )
  units = each.mean(axis=0)
  assert found.effect == pytest.approx(units.mean() / units.std(ddof=1))


def test_calibration_divides_by_the_room_above_the_floor():
  _, scores = linear(np.random.default_rng(1), 3)
  units = {
    one: {
      cells_of.spoken(one, PAIR): 1.0,
      cells_of.translated(one, 'z', 'text', 'text/1'): -1.0,
    }
    for one in 'a'
  }
  statistic = cells_of.mean(units)
  there = scores._replace(
    **{
      name: getattr(scores, name)[..., :2]
      for name in scores._fields
      if name.startswith(('raw', 'calibrated'))
    },
    reasons=('', ''),
  )
  found = estimate(statistic, statistic.cells, there)
  assert found.calibrated.value == pytest.approx(found.raw.value / 0.8)
  assert found.calibrated.p == pytest.approx(found.raw.p)
  assert found.raw.effect is None


def test_a_difference_of_groups_and_languages_at_random_are_welchs():
  generator = np.random.default_rng(2)
  _, scores = linear(generator, 26)
  units = {one: {cells_of.spoken(one, PAIR): 1.0} for one in NAMES}
  first, second = NAMES[:12], NAMES[12:]
  statistic = cells_of.difference(units, first, second)
  found = estimate(statistic, statistic.cells, scores).raw
  a, b = scores.raw[:12], scores.raw[12:]
  welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
  assert found.value == pytest.approx(a.mean() - b.mean())
  assert found.over_languages == pytest.approx((welch.low, welch.high))
  squares = 11 * np.var(a, ddof=1) + 13 * np.var(b, ddof=1)
  assert found.effect == pytest.approx(found.value / np.sqrt(squares / 24))
  mean = cells_of.mean({one: units[one] for one in first})
  students = stats.ttest_1samp(a, 0).confidence_interval()
  alone = estimate(mean, statistic.cells, scores).raw
  assert alone.over_languages == pytest.approx((students.low, students.high))
  few = cells_of.difference(units, first[1:], second)
  assert estimate(few, statistic.cells, scores).raw.over_languages is None


def test_rounding_is_no_effect():
  """Differences of what is all 1 are not exactly 0 when they are added up."""
  units = {
    one: {
      cells_of.spoken(one, PAIR): 1.0,
      **{
        cells_of.translated(one, other, 'text', 'text/1'): -1 / 6
        for other in NAMES[:7]
        if other != one
      },
    }
    for one in NAMES[:7]
  }
  statistic = cells_of.mean(units)
  count = len(statistic.cells)
  values = np.ones(count) - np.random.default_rng(0).uniform(0, 1e-15, count)
  on_subsets = np.ones((ROUNDS, intervals.GROUPS, count))
  on_subsets -= np.random.default_rng(1).uniform(0, 1e-15, on_subsets.shape)
  scores = scores_of(values, on_subsets)
  found = estimate(statistic, statistic.cells, scores).raw
  assert (found.value, found.interval, found.p) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize(('value', 'p'), [(1.0, 0.0), (0.0, 1.0)])
def test_languages_that_are_all_alike_tell_of_no_others(value, p):
  """As where all retrieve every sentence, on every subset too."""
  values = np.full(12, value)
  on_subsets = np.full((ROUNDS, intervals.GROUPS, 12), value)
  units = {one: {cells_of.spoken(one, PAIR): 1.0} for one in NAMES[:12]}
  statistic = cells_of.mean(units)
  scores = scores_of(values, on_subsets)
  found = estimate(statistic, statistic.cells, scores).raw
  assert found == (value, (value, value), p, None, None)


def test_a_unit_that_lacks_a_cell_is_left_out_and_a_lost_group_is_told():
  _, scores = linear(np.random.default_rng(3), 4)
  units = {one: {cells_of.spoken(one, PAIR): 1.0} for one in NAMES[:4]}
  statistic = cells_of.difference(units, 'abc', 'd')
  lost = scores._replace(
    raw=np.where([1, 0, 1, 1], scores.raw, np.nan),
    reasons=('', '7 common sentences, 20 are needed', '', ''),
  )
  found = estimate(statistic, statistic.cells, lost)
  assert (found.units, found.languages) == (3, 3)
  kept = scores.raw[[0, 2]].mean() - scores.raw[3]
  assert found.raw.value == pytest.approx(kept)
  gone = scores._replace(
    raw=np.where([1, 1, 1, 0], scores.raw, np.nan),
    reasons=('', '', '', '7 common sentences, 20 are needed'),
  )
  assert estimate(statistic, statistic.cells, gone) == gone.reasons[3]


def test_pairs_of_languages_are_not_drawn_at_random():
  _, scores = linear(np.random.default_rng(4), 15)
  units = {
    f'a {one}': {cells_of.translated('a', one, 'text', 'text/1'): 1.0}
    for one in NAMES[1:16]
  }
  statistic = cells_of.mean(units, of_pairs=True)
  found = estimate(statistic, statistic.cells, scores)
  assert found.raw.over_languages is None
  assert (found.units, found.languages) == (15, 16)
  assert statistic.cells[0][0] == Place('a', 'text', 'text/1')


@pytest.mark.parametrize('part', ['raw_on_subsets', 'calibrated_on_subsets'])
def test_a_cell_without_a_score_on_one_subset_is_left_out(part):
  _, scores = linear(np.random.default_rng(2), 3)
  units = {one: {cells_of.spoken(one, PAIR): 1.0} for one in 'abc'}
  statistic = cells_of.mean(units)
  broken = getattr(scores, part).copy()
  broken[3, 2, 1] = np.nan
  found = estimate(
    statistic, statistic.cells, scores._replace(**{part: broken})
  )
  assert found.units == 2
  for one in (found.raw, found.calibrated):
    assert np.isfinite([one.value, *one.interval, one.p]).all()
