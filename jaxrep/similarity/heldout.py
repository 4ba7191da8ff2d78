"""SVCCA fitted on one half of the sentences and scored on the other.

In-sample canonical correlations are large for unrelated data when sentences
are few; what is fitted on sentences that are not scored has no such bias
(Pasad et al., "Comparative Layer-Wise Analysis of Self-Supervised Speech
Models", ICASSP 2023, score CCA so). Here each split into halves is used in
both directions. If U and V are the whitened components of the fitted half and
U'V = P S Q', then P and Q turn them to the canonical variates. On the other
half all pairs of variates are scored by one correlation, which needs only the
rotation P Q' from one side's components to the other's: no SVD, and no rule
for ties.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrep.similarity import canonical, linalg, newton_schulz
from jaxrep.similarity.canonical import describe_cut
from jaxrep.similarity.measure import Factors, Measure, Parameters

_SEED = 0  # of the splits, which are the same for all representations
_PER_COMPONENT = 10  # fitted sentences for each component, at least
_SETTLING = 3  # steps

Fitted = tuple[Float[Array, 'n width'], Int[Array, ''], Float[Array, '']]


def splits_of(
  valid: Bool[Array, ' n'], splits: int
) -> Bool[Array, '{2*splits} n']:
  """The sentences that each fit uses: random halves, then the other halves.

  A sentence goes where its place among the valid ones says, so that padding
  moves none.
  """
  places = jnp.cumsum(valid) - 1

  def half(key: Array) -> Bool[Array, ' n']:
    draw = jax.vmap(
      lambda place: jax.random.bits(jax.random.fold_in(key, place))
    )
    order = jnp.lexsort((draw(places), ~valid))
    return valid & (jnp.argsort(order) < jnp.sum(valid) // 2)

  first = jax.vmap(half)(jax.random.split(jax.random.key(_SEED), splits))
  return jnp.concatenate([first, valid & ~first])


def factor(
  x: Float[Array, 'n p'],
  valid: Bool[Array, ' n'],
  left_out: Float[Array, ''] | float,
  splits: int,
  k: int,
) -> Factors:
  """Whitened components [n, width * fits], the fits varying fastest.

  In each fit the rows that it uses are orthonormal; the others have the same
  components, centred on themselves. `rest` [n, fits] says which it uses.

  Args:
    x: one representation, a row per sentence.
    valid: the sentences that count.
    left_out: the share of the variance that may be left out.
    splits: times that the sentences are split, each giving two fits.
    k: keep this many components instead, unless it is 0; all if there are
      fewer.
  """
  n, p = x.shape
  x = linalg.centre(x, valid)
  used = splits_of(valid, splits)
  width = min(k or max((n - n // 2) // _PER_COMPONENT, 1), n - n // 2, p)
  rows, found, spread = jax.lax.map(
    lambda own: _fit(x, own, valid & ~own, width, left_out, k), used
  )
  most = k or jnp.maximum(jnp.sum(valid) // 2 // _PER_COMPONENT, 1)
  kept = jnp.minimum(jnp.min(found), most)
  rows = jnp.where(jnp.arange(width) < kept, rows, 0)
  rounding = jnp.finfo(x.dtype).eps * max(n, p) * jnp.linalg.norm(x)
  defined = (kept > 0) & (jnp.min(spread) > rounding)
  return Factors(
    jnp.moveaxis(rows, 0, -1).reshape(n, -1), kept, defined, (used.T,)
  )


def _fit(
  x: Float[Array, 'n p'],
  own: Bool[Array, ' n'],
  other: Bool[Array, ' n'],
  width: int,
  left_out: Float[Array, ''] | float,
  k: int,
) -> Fitted:
  """Components of all rows, how many count, and the largest singular value."""
  n, p = x.shape
  taken = jnp.nonzero(own, size=n - n // 2, fill_value=n)[0]
  part = _centred(x, own).at[taken].get(mode='fill', fill_value=0)
  u, s = linalg.left_singular(part)
  found = k or canonical.fewest_components(s, left_out)
  found = jnp.minimum(found, linalg.rank(s, jnp.sum(own), p))
  u = jnp.where(jnp.arange(width) < found, u[:, :width], 0)
  held_out = linalg.product(_centred(x, other), _directions(part, u))
  held_out = held_out / jnp.where(jnp.arange(width) < found, s[:width], 1)
  return held_out.at[taken].set(u, mode='drop'), found, s[0]


def _directions(
  x: Float[Array, 'n p'], u: Float[Array, 'n width']
) -> Float[Array, 'p width']:
  """Right singular vectors of x for its left ones.

  x'u / s has rounding errors along the first directions, as large as these
  are stronger. Orthogonalisation takes them out.
  """
  with jax.default_matmul_precision('highest'):
    q, r = jnp.linalg.qr(x.T @ u)
  return q * jnp.sign(jnp.diagonal(r))


def _centred(
  x: Float[Array, 'n p'], inside: Bool[Array, ' n']
) -> Float[Array, 'n p']:
  """Some rows minus their mean, which is small; others zero."""
  count = jnp.maximum(jnp.sum(inside), 1)
  mean = jnp.sum(x, axis=0, where=inside[:, None]) / count
  return jnp.where(inside[:, None], x - mean, 0)


def score(fx: Factors, fy: Factors) -> Float[Array, '']:
  """Mean over fits of the held-out correlation."""
  used = fx.rest[0].T

  def by_fit(factors: Factors) -> Float[Array, 'fits n width']:
    n = factors.rows.shape[0]
    return jnp.moveaxis(factors.rows.reshape(n, -1, len(used)), -1, 0)

  return jnp.mean(jax.lax.map(_correlation, (by_fit(fx), by_fit(fy), used)))


def _correlation(
  fit: tuple[Float[Array, 'n k'], Float[Array, 'n l'], Bool[Array, ' n']],
) -> Float[Array, '']:
  """Of one side's held-out components with the other's, turned to them."""
  x, y, own = fit
  own = own[:, None]
  turn = _isometry(linalg.cross(jnp.where(own, x, 0), y))
  x, y = (jnp.where(own, 0, side) for side in (x, y))
  # Of y only the directions that x's have a counterpart for. This is a cosine
  # whatever singular values `turn` has, and not one over a share of them.
  x, y = linalg.product(x, turn), linalg.product(y, linalg.gram(turn.T))
  norm = jnp.linalg.norm(x) * jnp.linalg.norm(y)
  return jnp.sum(x * y) / jnp.where(norm > 0, norm, 1)


def _isometry(cross: Float[Array, 'k l']) -> Float[Array, 'k l']:
  """P Q' of P S Q', without the directions whose correlation is rounding.

  The polar factor gives those any singular value between 0 and 1; each step
  takes values below sqrt(2/3) towards 0 and the others towards 1.
  """
  turn = newton_schulz.polar(cross)
  for _ in range(_SETTLING):
    gram = linalg.gram(turn.T)
    turn = linalg.product(turn, 2.5 * gram - 1.5 * linalg.product(gram, gram))
  return jnp.where(jnp.linalg.norm(turn) > 0.5, turn, 0)


def _law(
  k_a: Int[np.ndarray, '*cell'], k_b: Int[np.ndarray, '*cell'], n: int
) -> Float[np.ndarray, '*cell']:
  """No pairing of held-out sentences is preferred, whatever was fitted."""
  return np.zeros(np.broadcast_shapes(np.shape(k_a), np.shape(k_b)))


def _describe(parameters: Parameters) -> str:
  cap = (
    f', at most one for {_PER_COMPONENT} sentences'
    if parameters.k is None
    else ''
  )
  return (
    f'held-out SVCCA: {parameters.splits} random splits into halves, each half '
    'fitted and the other scored; features centred on each half; '
    f'{describe_cut(parameters)} of each fitted half{cap}; correlation of all '
    'canonical pairs together on the other half, mean over fits; can be '
    'negative'
  )


SVCCA_HELDOUT = Measure(
  factor=factor,
  score=score,
  describe=_describe,
  undefined='the sentences of one half do not differ',
  arguments=lambda parameters: {
    'left_out': 1 - parameters.variance,
    'splits': parameters.splits,
    'k': parameters.k or 0,
  },
  static=('splits', 'k'),
  least=6,
  fixed_rows=True,
  law=_law,
)
