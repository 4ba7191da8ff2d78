"""Degenerate input: a value that is right, or a reason; never a silent NaN."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxrep import similarity
from jaxrep.registry import resolve
from jaxrep.similarity import MEASURES, Calibration, Parameters, scoring, tiles
from jaxrep.similarity.heldout import splits_of
from jaxrep.types import InputError
from tests.similarity import oracle, oracle_cca, oracle_rows

EXACT = 1e-5
QUICK = Calibration(permutations=2)
# Sentences and features; of 3 and 4 sentences the kernels are the same.
SHAPES = [(3, 3), (4, 3), (17, 30)]
LEAST = {
  **dict.fromkeys(('svcca_heldout', 'cka_debiased', 'rsa'), -1),
  'cosine_gap': -2,
}
MOST = {'centroid_distance': 2, 'cosine_gap': 2}
UNUSABLE = {
  **dict.fromkeys(('zeros', 'constant'), 'is constant'),
  **dict.fromkeys(('NaN', 'Inf', '-Inf'), 'is not finite'),
}
CENTRED = [name for name in MEASURES if resolve(MEASURES[name]).centred]


def columns(x, rng):
  constant = rng.random(x.shape[1]) < 0.5
  return np.where(constant, rng.normal(size=x.shape[1]), x)


def at_mean(x, rng):
  x = np.round(64 * (x - x.mean(axis=0)))
  x[0] = -x[2:].sum(axis=0)
  x[1] = 0
  return x


def into_one_row(change):
  def changed(x, rng):
    row = rng.integers(len(x))
    x[row] = change(x[row], rng)
    return x

  return changed


def into_one_place(value):
  def change(row, rng):
    return np.where(np.arange(row.size) == rng.integers(row.size), value, row)

  return into_one_row(change)


KINDS = {
  'constant columns': columns,
  'duplicated columns': lambda x, rng: x[:, np.arange(x.shape[1]) // 2],
  'duplicated rows': lambda x, rng: x[np.arange(len(x)) // 2],
  'rows of two kinds': lambda x, rng: x[rng.permutation(np.arange(len(x)) % 2)],
  'all rows but one equal': lambda x, rng: into_one_row(
    lambda row, rng: row + rng.normal(size=row.size)
  )(np.repeat(x[:1], len(x), axis=0), rng),
  'rank 1': lambda x, rng: np.outer(x[:, 0], rng.normal(size=x.shape[1])),
  'rank 2': lambda x, rng: (
    rng.normal(size=(len(x), 2)) @ rng.normal(size=(2, x.shape[1]))
  ),
  'one-hot rows': lambda x, rng: np.eye(x.shape[1])[
    rng.integers(x.shape[1], size=len(x))
  ],
  'outlier of 1e3': into_one_row(lambda row, rng: 1e3 * row),
  'outlier of 1e6': into_one_row(lambda row, rng: 1e6 * row),
  'row of zeros': into_one_row(lambda row, rng: 0 * row),
  'row at the mean': at_mean,
  'small': lambda x, rng: 1e-30 * x,
  'large': lambda x, rng: 1e30 * x,
  'far from zero': lambda x, rng: x + 1e3,
  'zeros': lambda x, rng: 0 * x,
  'constant': lambda x, rng: np.repeat(x[:1], len(x), axis=0),
  'NaN': into_one_place(np.nan),
  'Inf': into_one_place(np.inf),
  '-Inf': into_one_place(-np.inf),
}


def healthy(n, p, seed):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(n, p)) * np.arange(1, p + 1) ** -0.5 + 0.3


def degenerate(kind, n, p, seed):
  x = KINDS[kind](healthy(n, p, seed), np.random.default_rng(seed))
  return x.astype(np.float32)


@st.composite
def pairs(draw):
  """Shape and two degenerate sides, by kind."""
  shape = draw(st.sampled_from(SHAPES))
  kinds = draw(st.lists(st.sampled_from([*KINDS]), min_size=2, max_size=2))
  seeds = draw(st.lists(st.integers(0, 999), min_size=2, max_size=2))
  return shape, tuple(zip(kinds, seeds, strict=True))


@pytest.fixture(scope='module', autouse=True)
def one_size():
  """Batches and tiles of one size, so that few kernels are compiled."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tiles, '_size', lambda count, most, mesh: 4)
    yield


def few_neighbours(name, n):
  taken = resolve(MEASURES[name]).arguments(Parameters())
  return {'neighbours': 1 if n < 12 else 5} if 'neighbours' in taken else {}


