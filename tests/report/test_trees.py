import itertools

import pytest

from jaxrep.report import trees
from jaxrep.report.trees import Leaf, Merge

LEAVES = (
  Leaf('English', 'Indo-European', 'Germanic'),
  Leaf('German', 'Indo-European', 'Germanic'),
  Leaf('Hindi', 'Indo-European', 'Indo-Aryan'),
  Leaf('Tamil', 'Dravidian', 'South Dravidian'),
  Leaf('Telugu', 'Dravidian', 'South Dravidian'),
)
MERGES = (
  Merge(0.8, (None, None), (0.0, 1.0)),
  Merge(0.7, (None, None), (3.0, 4.0)),
  Merge(0.5, (0.8, None), (0.5, 2.0)),
  Merge(0.2, (0.5, 0.7), (1.25, 3.5)),
)


def crossings(panel):
  ends = [tie.y for tie in panel.ties]
  return sum(
    (a[0] - b[0]) * (a[1] - b[1]) < 0
    for a, b in itertools.combinations(ends, 2)
  )


def test_trees_that_agree_have_no_crossing_ties():
  panel = trees.facing('t', 'CKA', MERGES, LEAVES)
  assert crossings(panel) == 0
  assert len(panel.ties) == 5
  order = [0, 3, 1, 2, 4]
  mixed = trees.facing('t', 'CKA', MERGES, [LEAVES[i] for i in order])
  assert crossings(mixed) > 0


def test_a_family_of_several_branches_has_a_row_for_its_name():
  panel = trees.facing('t', 'CKA', MERGES, LEAVES)
  assert panel.rows == pytest.approx(5 + 1 + 0.4)
  right = {x.text: x for x in panel.labels if x.x > 0.5}
  assert {text for text, label in right.items() if label.bold} == {
    'Indo-European'
  }
  assert list(right) == ['Indo-European', 'Germanic', 'Indo-Aryan', 'Dravidian']
  heights = [tie.y[1] for tie in panel.ties]
  assert heights == pytest.approx([1.0, 2.0, 3.0, 4.4, 5.4])
  assert right['Germanic'].y == pytest.approx(1.5)
  assert right['Dravidian'].y == pytest.approx(4.9)


def test_forks_stand_at_their_level():
  panel = trees.facing('t', 'CKA', MERGES, LEAVES)
  forks = [one for one in panel.branches if one.hover.startswith('CKA')]
  assert [one.hover for one in forks] == [
    *('CKA 0.800', 'CKA 0.700', 'CKA 0.500', 'CKA 0.200')
  ]
  x = [one.x[1] for one in forks]
  assert x[3] == 0
  steps = [(a - b) / (x[0] - x[3]) for a, b in itertools.pairwise(x)]
  assert steps == pytest.approx([1 / 6, 2 / 6, 3 / 6])
  assert forks[3].x[0] == x[2]
  assert forks[3].x[3] == x[1]
  assert forks[0].x[0] == forks[2].x[3] > x[0]  # where all leaves are
  at = dict((text, place) for place, text in panel.ticks)
  assert at['0.2'] == pytest.approx(0)
  assert at['0.8'] == pytest.approx(x[0])


def test_distances_grow_towards_the_root():
  falling = trees.facing('t', 'CKA', MERGES, LEAVES)
  rising = [
    Merge(1 - m.level, tuple(s and 1 - s for s in m.starts), m.y)
    for m in MERGES
  ]
  panel = trees.facing('t', 'distance', rising, LEAVES)
  for one, other in zip(panel.branches, falling.branches, strict=True):
    assert one.x == pytest.approx(other.x)


def test_languages_of_unknown_family_are_no_relatives():
  leaves = [*LEAVES[:3], Leaf('One', '', ''), Leaf('Two', '', '')]
  panel = trees.facing('t', 'CKA', MERGES, leaves)
  unknown = [x for x in panel.labels if x.text == 'family unknown']
  assert len(unknown) == 2


def test_equal_levels_have_a_tree_too():
  merges = [Merge(0.5, (None, None), (0.0, 1.0))]
  panel = trees.facing('t', 'CKA', merges, LEAVES[:2])
  assert all(0 <= x <= 1 for one in panel.branches for x in one.x)
