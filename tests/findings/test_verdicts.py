"""From intervals to verdicts."""

import pytest

from jaxrep.findings.verdicts import Interval, shown, verdict

INTERVALS = {
  'positive': Interval(0.01, 0.2),
  'negative': Interval(-0.2, -0.01),
  'nothing': Interval(-0.01, 0.015),
  'open': Interval(-0.01, 0.2),
}


@pytest.mark.parametrize('name', INTERVALS)
def test_an_interval_shows_one_of_four_things(name):
  assert shown(INTERVALS[name], 0.02) == name


@pytest.mark.parametrize(
  'interval,expected',
  [
    (Interval(0.0, 0.01), 'nothing'),
    (Interval(1e-9, 0.01), 'positive'),
    (Interval(-0.02, 0.0), 'open'),
    (Interval(-0.019, 0.019), 'nothing'),
    (Interval(-0.019, 0.02), 'open'),
  ],
)
def test_an_end_on_a_bound_is_on_the_side_of_less_said(interval, expected):
  assert shown(interval, 0.02) == expected


@pytest.mark.parametrize(
  'before,after,expected',
  [
    ('positive', 'positive', 'holds'),
    ('positive', 'nothing', 'holds only before calibration'),
    ('negative', 'positive', 'holds only after calibration'),
    ('open', 'positive', 'holds only after calibration'),
    ('positive', 'negative', 'reversed'),
    ('negative', 'negative', 'reversed'),
    ('nothing', 'nothing', 'no effect'),
    ('positive', 'open', 'undecided'),
    ('nothing', 'open', 'undecided'),
  ],
)
def test_what_is_published_of_the_table(before, after, expected):
  assert verdict(INTERVALS[before], INTERVALS[after], 0.02) == expected