def all_pairs(name, sides):
  n = len(next(iter(sides.values())))
  return similarity.all_pairs(sides, name, QUICK, **few_neighbours(name, n))


@functools.cache
def healthy_map(name, n, p):
  return all_pairs(name, {str(i): healthy(n, p, 1000 + i) for i in range(2)})


def check_value(name, cell):
  """Of a cell without a reason."""
  low, high = LEAST.get(name, 0), MOST.get(name, 1)
  assert low - EXACT <= cell['value'] <= high + EXACT
  if not resolve(MEASURES[name]).paired:
    return
  assert low - EXACT <= cell['floor'] < high
  assert np.isfinite(cell['calibrated'])
  assert np.isfinite(cell['z']) or not cell['floor_sd'] > 0
  assert np.isnan(cell['p']) or 0 < cell['p'] <= 1
  ends = cell['ci_low'], cell['ci_high']
  assert np.isnan(ends).all() or ends[0] <= ends[1]


def check_cells(found):
  for place, status in np.ndenumerate(found.status):
    cell = {field: getattr(found, field)[place] for field in scoring.NUMBERS}
    if status == 'ok':
      check_value(found.measure, cell)
    else:
      assert status and status != 'the decomposition did not converge'
      assert np.isnan(list(cell.values())).all()


def check_one_pair_call(found, x, y):
  i, j = (found.names.index(side) for side in 'xy')
  extra = few_neighbours(found.measure, len(x))
  if found.status[i, j] == 'ok':
    alone = similarity.compare(x, y, found.measure, QUICK, **extra)
    assert alone.value == pytest.approx(found.value[i, j], abs=1e-6)
  else:
    with pytest.raises(InputError) as error:
      similarity.compare(x, y, found.measure, QUICK, **extra)
    assert found.status[i, j] in str(error.value)


@pytest.mark.parametrize('name', MEASURES)
@hypothesis.settings(deadline=None, max_examples=30, derandomize=True)
@hypothesis.given(pairs())
def test_a_value_in_range_or_a_reason(name, drawn):
  shape, kinds = drawn
  clean = healthy_map(name, *shape)
  x, y = (degenerate(kind, *shape, seed) for kind, seed in kinds)
  sides = {str(i): healthy(*shape, 1000 + i) for i in range(2)}
  found = all_pairs(name, {**sides, 'x': x, 'y': y})
  check_cells(found)
  for side, (kind, _) in zip('xy', kinds, strict=True):
    if kind in UNUSABLE and (
      kind not in ('zeros', 'constant') or name in CENTRED
    ):
      least = resolve(MEASURES[name]).least
      why = UNUSABLE[kind] if shape[0] >= least else f'at least {least}'
      assert why in found.status[found.names.index(side), 0]
  np.testing.assert_array_equal(found.status[:2, :2], clean.status)
  np.testing.assert_allclose(found.value[:2, :2], clean.value, atol=1e-6)
  check_one_pair_call(found, x, y)


NO_VALUE = {
  'svcca_heldout': ('all rows but one equal', 'one half do not differ'),
  'svcca_anatome': ('rank 1', 'no component stays below'),
  'cka_debiased': ('all rows but one equal', 'more alike than another'),
  'mutual_knn': ('row at the mean', 'lies at the mean'),
  'retrieval_r1': ('row at the mean', 'lies at the mean'),
  'retrieval_csls_r1': ('row at the mean', 'lies at the mean'),
  'retrieval_uncentred_r1': ('row of zeros', 'is a vector of zeros'),
  'centroid_distance': ('zeros', 'all features are zero'),
  'norm_ratio': ('zeros', 'all features are zero'),
  'cosine_gap': ('row of zeros', 'is a vector of zeros'),
}


@pytest.mark.parametrize('name', NO_VALUE)
@hypothesis.settings(deadline=None, max_examples=8, derandomize=True)
@hypothesis.given(st.integers(0, 999))
def test_what_has_no_value_says_why(name, seed):
  kind, why = NO_VALUE[name]
  found = all_pairs(
    name, {'x': healthy(17, 30, seed), 'y': degenerate(kind, 17, 30, seed)}
  )
  assert not found.status[0, 0].startswith('y')
  for status in (*found.status[1], found.status[0, 1]):
    assert status.startswith('y: ') and why in status


