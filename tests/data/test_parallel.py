import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrep.data import parallel
from jaxrep.types import InputError

ENG, FRA, SWH = ('eng', 'text'), ('fra', 'text'), ('swh', 'speech')


def test_pairs_with_equal_ids_share_a_group():
  sides = {
    ENG: ['3', '1', '2', '1'],
    FRA: ['1', '2', '3'],
    SWH: ['2', '9', '3'],
  }
  groups, short = parallel.common_ids(sides, 'pair', 2)
  assert groups == (
    (('1', '2', '3'), ((ENG, ENG), (ENG, FRA), (FRA, FRA))),
    (('2', '3'), ((ENG, SWH), (FRA, SWH))),
    (('2', '3', '9'), ((SWH, SWH),)),
  )
  assert short == ()


def test_pairs_with_too_few_ids_become_null_cells():
  sides = {ENG: ['1', '2', '3'], FRA: ['3', '4', '5'], SWH: []}
  groups, short = parallel.common_ids(sides, 'pair', 2)
  assert [group.pairs for group in groups] == [((ENG, ENG),), ((FRA, FRA),)]
  assert {s.pair: s.common for s in short} == {
    (ENG, FRA): 1,
    (ENG, SWH): 0,
    (FRA, SWH): 0,
    (SWH, SWH): 0,
  }
  assert short[0].reason == '1 common sentences, 2 are needed'


def test_all_takes_the_ids_of_every_side():
  sides = {ENG: ['1', '2', '3'], FRA: ['2', '3', '4'], SWH: ['3', '2']}
  groups, short = parallel.common_ids(sides, 'all', 2)
  assert [group.ids for group in groups] == [('2', '3')]
  assert groups[0].pairs == tuple(
    itertools.combinations_with_replacement(sides, 2)
  )
  assert short == ()


def test_all_names_the_languages_that_leave_too_few():
  usual = [str(i) for i in range(20)]
  sides = {
    ENG: usual,
    FRA: usual[1:],
    ('tam', 'text'): usual,
    # More ids than anyone, and few that the others have.
    SWH: [*usual[:3], *(f'x{i}' for i in range(40))],
  }
  with pytest.raises(InputError) as error:
    parallel.common_ids(sides, 'all', 5)
  message = str(error.value)
  assert 'leaves 2 sentences, 5 are needed' in message
  assert 'swh speech (17), fra text (1). ' in message
  assert '--common_ids=pair' in message


@pytest.mark.parametrize('mode', ['pair', 'all'])
def test_nothing_to_align_is_an_error(mode):
  with pytest.raises(InputError, match='nothing to align'):
    parallel.common_ids({}, mode, 1)


def test_sides_without_any_id_are_all_short():
  groups, short = parallel.common_ids({ENG: [], FRA: []}, 'pair', 1)
  assert groups == () and len(short) == 3
  with pytest.raises(InputError, match='leaves 0 sentences'):
    parallel.common_ids({ENG: [], FRA: []}, 'all', 1)


@given(
  st.lists(st.lists(st.integers(0, 20).map(str)), min_size=1, max_size=5),
  st.integers(1, 6),
)
def test_agrees_with_sets(columns, minimum):
  sides = {(f'l{i}', 'text'): ids for i, ids in enumerate(columns)}
  alignment = parallel.common_ids(sides, 'pair', minimum)
  found = {pair: ids for ids, pairs in alignment.groups for pair in pairs}
  expected = {
    (a, b): tuple(sorted(set(sides[a]) & set(sides[b])))
    for a, b in itertools.combinations_with_replacement(sides, 2)
  }
  kept = {p: ids for p, ids in expected.items() if len(ids) >= minimum}
  assert found == kept
  assert {s.pair: s.common for s in alignment.short} == {
    p: len(ids) for p, ids in expected.items() if p not in kept
  }
  assert len(alignment.groups) == len(set(kept.values()))
  summary = parallel.summarise(sides, alignment)
  assert summary.ids == {side: len(set(ids)) for side, ids in sides.items()}
  assert summary.sets == len(alignment.groups)
  assert summary.common == len(set.intersection(*map(set, columns)))
  assert summary.bases == len(
    {(side, ids) for pair, ids in kept.items() for side in pair}
  )
  assert (summary.pairs, summary.short) == (
    len(kept),
    len(expected) - len(kept),
  )


def test_the_order_of_ids_does_not_matter():
  rng = random.Random(0)
  ids = [str(i) for i in range(400)]
  sides = {(f'l{i}', 'text'): rng.sample(ids, 350) for i in range(6)}
  shuffled = {s: rng.sample(own, len(own)) for s, own in sides.items()}
  assert parallel.common_ids(sides, 'pair', 9) == parallel.common_ids(
    shuffled, 'pair', 9
  )
