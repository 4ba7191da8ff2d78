"""The CCA family in slow float64, and checks that each of it is held to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import eigh, orthogonal_procrustes, sqrtm

from jaxrep.similarity.measure import Parameters
from tests.similarity import oracle


def centred(x):
  x = np.asarray(x, np.float64)
  return x - x.mean(axis=0)


def components(x, variance=0.99, k=None):
  """Principal component scores, by eigenvectors of the covariance."""
  x = centred(x)
  values, vectors = eigh(x.T @ x)
  values, vectors = values[::-1], vectors[:, ::-1]
  limit = np.finfo(np.float32).eps * max(x.shape)
  rank = int(np.sum(values > limit**2 * values[0]))
  if k is None:
    share = np.cumsum(values) / values.sum()
    k = int(np.argmax(share >= variance - 1e-12)) + 1
  scores = x @ vectors[:, : min(k, rank)]
  return scores / np.linalg.norm(scores, axis=0)


def variates(a, b):
  """Canonical correlations and a's variates, from the textbook's equation."""
  cross = a.T @ b
  explained = cross @ np.linalg.solve(b.T @ b, cross.T)
  values, vectors = eigh(explained, a.T @ a)
  return np.sqrt(np.clip(values[::-1], 0, None)), a @ vectors[:, ::-1]


def correlations(x, y, variance=0.99, k=None):
  a, b = components(x, variance, k), components(y, variance, k)
  return variates(a, b)[0][: min(a.shape[1], b.shape[1])]


def ridge_cca(x, y, ridge=0.1):
  """Regularised covariances, inverted as they are."""
  if ridge == 0:
    return correlations(x, y, variance=1.0).mean()
  sides, weights = [centred(x), centred(y)], []
  inverses = []
  for side in sides:
    covariance = side.T @ side
    values = np.linalg.eigvalsh(covariance)[::-1]
    limit = np.finfo(np.float32).eps * max(side.shape)
    rank = np.sum(values > limit**2 * values[0])
    penalty = ridge * values.sum() / rank
    weights.append(np.sqrt(values[:rank] / (values[:rank] + penalty)))
    inverses.append(np.linalg.inv(covariance + penalty * np.eye(len(values))))
  cross = sides[0].T @ sides[1]
  squared = np.linalg.eigvals(inverses[0] @ cross @ inverses[1] @ cross.T).real
  # Behind the smaller rank they are rounding, whose root is no longer small.
  most = min(len(w) for w in weights)
  largest = np.sort(np.clip(squared, 0, None))[::-1][:most]
  return np.sqrt(largest).sum() / (weights[0][:most] @ weights[1][:most])


def mean_squared_cca(x, y, variance=0.99, k=None):
  """Mean share of variance that regression on the larger side explains."""
  a, b = components(x, variance, k), components(y, variance, k)
  if a.shape[1] > b.shape[1]:
    a, b = b, a
  left = a - b @ np.linalg.lstsq(b, a)[0]
  return 1 - np.sum(left**2) / a.shape[1]


def pwcca(x, y, variance=0.99, k=None):
  a, b = components(x, variance, k), components(y, variance, k)
  if a.shape[1] == b.shape[1]:
    return (_weighted(a, b, x) + _weighted(b, a, y)) / 2
  return _weighted(a, b, x) if a.shape[1] < b.shape[1] else _weighted(b, a, y)


def _weighted(a, b, x):
  rho, h = variates(a, b)
  return np.average(rho, weights=np.abs(h.T @ centred(x)).sum(axis=1))


def google(x, y, variance=0.99, k=None):
  rho = correlations(x, y, variance, k)
  for count in range(1, len(rho) + 1):
    if rho[:count].sum() / rho.sum() >= 0.98:
      return rho[:count].mean()
  raise AssertionError


def anatome(x, y, variance=0.99):
  bases = []
  for side in (x, y):
    side = np.asarray(side, np.float64)
    _, s, vt = np.linalg.svd(side, full_matrices=False)
    count = np.sum(np.cumsum(s) / s.sum() < variance)
    bases.append(np.linalg.qr(centred(side @ vt[:count].T))[0])
  rho = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
  return rho.sum() / min(basis.shape[1] for basis in bases)


def netrep(x, y, variance=0.99, k=None):
  """Whiten, pad to equal width, align, and take the cosine."""
  sides = [components(x, variance, k), components(y, variance, k)]
  width = max(side.shape[1] for side in sides)
  white = [side @ np.linalg.inv(sqrtm(side.T @ side)).real for side in sides]
  a, b = (np.pad(s, ((0, 0), (0, width - s.shape[1]))) for s in white)
  a = a @ orthogonal_procrustes(a, b)[0]
  return np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b))


def heldout(x, y, fits, variance=0.99, k=None):
  """Fit by fit: PCA, alignment and score. fits: the rows that each uses."""
  fitted = [[components(s[own], variance, k) for s in (x, y)] for own in fits]
  cap = k or max(len(x) // 2 // 10, 1)
  counts = [
    min(cap, *(pair[side].shape[1] for pair in fitted)) for side in (0, 1)
  ]
  values = []
  for own in fits:
    a, b = (
      _apart(side, own, count)
      for side, count in zip((x, y), counts, strict=True)
    )
    p, _, qt = np.linalg.svd(a[0].T @ b[0], full_matrices=False)
    one, other = a[1] @ p, b[1] @ qt.T
    values.append(
      np.sum(one * other) / np.linalg.norm(one) / np.linalg.norm(other)
    )
  return np.mean(values)


def _apart(x, own, k):
  x = np.asarray(x, np.float64)
  fitted = x[own] - x[own].mean(axis=0)
  values, vectors = eigh(fitted.T @ fitted)
  axes = vectors[:, ::-1][:, :k] / np.sqrt(values[::-1][:k])
  return fitted @ axes, (x[~own] - x[~own].mean(axis=0)) @ axes


@functools.cache
def _compiled(measure, **static):
  return (
    jax.jit(
      lambda x, valid, traced: measure.factor(x, valid, **traced, **static)
    ),
    jax.jit(measure.score),
  )


def factor(measure, x, valid=None, **parameters):
  arguments = dict(measure.arguments(Parameters(**parameters)))
  static = {name: arguments.pop(name) for name in measure.static}
  valid = np.ones(len(x), bool) if valid is None else valid
  x = jnp.asarray(x, jnp.float32)
  return _compiled(measure, **static)[0](x, jnp.asarray(valid), arguments)


def score(measure, x, y, valid=None, **parameters):
  sides = [factor(measure, side, valid, **parameters) for side in (x, y)]
  assert all(side.defined for side in sides)
  return float(_compiled(measure)[1](*sides))


def offset(x, times):
  direction = np.random.default_rng(1).normal(size=x.shape[1])
  return (x + times * x.std() * direction).astype(np.float32)


@functools.cache
def regimes():
  """Pairs that every measure must have its float64 value for."""
  x, y = oracle.related(90, 60, 60)
  constant, deficient = x.copy(), x.copy()
  constant[:, 7], constant[:, 8] = 0.1, 1e5
  deficient[:, 10:] = x[:, :10] @ np.random.default_rng(3).normal(size=(10, 50))
  return {
    'n>p': oracle.related(90, 60, 40),
    'n=p': oracle.related(60, 60, 60),
    'n<p': oracle.related(60, 128, 60),
    'rank deficient': (deficient, y),
    'constant columns': (constant, y),
    'duplicated rows': (np.concatenate([x[:45], x[:45]]), y),
    'offset': (offset(x, 100), y),
    'small': (x * np.float32(1e-6), y),
    'large': (x, y * np.float32(1e6)),
  }


def outlier():
  x, y = oracle.related(90, 60, 60)
  x[5] *= 1e3
  return x, y


def check_regimes(measure, truth, exact=1e-5, **parameters):
  for name, (x, y) in regimes().items():
    found = score(measure, x, y, **parameters)
    assert found == pytest.approx(truth(x, y), abs=exact), name


CHANGES = {
  'rotation': lambda x, rng: x @ oracle.rotation(x.shape[1]),
  'scale': lambda x, rng: -300 * x,
  'shift': lambda x, rng: x + 5 * x.std() * rng.normal(size=x.shape[1]),
  'constant columns': lambda x, rng: np.pad(x, ((0, 0), (0, 9))),
  'linear map': lambda x, rng: (
    x @ (oracle.rotation(x.shape[1]) * np.logspace(0, 1.5, x.shape[1]))
  ),
  'other sentences': lambda x, rng: x[rng.permutation(len(x))],
}
OF_ALL = frozenset({'rotation', 'scale', 'shift', 'constant columns'})


def check_changes(measure, unchanged, exact=1e-5, changed=0.01, **parameters):
  """Exactly the changes in `unchanged` leave the score as it is."""
  x, y = oracle.related(90, 60, 40)
  truth = score(measure, x, y, **parameters)
  for name, change in CHANGES.items():
    one, other = (
      change(np.float64(side), np.random.default_rng(2)) for side in (x, y)
    )
    found = [
      score(measure, *pair, **parameters) for pair in ((one, y), (x, other))
    ]
    difference = np.abs(np.array(found) - truth).max()
    if name in unchanged:
      assert difference < exact, (name, difference)
    else:
      assert difference > changed, (name, difference)
  assert score(measure, y, x, **parameters) == pytest.approx(truth, abs=exact)


def check_sentence_order(measure, **parameters):
  x, y = oracle.related(90, 60, 40)
  order = np.random.default_rng(0).permutation(90)
  truth = score(measure, x, y, **parameters)
  moved = score(measure, x[order], y[order], **parameters)
  assert moved == pytest.approx(truth, abs=1e-6)


def check_reordered_factors(measure, **parameters):
  """What the engine does for a pairing: it reorders the rows of one side."""
  x, y = oracle.related(90, 60, 40)
  order = np.random.default_rng(0).permutation(90)
  fx, fy = (factor(measure, side, **parameters) for side in (x, y))
  rows = fy.rows[order]
  moved = fy._replace(rows=rows[:, order] if measure.pairwise else rows)
  found = float(_compiled(measure)[1](fx, moved))
  truth = score(measure, x, y[order], **parameters)
  assert found == pytest.approx(truth, abs=1e-6)
  assert abs(found - score(measure, x, y, **parameters)) > 0.01


def check_mask_is_subset(measure, exact=1e-6, **parameters):
  x, y = oracle.related(90, 40, 60)
  valid = np.random.default_rng(0).random(90) < 0.7
  poisoned = np.where(valid[:, None], x, np.nan)
  masked = score(measure, poisoned, y, valid, **parameters)
  subset = score(measure, x[valid], y[valid], **parameters)
  assert masked == pytest.approx(subset, abs=exact)
  k = factor(measure, poisoned, valid, **parameters).k
  assert k == factor(measure, x[valid], **parameters).k


def check_vmapped_is_alone(measure, **parameters):
  """In a stack whose members of other widths are padded."""
  pairs = [oracle.related(90, 60, 40, seed=seed) for seed in range(3)]
  factors = [
    factor(measure, side, **parameters) for pair in pairs for side in pair
  ]
  stack = jax.tree.map(_joined, *factors)
  one = _compiled(measure)[1]

  @jax.jit
  def all_pairs(stack):
    rows = jax.vmap(measure.score, (None, 0))
    return jax.vmap(rows, (0, None))(stack, stack)

  alone = [[one(fx, fy) for fy in factors] for fx in factors]
  np.testing.assert_allclose(all_pairs(stack), alone, atol=2e-6)


def _joined(*leaves):
  if not leaves[0].ndim:
    return jnp.stack(leaves)
  shape = np.max([leaf.shape for leaf in leaves], axis=0)
  return jnp.stack(
    [
      jnp.pad(
        leaf,
        [(0, most - own) for own, most in zip(leaf.shape, shape, strict=True)],
      )
      for leaf in leaves
    ]
  )