@pytest.mark.parametrize('name', CENTRED)
@hypothesis.settings(deadline=None, max_examples=8, derandomize=True)
@hypothesis.given(
  st.integers(0, 999), st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3)
)
def test_the_level_of_constant_columns_changes_nothing(name, seed, levels):
  sides = [healthy(17, 30, seed + i).astype(np.float32) for i in range(2)]
  where = np.random.default_rng(seed).choice(30, 3, replace=False)
  values = []
  for level in (0, levels):
    for side in sides:
      side[:, where] = level
    try:
      options = few_neighbours(name, 17)
      found = similarity.compare(*sides, name, QUICK, **options)
      values.append(found.value)
    except InputError as error:  # so few sentences that chance is 1, or is not
      hypothesis.assume('every pairing' not in str(error))
      raise
  assert values[1] == pytest.approx(values[0], abs=EXACT)


LOW_RANK = {
  'svcca': functools.partial(oracle.svcca, variance=1.0),
  'mean_squared_cca': functools.partial(
    oracle_cca.mean_squared_cca, variance=1.0
  ),
  'cca': oracle_cca.ridge_cca,
  'cka': oracle.cka,
  'cka_debiased': oracle.cka_debiased,
  'procrustes': oracle_rows.procrustes,
  'rsa_cosine': oracle_rows.rsa_cosine,
}


def low_rank(rank, repeated, seed):
  """[17, 30] of whole numbers, so that the rank is not one of rounding."""
  few = np.round(8 * healthy(17, rank, seed))
  if repeated:
    return few[:, np.arange(30) % rank]
  return few @ np.random.default_rng(seed).integers(-8, 9, (rank, 30))


@pytest.mark.parametrize('name', LOW_RANK)
@hypothesis.settings(deadline=None, max_examples=10, derandomize=True)
@hypothesis.given(
  *[st.integers(0, 999)] * 2, *[st.integers(1, 6)] * 2, st.booleans()
)
def test_low_rank_has_its_float64_value(name, one, other, k_a, k_b, repeated):
  x, y = low_rank(k_a, repeated, one), low_rank(k_b, not repeated, other)
  whole = {'variance': 1.0} if name in ('svcca', 'mean_squared_cca') else {}
  found = similarity.compare(x, y, name, QUICK, **whole)
  assert found.value == pytest.approx(LOW_RANK[name](x, y), abs=EXACT)
  assert found.k is None or (found.k_a, found.k_b) == (k_a, k_b)


@hypothesis.settings(deadline=None, max_examples=10, derandomize=True)
@hypothesis.given(st.integers(0, 999), st.integers(1, 5))
def test_no_more_components_than_the_rank(seed, rank):
  x, y = low_rank(rank, True, seed), healthy(17, 30, seed + 1)
  found = similarity.svcca(x, y, k=rank, calibration=QUICK).value
  assert found == pytest.approx(oracle.svcca(x, y, k=rank), abs=EXACT)
  words = rf'x has {rank} components \(n=17, p=30\), not k={rank + 1}'
  with pytest.raises(InputError, match=words):
    similarity.svcca(x, y, k=rank + 1, calibration=QUICK)


OUTLIER = {  # name: the truth and the farthest outlier it must be told with
  'cka': (oracle.cka, 6),
  'cka_debiased': (oracle.cka_debiased, 2),
  'procrustes': (oracle_rows.procrustes, 6),
  'rsa_cosine': (oracle_rows.rsa_cosine, 6),
}


@pytest.mark.parametrize('name', OUTLIER)
@hypothesis.settings(deadline=None, max_examples=10, derandomize=True)
@hypothesis.given(
  st.integers(0, 999), st.floats(2, 6), st.integers(0, 16), st.booleans()
)
def test_an_outlier_has_its_float64_value(name, seed, size, row, both):
  truth, farthest = OUTLIER[name]
  sides = [healthy(17, 30, seed + i) for i in range(2)]
  for side in sides[: 1 + both]:
    side[row] *= 10 ** min(size, farthest)
  x, y = (side.astype(np.float32) for side in sides)
  found = similarity.compare(x, y, name, QUICK).value
  assert found == pytest.approx(truth(x, y), abs=EXACT)


def by_fit(x, y, fits):
  """Held-out correlations of one component each; 0 without a fitted one."""
  for own in fits:
    (a, b), (c, d) = (oracle_cca._apart(side, own, 1) for side in (x, y))
    fitted = (a.T @ c).item()
    told = abs(fitted) > EXACT
    yield np.sign(fitted) * np.corrcoef(b.T, d.T)[0, 1] if told else 0.0


