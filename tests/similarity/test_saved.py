"""Finished tiles on disk: found again, never out of date."""

import numpy as np
import pytest
from etils import epath

from jaxrep import similarity
from jaxrep.similarity import Calibration, blocks, saved, scoring
from tests.similarity import oracle


def sides(count=5):
  return {str(i): oracle.related(48, 20, 20, seed=i)[0] for i in range(count)}


@pytest.fixture
def computed(monkeypatch):
  """The tiles that were computed and not found."""
  seen, compute = [], scoring._compute

  def watch(made, pair, *rest):
    seen.append(pair)
    return compute(made, pair, *rest)

  monkeypatch.setattr(scoring, '_compute', watch)
  monkeypatch.setattr(blocks, 'SIZE', 2)
  return seen


def assert_equal(found, expected):
  for name in (*scoring.NUMBERS, 'k', 'status'):
    np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_a_killed_map_goes_on_where_it_was(tmp_path, computed):
  whole = similarity.all_pairs(sides(), 'cka', folder=tmp_path)
  assert len(computed) == 6
  for lost in sorted(tmp_path.iterdir())[:2]:
    lost.unlink()
  computed.clear()
  again = similarity.all_pairs(sides(), 'cka', folder=tmp_path)
  assert len(computed) == 2
  assert_equal(again, whole)


def test_blocks_change_no_exact_number(computed):
  tiled = similarity.all_pairs(sides(), 'cka_debiased')
  assert len(computed) == 6
  blocks.SIZE = 256
  whole = similarity.all_pairs(sides(), 'cka_debiased')
  for name in ('value', 'floor', 'floor_sd', 'p', 'ci_low'):
    np.testing.assert_allclose(
      getattr(tiled, name), getattr(whole, name), atol=1e-6
    )


def test_family_wise_p_is_that_of_the_whole_map(computed):
  chosen = Calibration(joint=39)
  tiled = similarity.all_pairs(sides(), 'cka', chosen)
  blocks.SIZE = 256
  whole = similarity.all_pairs(sides(), 'cka', chosen)
  np.testing.assert_allclose(tiled.p_map, whole.p_map, atol=1e-9)


@pytest.mark.parametrize(
  'change',
  [
    {'calibration': Calibration(seed=1)},
    {'measure': 'cka_debiased'},
    {'data': 1},
  ],
  ids=lambda change: next(iter(change)),
)
def test_what_was_made_of_something_else_is_not_taken(
  tmp_path, computed, change
):
  similarity.all_pairs(sides(2), 'cka', folder=tmp_path)
  computed.clear()
  other = sides(2)
  other['0'][3, 4] += change.get('data', 0)
  similarity.all_pairs(
    other,
    change.get('measure', 'cka'),
    change.get('calibration'),
    folder=tmp_path,
  )
  assert len(computed) == 1


def test_other_clusters_are_another_tile(tmp_path, computed):
  pair = np.array([[0, 1]])
  for clusters in (None, list(range(24)) * 2, None):
    similarity.score_pairs(
      sides(2), pair, 'cka', clusters=clusters, folder=tmp_path
    )
  assert len(computed) == 2


def test_a_tile_is_there_as_a_whole_or_not_at_all(tmp_path):
  arrays = {'value': np.arange(3.0), 'status': np.array(['ok', '', 'x'])}
  folder = epath.Path(tmp_path)
  saved.save(folder, 'one', arrays)
  assert [path.name for path in tmp_path.iterdir()] == ['one.npz']
  found = saved.load(folder, 'one')
  assert set(found) == set(arrays)
  for name, values in arrays.items():
    np.testing.assert_array_equal(found[name], values)
  assert saved.load(folder, 'two') is None


def test_a_damaged_tile_is_computed_anew(tmp_path, computed):
  whole = similarity.all_pairs(sides(3), 'cka', folder=tmp_path)
  path, *_ = sorted(tmp_path.iterdir())
  data = path.read_bytes()
  for changed in (b'', data[:-1], data[:99] + b'x' + data[100:]):
    path.write_bytes(changed)
    computed.clear()
    again = similarity.all_pairs(sides(3), 'cka', folder=tmp_path)
    assert len(computed) == 1
    assert_equal(again, whole)
    assert path.read_bytes() == data


def test_a_tile_of_other_code_is_not_taken(tmp_path, computed, monkeypatch):
  similarity.all_pairs(sides(2), 'cka', folder=tmp_path)
  monkeypatch.setattr(saved.code, 'digest', lambda *_: 'another version')
  similarity.all_pairs(sides(2), 'cka', folder=tmp_path)
  assert len(computed) == 2


def test_only_what_cannot_change_is_named_once(tmp_path, computed):
  """The name of an array that may be written to is made anew each time."""
  for writeable, tiles in ((True, 2), (False, 1)):
    computed.clear()
    x, folder = sides(2), tmp_path / str(writeable)
    x['0'].flags.writeable = writeable
    similarity.all_pairs(x, 'cka', folder=folder)
    assert (id(x['0']) in saved._KNOWN) != writeable
    if writeable:
      x['0'][3, 4] += 1
    similarity.all_pairs(x, 'cka', folder=folder)
    assert len(computed) == tiles
    key = id(x['0'])
    del x
    assert key not in saved._KNOWN
