"""Float64 answers by definition, and checks that every measure is held to."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist, squareform
from scipy.stats import rankdata

from jaxrep.similarity.measure import Parameters
from tests.similarity import oracle

SAME = 1e-10  # float64 values this close are equal


def wide(x):
  return np.asarray(x, np.float64)


def centre(x):
  return wide(x) - wide(x).mean(axis=0)


def procrustes(x, y):
  """From the distance that the best rotation leaves."""
  width = max(x.shape[1], y.shape[1])
  sides = [np.pad(centre(s), ((0, 0), (0, width - s.shape[1]))) for s in (x, y)]
  x, y = (side / np.linalg.norm(side) for side in sides)
  u, _, v = np.linalg.svd(y.T @ x)
  return 1 - np.linalg.norm(x - y @ u @ v) ** 2 / 2


def rsa(x, y):
  a, b = (rankdata(_rounded(pdist(wide(s), 'sqeuclidean'))) for s in (x, y))
  return np.corrcoef(a, b)[0, 1]


def rsa_cosine(x, y):
  a, b = (squareform(pdist(wide(s)) ** 2) for s in (x, y))
  return np.trace(a @ b) / np.sqrt(np.trace(a @ a) * np.trace(b @ b))


def _rounded(values):
  """To ten digits, so that equal sums are equal."""
  digits, exponent = np.frexp(values)
  return np.ldexp(np.round(digits / SAME), exponent)


def mutual_knn(x, y, neighbours=10):
  """Common neighbours expected where ties are broken at random."""
  a, b = (
    _neighbours(1 - cdist(*[centre(s)] * 2, 'cosine'), neighbours)
    for s in (x, y)
  )
  return sum(
    a[i].get(j, 0) * share for i in range(len(x)) for j, share in b[i].items()
  ) / (len(x) * neighbours)


def _neighbours(cosines, k):
  """Of each row, its neighbours and the chance of each to be taken."""
  rows = []
  for i, row in enumerate(cosines):
    others = sorted((-c, j) for j, c in enumerate(row) if j != i)
    last = others[k - 1][0]
    sure = [j for c, j in others if c < last - SAME]
    tied = [j for c, j in others if abs(c - last) <= SAME]
    share = (k - len(sure)) / len(tied)
    rows.append(dict.fromkeys(sure, 1.0) | dict.fromkeys(tied, share))
  return rows


def retrieval(x, y, at=1, back=False, likeness='cosine', neighbours=10):
  if likeness != 'uncentred':
    x, y = centre(x), centre(y)
  values = 1 - cdist(*((y, x) if back else (x, y)), 'cosine')
  if likeness == 'csls':
    near = [
      np.sort(v, axis=1)[:, -neighbours:].mean(1) for v in (values, values.T)
    ]
    values = 2 * values - near[0][:, None] - near[1]
  return np.mean([_credit(row, i, at) for i, row in enumerate(values)])


def _credit(row, own, at):
  """Share of the places that a random order of ties may give, up to `at`."""
  first = 1 + np.sum(row > row[own] + SAME)
  last = np.sum(row >= row[own] - SAME)
  return np.mean([place <= at for place in range(first, last + 1)])


def centroid_distance(x, y):
  x, y = wide(x), wide(y)
  squares = [np.mean(np.linalg.norm(side, axis=1) ** 2) for side in (x, y)]
  return np.linalg.norm(x.mean(axis=0) - y.mean(axis=0)) / np.sqrt(
    np.mean(squares)
  )


def norm_ratio(x, y):
  lengths = sorted(np.mean(np.linalg.norm(wide(s), axis=1)) for s in (x, y))
  return lengths[0] / lengths[1]


def cosine_gap(x, y):
  cosines = 1 - cdist(wide(x), wide(y), 'cosine')
  own = np.eye(len(cosines), dtype=bool)
  return cosines[own].mean() - cosines[~own].mean()


@jax.jit(static_argnames='measure')
def factors(measure, x, valid, arguments):
  return measure.factor(x, valid, **arguments)


@jax.jit(static_argnames='measure')
def _score(measure, fx, fy):
  return measure.score(fx, fy)


def factor(measure, x, valid=None, **parameters):
  valid = np.ones(len(x), bool) if valid is None else valid
  arguments = dict(measure.arguments(Parameters(**parameters)))
  return factors(measure, jnp.asarray(x, jnp.float32), valid, arguments)


def score(measure, x, y, valid=None, **parameters):
  sides = [factor(measure, side, valid, **parameters) for side in (x, y)]
  assert all(side.defined for side in sides)
  value = float(_score(measure, *sides))
  assert np.isfinite(value)
  return value


def sides(n=60, p=40, q=40, seed=0, noise=1.0, offset=0.3):
  """Two views [n, p] and [n, q], float32, of one latent in a shared space."""
  rng = np.random.default_rng(seed)
  width = max(p, q)
  spread = np.arange(1, width + 1) ** -0.5
  latent = rng.normal(size=(n, width)) * spread
  common = offset * rng.normal(size=width)
  views = []
  for own, take in ((0.6 * noise, p), (1.2 * noise, q)):
    view = latent + common + offset * rng.normal()
    view += own * rng.normal(size=(n, width)) * spread
    views.append(view[:, :take].astype(np.float32))
  return tuple(views)


def regimes():
  """Pairs of equal width in which a measure must have its float64 value."""
  x, y = sides()
  rng = np.random.default_rng(3)
  constant, outlier, deficient = x.copy(), x.copy(), x.copy()
  constant[:, 7] = 0.1
  outlier[5] *= 1e3
  deficient[:, 10:] = x[:, :10] @ rng.normal(size=(10, 30))
  offset = 100 * x.std() * rng.normal(size=40).astype(np.float32)
  return {
    'n>p': (x, y),
    'n=p': sides(60, 60, 60),
    'n<p': sides(60, 128, 128),
    'rank deficient': (deficient, y),
    'constant column': (constant, y),
    'duplicated rows': tuple(np.concatenate([s[:30]] * 2) for s in (x, y)),
    'one side duplicated': (np.concatenate([x[:30]] * 2), y),
    'one outlier': (outlier, y),
    'offset': (x + offset, y),
    'offset of both': (x + offset, y + offset),
    'small': (x * np.float32(1e-6), y * np.float32(1e-6)),
    'large': (x * np.float32(1e6), y * np.float32(1e6)),
    'small and large': (x * np.float32(1e-6), (y + offset) * np.float32(1e6)),
  }


REGIMES = regimes()
_ROTATION = oracle.rotation(40)
_SHIFT = 3 * np.random.default_rng(1).normal(size=40)
_ORDER = np.random.default_rng(2).permutation(60)
_LENGTHS = np.random.default_rng(4).uniform(1, 9, (60, 1))
_MAP = np.random.default_rng(5).normal(size=(40, 40)) * np.logspace(0, 2, 40)
CHANGES = {
  'rotation': lambda x, y: (x @ _ROTATION, y),
  'both rotated': lambda x, y: (x @ _ROTATION, y @ _ROTATION),
  'scale': lambda x, y: (1e3 * x, y),
  'both scaled': lambda x, y: (1e3 * x, 1e3 * y),
  'sign': lambda x, y: (-x, y),
  'shift': lambda x, y: (x + _SHIFT, y),
  'both shifted': lambda x, y: (x + _SHIFT, y + _SHIFT),
  'rows scaled': lambda x, y: (x * _LENGTHS, y),
  'linear map': lambda x, y: (x @ _MAP, y),
  'wider by zeros': lambda x, y: [np.pad(s, ((0, 0), (0, 9))) for s in (x, y)],
  'sentences permuted': lambda x, y: (x[_ORDER], y),
  'both permuted': lambda x, y: (x[_ORDER], y[_ORDER]),
  'swapped': lambda x, y: (y, x),
}
# Unchanged by these is what forgets origin and axes of each side on its own.
OF_EACH_SIDE = {
  *('rotation', 'both rotated', 'scale', 'both scaled', 'sign', 'shift'),
  *('both shifted', 'wider by zeros', 'both permuted', 'swapped'),
}


def check_changes(measure, unchanged, exact=1e-5, least=0.003):
  """Unchanged under what is declared, changed under everything else."""
  assert unchanged <= set(CHANGES)
  x, y = (wide(side) for side in sides())
  base = score(measure, x, y)
  for name, change in CHANGES.items():
    moved = abs(score(measure, *change(x, y)) - base)
    assert moved < exact if name in unchanged else moved > least, (name, moved)


def check_mask_is_subset(measure, exact=1e-6, **parameters):
  """NaN in invalid rows changes nothing, nor do invalid rows."""
  x, y = sides()
  for valid in (np.arange(60) < 45, np.random.default_rng(0).random(60) < 0.7):
    poisoned = [np.where(valid[:, None], side, np.nan) for side in (x, y)]
    subset = score(measure, x[valid], y[valid], **parameters)
    masked = score(measure, *poisoned, valid, **parameters)
    assert masked == pytest.approx(subset, abs=exact)
    rows = np.asarray(factor(measure, poisoned[0], valid, **parameters).rows)
    assert not rows[~valid].any()


def check_vmapped_is_alone(measure, exact=1e-6):
  stacked = np.stack([sides(seed=seed)[0] for seed in range(3)])
  arguments = dict(measure.arguments(Parameters()))
  valid = jnp.ones(60, bool)
  many = jax.vmap(lambda x: measure.factor(x, valid, **arguments))
  batch = many(jnp.asarray(stacked))
  turned = jax.tree.map(lambda leaf: leaf[::-1], batch)
  found = jax.vmap(measure.score)(batch, turned)
  alone = [
    score(measure, *pair) for pair in zip(stacked, stacked[::-1], strict=True)
  ]
  np.testing.assert_allclose(found, alone, atol=exact)


def over_pairings(measure, truth, n=6, **parameters):
  """Scores under all n! pairings; as float64 has them of reordered input."""
  x, y = (wide(side) for side in sides(n, 4, 4, seed=4))
  orders = np.array(list(itertools.permutations(range(n))))
  fx, fy = (factor(measure, side, **parameters) for side in (x, y))

  def at(order):
    rows = fy.rows[order]
    rows = rows[:, order] if measure.pairwise else rows
    return measure.score(fx, fy._replace(rows=rows))

  found = jax.jit(jax.vmap(at))(jnp.asarray(orders))
  expected = [truth(x, y[order], **parameters) for order in orders]
  np.testing.assert_allclose(found, expected, atol=2e-6)
  return np.array(expected)


def check_exact_null(measure, truth, **parameters):
  """The first two moments over all pairings, and the third, by enumeration."""
  values = over_pairings(measure, truth, **parameters)
  x, y = sides(6, 4, 4, seed=4)
  summaries = [
    measure.summary(factor(measure, side, **parameters).rows, jnp.ones(6, bool))
    for side in (x, y)
  ]
  mean, sd, skewness = measure.null(*summaries, 6)
  assert mean == pytest.approx(values.mean(), abs=1e-6)
  assert sd == pytest.approx(values.std(), abs=1e-5)
  third = np.mean((values - values.mean()) ** 3) / values.std() ** 3
  # Its products are made in bfloat16, since a p-value needs no more.
  assert skewness == pytest.approx(third, abs=0.01)
  return values