def test_a_fit_without_correlation_scores_nothing():
  fits = np.asarray(jax.jit(splits_of, static_argnums=1)(jnp.ones(17, bool), 8))
  without = 0
  for seed in range(6):
    x, y = np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], (2, 17, 1))
    truth = list(by_fit(x, y, fits))
    without += truth.count(0)
    x, y = (np.repeat(side, 30, axis=1) for side in (x, y))
    found = similarity.svcca_heldout(x, y, calibration=QUICK).value
    assert found == pytest.approx(np.mean(truth), abs=EXACT)
  assert without


def test_a_cut_above_the_components_is_a_reason():
  sides = {
    name: healthy(17, p, i).astype(np.float32)
    for i, (name, p) in enumerate({'x': 3, 'y': 30, 'z': 3}.items())
  }
  cells = np.array([[0, 1], [0, 1], [1, 0], [0, 1], [0, 2], [0, 2]])
  cuts = np.array([[3, 5], [4, 5], [5, 4], [2, 17], [4, 5], [0, 3]])
  found = similarity.score_pairs(sides, cells, 'svcca', None, QUICK, cuts=cuts)
  few = 'x has 3 components (n=17, p=3), not k=4'
  wide = 'y has 16 components (n=17, p=30), not k=17'
  assert list(found.status[:4]) == ['ok', few, few, wide]
  assert found.status[4] in (few, few.replace('x', 'z').replace('k=4', 'k=5'))
  assert found.status[5] == 'ok'
  bad = found.status != 'ok'
  for field in scoring.NUMBERS:
    assert np.isnan(getattr(found, field)[bad]).all()
  assert np.isfinite(found.value[~bad]).all()
  truth = oracle.svcca(sides['x'], oracle_cca.components(sides['y'], k=5), 1.0)
  assert found.value[0] == pytest.approx(truth, abs=EXACT)


def test_a_cut_above_the_rank_is_a_reason():
  sides = {'x': low_rank(2, True, 0), 'y': healthy(17, 30, 1)}
  cell, cuts = np.array([[0, 1]] * 2), np.array([[2, 5], [5, 5]])
  found = similarity.score_pairs(sides, cell, 'svcca', None, QUICK, cuts=cuts)
  few = 'x has 2 components (n=17, p=30), not k=5'
  assert found.status.tolist() == ['ok', few]


def test_no_interval_where_subsets_have_no_value():
  x, y = healthy(17, 30, 0), degenerate('all rows but one equal', 17, 30, 1)
  some = Calibration(permutations=2, replicates=12)
  alone = similarity.svcca(x, y, k=1, calibration=some)
  assert alone.value > 0 and alone.ci_low is None and alone.ci_high is None
  assert similarity.svcca(x, x + x**2, k=1, calibration=some).ci_low is not None


@pytest.mark.parametrize('name', CENTRED)
@pytest.mark.parametrize(
  'kind', [(np.float32, -122), (np.float32, 126), (float, -1000), (float, 1000)]
)
def test_no_scale_of_one_side_matters(name, kind):
  dtype, exponent = kind
  sides = [healthy(17, 3, i).astype(np.float32) for i in range(2)]
  extra = few_neighbours(name, 17)
  truth = similarity.compare(*sides, name, QUICK, **extra).value
  sides[0] = np.ldexp(sides[0].astype(dtype), exponent)
  found = similarity.compare(*sides, name, QUICK, **extra).value
  assert found == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize('name', sorted(set(MEASURES) - set(CENTRED)))
def test_what_float32_cannot_hold_is_named(name):
  x = healthy(17, 30, 0)
  for exponent in (200, -200):
    with pytest.raises(InputError, match=rf'x reaches .e.{abs(exponent)}'):
      similarity.compare(10.0**exponent * x, x, name, QUICK)


def test_impossible_pairs_and_cuts_are_named():
  sides = {'x': healthy(17, 3, 0), 'y': healthy(17, 3, 1)}
  cell = np.array([[0, 1]])
  with pytest.raises(InputError, match=r'cuts: -2 is no number'):
    similarity.score_pairs(sides, cell, cuts=np.array([[3, -2]]))
  with pytest.raises(InputError, match='cka takes no cuts'):
    similarity.score_pairs(sides, cell, 'cka', cuts=np.array([[3, 2]]))
  for wrong in ([[0, 2]], [[-1, 0]]):
    with pytest.raises(InputError, match='positions from 0 to 1'):
      similarity.score_pairs(sides, np.array(wrong))
