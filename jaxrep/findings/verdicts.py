"""From intervals to verdicts, by one published table.

A finding's statistic is positive where it holds. Its interval before
calibration and that after it each show one of four things: it is positive, it
is negative, there is nothing (the interval holds 0 and nothing as large as the
smallest effect of interest, an equivalence test by the interval), or it is
open (the interval holds 0, and more).
"""

from typing import Literal, NamedTuple

Shown = Literal['positive', 'negative', 'nothing', 'open']
Verdict = Literal[
  'holds',
  'holds only before calibration',
  'holds only after calibration',
  'reversed',
  'no effect',
  'undecided',
]

# (before calibration, after it); what is before matters only where it is
# positive, since what a claim is worth is decided after calibration.
TABLE: dict[tuple[bool, Shown], Verdict] = {
  (True, 'positive'): 'holds',
  (False, 'positive'): 'holds only after calibration',
  (True, 'nothing'): 'holds only before calibration',
  (False, 'nothing'): 'no effect',
  (True, 'open'): 'undecided',
  (False, 'open'): 'undecided',
  (True, 'negative'): 'reversed',
  (False, 'negative'): 'reversed',
}


class Interval(NamedTuple):
  low: float
  high: float


def shown(interval: Interval, smallest: float) -> Shown:
  """What an interval shows; `smallest` is the smallest effect of interest."""
  if interval.low > 0:
    return 'positive'
  if interval.high < 0:
    return 'negative'
  if -smallest < interval.low and interval.high < smallest:
    return 'nothing'
  return 'open'


def verdict(raw: Interval, calibrated: Interval, smallest: float) -> Verdict:
  """The table's entry."""
  before = shown(raw, smallest) == 'positive'
  return TABLE[before, shown(calibrated, smallest)]
