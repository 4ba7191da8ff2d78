import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrep.data import batching
from jaxrep.types import Example, InputError

SECOND = 16_000

policies = st.builds(
  batching.Policy,
  grid=st.integers(1, 50),
  budget=st.integers(1, 2000),
  unit_size=st.integers(1, 40),
  max_rows=st.none() | st.integers(1, 20),
)
sorted_lengths = st.lists(st.integers(0, 500), max_size=150).map(sorted)


def read_sentences(languages: int) -> list[list[int]]:
  """Lengths as of FLEURS: 800 recordings a language, about 12 s each."""
  rng = np.random.default_rng(0)
  return [
    np.sort(
      np.clip(rng.lognormal(np.log(12) + shift, 0.4, 800), 2, 45) * SECOND
    )
    .astype(int)
    .tolist()
    for shift in rng.normal(0, 0.1, languages)
  ]


@given(sorted_lengths, policies)
def test_every_row_is_in_one_batch_of_one_unit(lengths, policy):
  units = batching.units(lengths, policy)
  assert [row for unit in units for row in unit.rows] == [*range(len(lengths))]
  for unit in units:
    assert len(unit.rows) <= policy.unit_size
    rows = [row for batch in unit.batches for row in batch.rows]
    assert sorted(rows) == list(unit.rows)


@given(sorted_lengths, policies)
def test_batches_hold_their_rows_and_keep_to_the_policy(lengths, policy):
  for unit in batching.units(lengths, policy):
    for batch in unit.batches:
      longest = max(lengths[row] for row in batch.rows)
      assert longest <= batch.padded_length
      assert batch.padded_length % policy.grid == 0
      assert batch.padded_length - max(longest, 1) < policy.grid
      assert 1 <= len(batch.rows) <= batch.size
      assert (
        batch.size == 1 or batch.size * batch.padded_length <= policy.budget
      )
      assert batch.size <= (policy.max_rows or batch.size)


@given(sorted_lengths, policies)
def test_only_the_last_batch_of_a_unit_has_dummy_rows(lengths, policy):
  for unit in batching.units(lengths, policy):
    *full, last = unit.batches
    assert all(len(batch.rows) == batch.size for batch in full)
    assert last.size < 2 * len(last.rows)


@given(sorted_lengths, policies)
def test_shapes_are_at_most_the_padded_lengths_and_the_units(lengths, policy):
  units = batching.units(lengths, policy)
  shapes = {
    (batch.padded_length, batch.size) for u in units for batch in u.batches
  }
  padded = {policy.padded(length) for length in lengths}
  assert len(shapes) <= len(padded) + len(units)


@given(sorted_lengths, policies)
def test_units_are_equally_large_but_for_the_last(lengths, policy):
  sizes = [len(unit.rows) for unit in batching.units(lengths, policy)]
  assert len(sizes) == math.ceil(len(lengths) / policy.unit_size)
  assert len(set(sizes[:-1])) <= 1
  assert all(last <= first for first, last in itertools.pairwise(sizes))


@given(sorted_lengths, policies)
def test_plan_is_deterministic(lengths, policy):
  plan = batching.units(lengths, policy)
  assert plan == batching.units(tuple(lengths), policy)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9))), st.randoms())
def test_order_does_not_depend_on_the_order_of_the_corpus(keys, random):
  rows = [
    (Example(id=f'{i % 5}', language='eng', text='', recording=i), length)
    for i, (length, _) in enumerate(keys)
  ]
  shuffled = random.sample(rows, len(rows))
  first, second = (
    [some[i] for i in batching.order(*zip(*some, strict=True))] if some else []
    for some in (rows, shuffled)
  )
  assert first == second
  lengths = [length for _, length in first]
  assert lengths == sorted(lengths)


def test_order_breaks_ties_by_id_and_recording():
  examples = [
    Example(id='b', language='eng', text=''),
    Example(id='a', language='eng', text='', recording=1),
    Example(id='a', language='eng', text='', recording=0),
    Example(id='c', language='eng', text=''),
  ]
  assert batching.order(examples, [5, 5, 5, 4]) == [3, 2, 1, 0]


def test_a_small_plan_by_hand():
  policy = batching.Policy(grid=10, budget=80, unit_size=8)
  units = batching.units([3, 4, 9, 11, 12, 25, 29, 31, 40], policy)
  assert units == (
    batching.Unit(
      range(0, 5),
      (
        batching.Batch(range(1, 5), 20, 4),
        batching.Batch(range(0, 1), 10, 1),
      ),
    ),
    batching.Unit(
      range(5, 9),
      (
        batching.Batch(range(7, 9), 40, 2),
        batching.Batch(range(5, 7), 30, 2),
      ),
    ),
  )


@pytest.mark.parametrize(
  'languages, budget, waste, shapes',
  [(1, 64, 8, 19), (1, 320, 11, 15), (30, 64, 8, 29), (30, 320, 10, 32)],
)
def test_padding_and_shapes_on_read_sentences(languages, budget, waste, shapes):
  policy = batching.Policy(grid=2 * SECOND, budget=budget * SECOND)
  corpus = read_sentences(languages)
  batches = [
    batch
    for lengths in corpus
    for unit in batching.units(lengths, policy)
    for batch in unit.batches
  ]
  computed = sum(batch.size * batch.padded_length for batch in batches)
  assert 100 * (1 - sum(map(sum, corpus)) / computed) < waste
  assert len({(b.padded_length, b.size) for b in batches}) <= shapes


def test_a_row_beyond_the_budget_is_a_batch_of_its_own():
  policy = batching.Policy(grid=10, budget=20)
  (unit,) = batching.units([5, 95], policy)
  assert unit.batches[0] == batching.Batch(range(1, 2), 100, 1)


def test_unsorted_rows_are_refused():
  with pytest.raises(ValueError, match='sorted'):
    batching.units([2, 1], batching.Policy(grid=1, budget=1))


@pytest.mark.parametrize('name', ['grid', 'budget', 'unit_size', 'max_rows'])
def test_policy_of_nothing_is_refused(name):
  with pytest.raises(InputError, match=name):
    batching.Policy(**{'grid': 1, 'budget': 1, name: 0})
