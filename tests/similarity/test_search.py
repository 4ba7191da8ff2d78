"""Retrieval against float64, by hand, with ties, and its chance level."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.similarity import search
from jaxrep.similarity.measure import Parameters
from tests.similarity import oracle_rows

EXACT = 1e-6
WHAT = {
  'RETRIEVAL_R1': {},
  'RETRIEVAL_R5': {'at': 5},
  'CSLS_R1': {'likeness': 'csls'},
  'UNCENTRED_R1': {'likeness': 'uncentred'},
}
# Name -> the measure, and its float64 answer.
MEASURES = {
  name + suffix: (
    getattr(search, name + suffix),
    functools.partial(oracle_rows.retrieval, back=bool(suffix), **what),
  )
  for name, what in WHAT.items()
  for suffix in ('', '_BACK')
}
OF_BOTH_SIDES = {
  *('both rotated', 'scale', 'both scaled', 'wider by zeros', 'both permuted'),
}
UNCHANGED = {'shift', 'both shifted', *OF_BOTH_SIDES}
every = pytest.mark.parametrize('name', MEASURES)
# The other direction is the same code with its sides turned, which is tested.
one_way = pytest.mark.parametrize('name', WHAT)


@one_way
@pytest.mark.parametrize('regime', oracle_rows.REGIMES)
def test_agrees_with_float64(regime, name):
  x, y = oracle_rows.REGIMES[regime]
  measure, truth = MEASURES[name]
  found = oracle_rows.score(measure, x, y)
  assert found == pytest.approx(truth(x, y), abs=EXACT)


@one_way
def test_changes_only_under_what_it_should(name):
  uncentred = name.startswith('UNCENTRED')
  unchanged = {'rows scaled', *OF_BOTH_SIDES} if uncentred else UNCHANGED
  oracle_rows.check_changes(MEASURES[name][0], unchanged)


@one_way
def test_identical_is_one(name):
  x, _ = oracle_rows.sides()
  assert oracle_rows.score(MEASURES[name][0], x, x) == pytest.approx(
    1, abs=EXACT
  )


@every
def test_back_is_the_other_direction(name):
  x, y = oracle_rows.sides()
  other = name[:-5] if name.endswith('_BACK') else name + '_BACK'
  turned = oracle_rows.score(MEASURES[other][0], y, x)
  assert oracle_rows.score(MEASURES[name][0], x, y) == turned


def test_centring_finds_what_an_offset_hides():
  x, y = oracle_rows.sides(noise=0.2)
  y = y + 20 * np.random.default_rng(0).normal(size=40).astype(np.float32)
  assert oracle_rows.score(search.RETRIEVAL_R1_BACK, x, y) > 0.95
  assert oracle_rows.score(search.UNCENTRED_R1_BACK, x, y) < 0.05


def test_csls_takes_hubs_away():
  # Three targets lie in a direction that half of the queries share.
  rng = np.random.default_rng(0)
  x, common = rng.normal(size=(60, 40)), rng.normal(size=40)
  x[:30] += 2 * common
  y = x + 1.5 * rng.normal(size=x.shape)
  y[:3] += 6 * common
  plain = oracle_rows.score(search.RETRIEVAL_R1, x, y)
  assert oracle_rows.score(search.CSLS_R1, x, y) > plain + 0.1


def test_ranks_by_hand():
  # On a circle, centred. Each query's counterpart is turned by 25 degrees, the
  # next target is 20 degrees off: rank 2 for all. Back is the same.
  angle = np.deg2rad(45 * np.arange(8))
  x, y = (
    np.stack([np.cos(a), np.sin(a)], axis=1)
    for a in (angle, angle + np.deg2rad(25))
  )
  assert oracle_rows.score(search.RETRIEVAL_R1, x, y) == 0
  assert oracle_rows.score(search.RETRIEVAL_R1_BACK, x, y) == 0
  assert oracle_rows.score(search.RETRIEVAL_R5, x, y) == 1
  # Turned by 180 degrees it is the last of 8.
  assert oracle_rows.score(search.RETRIEVAL_R5, x, -x) == 0


def test_ties_get_the_credit_of_a_random_order():
  # Three groups of 4, 2 and 6 equal sentences: 1/4, 1/2 and 1/6 at first.
  labels = np.repeat([0, 1, 2], [4, 2, 6])
  x = oracle_rows.sides(3, 9)[0][labels]
  for name in ('RETRIEVAL_R1', 'CSLS_R1', 'UNCENTRED_R1'):
    found = oracle_rows.score(getattr(search, name), x, x, neighbours=3)
    assert found == pytest.approx(3 / 12, abs=EXACT), name
  found = oracle_rows.score(search.RETRIEVAL_R5, x, x)
  assert found == pytest.approx((4 + 2 + 5) / 12, abs=EXACT)


def test_two_kinds_of_targets_leave_chance_among_their_kind():
  # Of 60 targets 30 are alike and so are the others: at best 1 in 30.
  x = np.repeat(oracle_rows.sides(2, 40)[0], 30, axis=0)
  noisy = x + 1e-3 * np.random.default_rng(0).normal(size=x.shape)
  for name in ('RETRIEVAL_R1', 'CSLS_R1', 'UNCENTRED_R1'):
    found = oracle_rows.score(getattr(search, name), noisy, x)
    assert found == pytest.approx(1 / 30, abs=EXACT), name
  found = oracle_rows.score(search.RETRIEVAL_R5, noisy, x)
  assert found == pytest.approx(5 / 30, abs=EXACT)


def test_without_a_direction_there_is_no_value():
  x = np.array([[-1, -2], [0, 0], [1, 2], [3, -1], [-3, 1]], float)
  assert not oracle_rows.factor(search.UNCENTRED_R1, x).defined
  assert not oracle_rows.factor(search.RETRIEVAL_R1, x + 0.3).defined
  assert oracle_rows.factor(search.UNCENTRED_R1, x + 0.3).defined
  x[0] += 0.01
  assert oracle_rows.factor(search.RETRIEVAL_R1, x).defined


def test_csls_needs_as_many_sentences_as_neighbours():
  x, _ = oracle_rows.sides(12)
  assert oracle_rows.factor(search.CSLS_R1, x, neighbours=12).defined
  assert not oracle_rows.factor(search.CSLS_R1, x, neighbours=13).defined


def test_least_leaves_room_for_chance():
  for measure, _ in MEASURES.values():
    assert measure.law(np.zeros(1), np.zeros(1), measure.least)[0] < 1


@one_way
def test_mask_is_subset(name):
  oracle_rows.check_mask_is_subset(MEASURES[name][0])


@one_way
def test_vmapped_is_alone(name):
  oracle_rows.check_vmapped_is_alone(MEASURES[name][0])


@every
def test_law_is_the_mean_over_all_720_pairings(name):
  measure, truth = MEASURES[name]
  parameters = {'neighbours': 2} if name.startswith('CSLS') else {}
  values = oracle_rows.over_pairings(measure, truth, **parameters)
  law = measure.law(np.zeros(1), np.zeros(1), 6)
  assert law == pytest.approx(values.mean(), abs=1e-12)
  assert values.std() > 0.05


def test_chance_is_exact_with_equal_sentences():
  # Over the six rotations every query meets every target as its counterpart.
  x = oracle_rows.sides(3, 9, 9)[0][[0, 0, 1, 1, 1, 2]]
  y = oracle_rows.sides(4, 9, 9)[1][[0, 1, 1, 2, 2, 3]]
  scores = [
    oracle_rows.score(search.RETRIEVAL_R1, x, np.roll(y, shift, axis=0))
    for shift in range(6)
  ]
  assert np.mean(scores) == pytest.approx(1 / 6, abs=EXACT)
  assert np.std(scores) > 0.01


def test_hits_ignore_invalid_targets():
  likeness = jnp.asarray([[1.0, 2.0, 9.0], [0.0, 1.0, 9.0], [9.0, 9.0, 0.0]])
  valid = jnp.asarray([True, True, False])
  found = search.hits(likeness, jnp.zeros(3), valid, 1)
  assert found == pytest.approx(0.5)


def test_invalid_queries_are_nobodys_neighbours():
  valid = np.arange(12) < 8
  for seed in range(8):
    x, y = oracle_rows.sides(12, seed=seed)
    truth = oracle_rows.retrieval(x[:8], y[:8], likeness='csls', neighbours=8)
    found = oracle_rows.score(search.CSLS_R1, x, y, valid, neighbours=8)
    assert found == pytest.approx(truth, abs=EXACT), seed


def test_the_definitions_tell_all_apart():
  told = {m.describe(Parameters()) for m, _ in MEASURES.values()}
  assert len(told) == 8
  csls = search.CSLS_R1.describe(Parameters(neighbours=7))
  assert 'CSLS, with 7 neighbours' in csls
