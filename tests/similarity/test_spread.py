"""Intervals of scores and of differences between cells."""

import numpy as np
import pytest

from jaxrep import similarity
from jaxrep.similarity import Calibration
from jaxrep.types import InputError
from tests.similarity import oracle

N = 90
SUBSETS = Calibration(replicates=24)


def leave_one_out(truth, x, y):
  """Standard error of the delete-one jackknife, by brute force."""
  every = np.arange(len(x))
  values = [truth(x[every != i], y[every != i]) for i in every]
  return np.sqrt((len(x) - 1) * np.var(values))


@pytest.mark.parametrize('name', ['cka', 'cka_debiased'])
def test_closed_form_is_near_the_jackknife_far_from_chance(name):
  x, y = oracle.related(N, 40, 60)
  found = similarity.compare(x, y, name)
  width = (found.ci_high - found.ci_low) / 2
  error = leave_one_out(oracle.MEASURES[name], x, y)
  assert 1.5 * error < width < 2.5 * error


def test_other_measures_have_intervals_where_asked_for():
  x, y = oracle.related(N, 40, 60)
  assert similarity.svcca(x, y, k=5).ci_low is None
  more = Calibration(replicates=20)  # rounded up to whole rounds of three
  rounded = similarity.svcca(x, y, calibration=more).definition
  assert 'from 21 subsets of two thirds' in rounded
  found = similarity.svcca(x, y, k=5, calibration=SUBSETS)
  assert found.ci_low < found.value < found.ci_high
  assert 'from 24 subsets of two thirds' in found.definition
  assert (
    similarity.cka(x, y, calibration=Calibration(intervals=False)).ci_low
    is None
  )


def test_recordings_of_a_sentence_stay_together():
  # Copies of each sentence add nothing: the interval must not shrink.
  x, y = oracle.related(45, 40, 60)
  alone = similarity.compare(x, y, 'cka')
  twice = {name: np.concatenate([s, s]) for name, s in (('x', x), ('y', y))}
  pair, labels = np.array([[0, 1]]), list(range(45)) * 2
  kept, apart = (
    similarity.score_pairs(twice, pair, 'cka', clusters=clusters)
    for clusters in (labels, None)
  )
  width = alone.ci_high - alone.ci_low
  assert kept.ci_high[0] - kept.ci_low[0] == pytest.approx(width, rel=0.15)
  assert apart.ci_high[0] - apart.ci_low[0] < 0.8 * width


def test_contrast_finds_the_pair_that_is_more_alike():
  x, y = oracle.related(N, 40, 60)
  noise = 2 * y.std() * np.random.default_rng(0).normal(size=y.shape)
  found = similarity.contrast(
    (x, y), (x, y + noise), 'svcca', k=5, calibration=SUBSETS
  )
  assert [c.measure for c in found] == [
    'svcca',
    'cka_debiased',
    'svcca_heldout',
  ]
  for one in found:
    assert one.difference == pytest.approx(one.first - one.second)
    assert one.ci_low < one.difference < one.ci_high
    assert one.n == N
  assert found[1].p < 0.01
  back = similarity.contrast(
    (x, y + noise), (x, y), 'cka_debiased', k=5, calibration=SUBSETS
  )
  assert back[0].difference == pytest.approx(-found[1].difference)
  assert back[0].p == pytest.approx(found[1].p)


def test_contrast_of_a_pair_with_itself_is_nothing():
  x, y = oracle.related(N, 40, 60)
  for one in similarity.contrast((x, y), (x, y), k=5, calibration=SUBSETS):
    assert one.difference == one.ci_low == one.ci_high == 0


def test_contrasts_that_chance_would_decide_are_refused():
  x, y = oracle.related(N, 40, 60)
  with pytest.raises(
    InputError, match=r'n=\[90, 90\] and n=\[80, 80\].*depend on n'
  ):
    similarity.contrast((x, y), (x[:80], y[:80]), k=5)
  with pytest.raises(InputError, match=r'svcca keeps components.*give k'):
    similarity.contrast((x, y), (x, y))
  with pytest.raises(InputError, match='contrast needs subsets'):
    similarity.contrast((x, y), (x, y), k=5, calibration=Calibration())
  for measure in ('svcca_anatome', 'cca'):
    with pytest.raises(InputError, match=f'{measure} keeps k=.* equal rank'):
      similarity.contrast(
        *((x, y), (x, y[:, :3]), measure), k=2, calibration=SUBSETS
      )
  with pytest.raises(InputError, match=r'd has 3 components .* not k=5'):
    similarity.contrast((x, y), (x, y[:, :3]), k=5)


def test_too_few_subsets_are_refused():
  with pytest.raises(InputError, match='replicates=3: an interval needs'):
    Calibration(replicates=3)
