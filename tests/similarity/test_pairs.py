"""Maps and lists of pairs: the same numbers in any order, tiling or place."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import AxisType

from jaxrep import similarity
from jaxrep.registry import resolve
from jaxrep.similarity import (
  MEASURES,
  Calibration,
  Parameters,
  overlap,
  pairs,
  scoring,
  tiles,
)
from jaxrep.similarity.blocks import Blocks
from jaxrep.similarity.canonical import SVCCA
from jaxrep.types import InputError
from tests.similarity import oracle

N = 90
FIELDS = (*scoring.NUMBERS, 'k', 'k_a', 'k_b')
QUICK = Calibration(permutations=2)


def representations(count=6):
  """Three widths around one latent."""
  found = {}
  for i in range(count // 2):
    found[f'a{i}'], found[f'b{i}'] = oracle.related(N, 60, (60, 128, 40)[i % 3])
  return found


def every_pair(count):
  return np.stack(np.triu_indices(count), axis=1)


def assert_same(found, expected, allowed=1e-6):
  """Equal but for the rounding of products in batches of another size."""
  for field in FIELDS:
    # Far from the floor z and p magnify the rounding of the value.
    relative = {'z': 1e-3, 'p': 0.1, 'calibrated': 1e-5}.get(field, 0)
    np.testing.assert_allclose(
      getattr(found, field),
      getattr(expected, field),
      rtol=relative,
      atol=allowed,
      err_msg=field,
    )
  assert list(found.status) == list(expected.status)


@pytest.fixture
def counted(monkeypatch):
  """SVCCA as another row of the table, counting how often it is traced."""
  traces = {'factor': 0, 'score': 0}

  def factor(*args, **kwargs):
    traces['factor'] += 1
    return SVCCA.factor(*args, **kwargs)

  def score(*args):
    traces['score'] += 1
    return SVCCA.score(*args)

  row = SVCCA._replace(factor=factor, score=score, nuclear=False, law=None)
  monkeypatch.setattr(sys.modules[__name__], 'ROW', row, raising=False)
  monkeypatch.setitem(MEASURES, 'counted', f'{__name__}:ROW')
  return traces


@pytest.mark.parametrize('name', MEASURES)
def test_every_measure_keeps_the_contract(name):
  measure = resolve(MEASURES[name])
  sides = representations(2) if measure.same_width else representations()
  found = similarity.all_pairs(sides, name, QUICK)
  m = len(sides)
  assert (found.names, found.n, found.measure) == (tuple(sides), N, name)
  assert np.all(found.status == 'ok')
  for field in (*scoring.NUMBERS, 'k'):
    matrix = getattr(found, field)
    assert matrix.shape == (m, m)
    if measure.symmetric:
      np.testing.assert_array_equal(matrix, matrix.T)
  np.testing.assert_allclose(
    found.calibrated, (found.value - found.floor) / (1 - found.floor), atol=1e-6
  )
  assert np.isfinite(found.floor).all() == measure.paired
  assert measure.describe(Parameters()) in found.definition


# The others differ from one of these in what each side is turned to.
KERNELS = (
  *('svcca', 'svcca_heldout', 'svcca_google', 'svcca_netrep', 'cca', 'pwcca'),
  *('mean_squared_cca', 'cka', 'procrustes', 'retrieval_r1_back'),
  *('retrieval_csls_r1', 'centroid_distance', 'norm_ratio'),
)


def test_every_measure_scores_by_a_kernel_of_these():
  def kernel(name):
    measure = resolve(MEASURES[name])
    return getattr(measure.score, '__code__', measure.score)

  assert {kernel(name) for name in MEASURES} == set(map(kernel, KERNELS))


@pytest.mark.parametrize('name', KERNELS)
def test_one_and_eight_devices_give_the_same_numbers(name, monkeypatch):
  assert jax.device_count() == 8
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  sides, cells = representations(2), every_pair(2)
  one = similarity.score_pairs(sides, cells, name, None, QUICK)
  placed, place = [], tiles._place

  def watch(*args):
    placed.append(place(*args))
    return placed[-1]

  monkeypatch.setattr(tiles, '_place', watch)
  many = similarity.score_pairs(sides, cells, name, None, QUICK, mesh=mesh)
  assert_same(many, one)
  for array in placed:
    shards = array.addressable_shards
    assert len({shard.device for shard in shards}) == 8
    assert shards[0].data.size == array.size // 8


def test_the_mesh_that_is_set_is_used():
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  sides = representations(2)
  one = similarity.all_pairs(sides, 'cka')
  with jax.set_mesh(mesh):
    many = similarity.all_pairs(sides, 'cka')
    assert pairs._mesh(None) == mesh
  np.testing.assert_allclose(many.value, one.value, atol=1e-6)


def test_a_mesh_without_the_axis_is_named():
  mesh = jax.make_mesh((8,), ('model',), axis_types=(AxisType.Auto,))
  with pytest.raises(InputError, match="no axis 'data'"):
    similarity.all_pairs(representations(2), mesh=mesh)


def test_tiling_changes_nothing(monkeypatch):
  sides, cells = representations(), every_pair(6)
  whole = similarity.score_pairs(sides, cells)
  monkeypatch.setattr(tiles, '_TILE', {'cpu': 4})
  monkeypatch.setattr(tiles, '_BATCH', {'cpu': 2})
  assert_same(similarity.score_pairs(sides, cells), whole)


def test_factors_that_leave_the_device_give_the_same_numbers(monkeypatch):
  sides, cells, kept = representations(), every_pair(6), []
  make = Blocks._make

  def noted(self, number):
    block = make(self, number)
    kept.append(block.factors.rows)
    return block

  monkeypatch.setattr(Blocks, '_make', noted)
  whole = similarity.score_pairs(sides, cells)
  monkeypatch.setattr(tiles, '_UNKNOWN', 0)
  assert_same(similarity.score_pairs(sides, cells), whole)
  assert [isinstance(rows, np.ndarray) for rows in kept] == [False, True]


def test_padding_changes_nothing_beyond_rounding(monkeypatch):
  sides, cells = representations(), every_pair(6)
  whole = similarity.score_pairs(sides, cells)
  monkeypatch.setattr(tiles, '_GRAIN', 7)
  other = similarity.score_pairs(sides, cells)
  assert_same(other, whole, 2e-6)


def test_a_pair_has_its_numbers_in_any_order():
  sides = representations()
  full = similarity.all_pairs(sides)
  flipped = similarity.all_pairs(dict(reversed(sides.items())))
  for field in scoring.NUMBERS:
    np.testing.assert_allclose(
      getattr(flipped, field)[::-1, ::-1], getattr(full, field), atol=1e-6
    )


def test_a_pair_has_its_value_in_any_company():
  sides = representations()
  full = similarity.all_pairs(sides)
  rows, columns = np.array([[4, 1, 2, 4], [1, 4, 2, 1]])
  some = similarity.score_pairs(sides, np.stack([rows, columns], axis=1))
  np.testing.assert_allclose(some.value, full.value[rows, columns], atol=1e-6)
  np.testing.assert_array_equal(some.k_a, full.k.diagonal()[rows])
  np.testing.assert_array_equal(some.k_b, full.k.diagonal()[columns])
  # Floors are learnt from all pairs of a call, so that they differ a little.
  np.testing.assert_allclose(some.floor, full.floor[rows, columns], atol=0.01)


def test_each_pair_and_each_used_side_is_computed_once(monkeypatch):
  seen, score = [], overlap.mean_cosines

  def watch(first, second, items, *rest):
    seen.append((len(first.k), list(zip(items.a, items.b, strict=True))))
    return score(first, second, items, *rest)

  monkeypatch.setattr(overlap, 'mean_cosines', watch)
  cells = np.array([[5, 2], [2, 5], [5, 5], [5, 2]])
  similarity.score_pairs(representations(), cells)
  values, floors = seen
  assert values[0] == floors[0] == 2
  assert len(values[1]) == 2
  assert sorted(map(sorted, values[1])) in ([[0, 1], [1, 1]], [[0, 0], [0, 1]])


def test_one_compilation_serves_every_k_and_variance(counted):
  sides, cells = representations(2), every_pair(2)
  for parameters in (Parameters(k=5), Parameters(k=11), Parameters(k=16)):
    found = similarity.score_pairs(sides, cells, 'counted', parameters, QUICK)
    assert np.all(found.k == parameters.k)
  first = dict(counted)
  for variance in (0.3, 0.4, 0.5):
    similarity.score_pairs(sides, cells, 'counted', Parameters(variance), QUICK)
  assert counted == first == {'factor': 1, 'score': 1}


def test_another_number_of_sentences_or_pairs_compiles_little(counted):
  x, y = oracle.related(96, 60, 60)
  fixed = Parameters(k=9)
  for n in (96, 93, 90, 85, 81):
    sides = {'x': x[:n], 'y': y[:n]}
    similarity.score_pairs(sides, every_pair(2), 'counted', fixed, QUICK)
  assert counted == {'factor': 1, 'score': 1}


def test_floor_agrees_with_a_long_simulation():
  x, y = oracle.related(N, 60, 60)
  rng = np.random.default_rng(0)
  k = 20
  bases = [np.linalg.svd(s - s.mean(0), full_matrices=False)[0] for s in (x, y)]
  u, v = (basis[:, :k].astype(np.float64) for basis in bases)
  draws = [
    np.linalg.svd(u.T @ v[rng.permutation(N)], compute_uv=False).mean()
    for _ in range(2000)
  ]
  for permutations in (8, 500):
    chosen = Calibration(permutations=permutations)
    found = similarity.svcca(x, y, k=k, calibration=chosen)
    allowed = 4 * np.std(draws) * np.sqrt(1 / permutations + 1 / 2000)
    assert abs(found.floor - np.mean(draws)) < allowed
  assert found.floor_sd == pytest.approx(np.std(draws), rel=0.15)


def test_the_seed_decides_the_floor():
  x, y = oracle.related(N, 60, 60)
  chosen = [Calibration(seed=seed) for seed in (0, 0, 1)]
  found = [similarity.svcca(x, y, k=20, calibration=c).floor for c in chosen]
  assert found[0] == found[1] != found[2]


def test_independent_representations_are_at_the_floor():
  rng = np.random.default_rng(0)
  sides = {str(i): rng.normal(size=(N, 60)) for i in range(6)}
  off = ~np.eye(6, dtype=bool)
  for name, allowed in (('svcca', 0.02), ('cka', 0.02), ('cka_debiased', 0.02)):
    found = similarity.all_pairs(sides, name)
    assert abs(found.calibrated[off].mean()) < allowed
    if name != 'cka_debiased':
      assert found.value[off].min() > 0.35


def test_undefined_cells_have_a_reason_and_leave_the_others():
  sides = representations(2)
  x = sides['a0']
  broken = {
    'constant': np.full((N, 60), 0.1, np.float32),
    'constant64': np.full((N, 60), 0.1),
    'infinite': np.where(np.arange(N)[:, None] == 17, np.inf, x),
    'missing': np.where(np.arange(N)[:, None] > 87, np.nan, x),
    'thin': x[:, :5],
  }
  found = similarity.all_pairs(sides | broken, k=20)
  m = len(sides)
  clean = similarity.all_pairs(sides, k=20)
  np.testing.assert_array_equal(found.value[:m, :m], clean.value)
  np.testing.assert_allclose(found.floor[:m, :m], clean.floor, atol=1e-6)
  assert np.all(found.status[:m, :m] == 'ok')
  for field in ('value', 'floor', 'calibrated'):
    assert np.isnan(getattr(found, field)[m:]).all()
  reasons = dict(zip(found.names, found.status[0], strict=True))
  assert 'constant is constant' in reasons['constant']
  assert 'constant64 is constant' in reasons['constant64']
  assert 'infinite is not finite in row 17 (1 of n=90)' in reasons['infinite']
  assert 'missing is not finite in row 88 (2 of n=90)' in reasons['missing']
  assert reasons['thin'] == 'thin has 5 components (n=90, p=5), not k=20'


def test_a_map_of_nothing_usable_is_all_reasons():
  sides = {'x': np.ones((N, 3)), 'y': np.ones((N, 3))}
  found = similarity.all_pairs(sides)
  assert np.isnan(found.value).all()
  assert all('constant' in status for status in found.status.flat)
  few = similarity.all_pairs({'x': np.eye(2), 'y': np.eye(2)}, 'cka')
  assert all('n=2 sentences' in status for status in few.status.flat)


def test_no_pairs_are_no_scores():
  found = similarity.score_pairs(representations(2), np.zeros((0, 2), int))
  assert found.value.shape == found.status.shape == found.k.shape == (0,)


def test_other_numbers_of_rows_are_named():
  x, y = oracle.related(N, 60, 40)
  with pytest.raises(InputError, match='same number of rows: x 90, y 89'):
    similarity.svcca(x, y[:-1])
  with pytest.raises(InputError, match='none were given'):
    similarity.all_pairs({})


@pytest.mark.parametrize('shape', [(90,), (90, 4, 4), (90, 0)])
def test_a_shape_that_is_no_table_is_named(shape):
  with pytest.raises(InputError, match=r'y has shape.*90'):
    similarity.cka(np.zeros((N, 60)), np.zeros(shape))


def test_unknown_names_and_parameters_are_named():
  sides = representations(2)
  with pytest.raises(InputError, match='Did you mean svcca'):
    similarity.all_pairs(sides, 'svca')
  with pytest.raises(InputError, match='cka does not take k'):
    similarity.all_pairs(sides, 'cka', k=3)
  with pytest.raises(InputError, match='permutations=0'):
    Calibration(permutations=0)


def test_takes_numpy_jax_and_torch():
  x, y = oracle.related(N, 60, 40)
  x = x.astype(jnp.bfloat16).astype(np.float32)  # exact in each type below
  truth = similarity.svcca(x, y, k=9)
  others = [
    jnp.asarray(x),
    jnp.asarray(x, jnp.bfloat16),
    torch.tensor(x, requires_grad=True),
    torch.tensor(x).bfloat16(),
    x.astype(np.float64),
    x.tolist(),
  ]
  for other in others:
    found = similarity.svcca(other, y, k=9)
    expected = dataclasses.astuple(truth)[:3]
    np.testing.assert_allclose(
      dataclasses.astuple(found)[:3], expected, atol=1e-6
    )


def test_wider_types_keep_digits_that_float32_has_not():
  x, y = oracle.related(N, 60, 40)
  far = 1e200 * (x.astype(np.float64) + 1e7)
  found = similarity.svcca(far, y, k=9).value
  assert found == pytest.approx(similarity.svcca(x, y, k=9).value, abs=1e-5)


def test_importing_the_package_imports_no_jax():
  code = (
    'import sys, jaxrep.similarity as s; assert "jax" not in sys.modules;'
    's.cka; import jaxrep.similarity.pairs; assert callable(s.cka)'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


def test_no_file_has_the_name_of_a_function():
  for name in dir(similarity):
    assert f'jaxrep.similarity.{name}' not in sys.modules
