"""How much each sentence moves a score, and the standard error from that.

For scores that are an inner product <A, B> of sentence-by-sentence matrices
A = K/|K|, B = L/|L| whose rows sum to zero: linear CKA, biased and debiased
(and, to first order, RSA). Leaving sentence i out and centring anew takes

  r_i(A, B) = 2n/(n-1) sum_j A_ij B_ij - n^2/(n-1)^2 A_ii B_ii

from <A, B> of centred Grams, and 2(n-2)/(n-3) sum_j A_ij B_ij from that of
U-centred ones, exactly. So the delete-one jackknife of the ratio needs no more
than the row sums of A o A, B o B and A o B.

The jackknife counts the part of the variance that comes from pairs of
sentences twice (Efron and Stein, "The jackknife estimate of variance", 1981),
and near independence that part is most of it. It is estimated apart, counted
once, and near chance never taken to be less than chance alone gives; that
lower bound fades as the score nears 1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


class Spread(NamedTuple):
  """How a score varies over new sentences, for all pairs of two stacks.

  Attributes:
    influence: of each sentence on the score; of each cluster, in the row of
      its id, where there are clusters. Scaled so that its norm is `error`.
    error: standard error; float32 tells those apart that are above 1e-3 / n.
    degrees: of freedom of the error: few where few sentences carry it.
    chance_error: the standard error if both sides were independent.
  """

  influence: Float[Array, 'n m l']
  error: Float[Array, 'm l']
  degrees: Float[Array, 'm l']
  chance_error: Float[Array, 'm l']


def spread(
  a: Float[Array, 'm n n'],
  b: Float[Array, 'l n n'],
  valid: Bool[Array, ' n'],
  chance: Float[Array, '#m #l'],
  chance_sd: Float[Array, '#m #l'],
  clusters: Int[Array, ' n'] | None = None,
) -> Spread:
  """Standard errors of <a, b> for all pairs, and what they are made of.

  Args:
    a: matrices of norm 1, their rows and columns zero where not valid.
    b: those of the other side.
    valid: the sentences that count.
    chance: mean of the score over all pairings of the sentences.
    chance_sd: standard deviation over them. With clusters neither is used:
      pairings of sentences say nothing of clusters.
    clusters: an id from 0 to n - 1 for each row; rows of the same id (the
      recordings of a sentence) are new together or not at all.
  """
  moved, value = influences(a, b, valid, clusters), _inner(a, b)
  if clusters is None:
    present = valid
    twofold = _twofold(a, b, value, jnp.sum(valid))
    own = _floor_variance(a, b, chance, valid)
    alone = jnp.maximum(twofold, chance_sd**2)
    above = jnp.where(chance < 1, 1 - chance, 1)
    room = jnp.clip((1 - value) / above, 0, 1) ** 2
  else:
    present = _present(clusters, valid)
    twofold = _twofold_clusters(a, b, value, valid, clusters)
    own, alone, room = jnp.zeros_like(value), twofold, 0
  count = jnp.sum(present)
  moved *= jnp.sqrt(count / (count - 1))
  jackknife = jnp.sum(moved**2, axis=0)
  once = jnp.maximum(jackknife - 2 * twofold, 0)
  pairs = jnp.maximum(twofold, room * alone)
  error = jnp.sqrt(jnp.maximum(once + pairs, room * (alone + own)))
  scale = error / jnp.sqrt(jnp.where(jackknife > 0, jackknife, 1))
  influence = moved * scale
  return Spread(
    influence, error, degrees(moved, present), jnp.sqrt(alone + own)
  )


def degrees(
  influence: Float[Array, 'n *cells'], present: Bool[Array, ' n']
) -> Float[Array, '*cells']:
  """Degrees of freedom of the norm, by Satterthwaite from the kurtosis.

  Args:
    influence: rows that are not present are zero.
    present: the sentences (clusters) that count.
  """
  count = jnp.sum(present)
  square = influence**2
  total = jnp.sum(square, axis=0)
  share = square / jnp.where(total > 0, total, 1)
  found = 2 / jnp.maximum(jnp.sum(share**2, axis=0) - 1 / count, 1e-6)
  return jnp.clip(found, 1, count - 1)


def replicates(
  influence: Float[Array, 'n *cells'], key: Key[Array, ''], count: int
) -> Float[Array, 'count *cells']:
  """Deviations of a score over new sentences, jointly for all cells.

  A multiplier bootstrap: normal weights of the sentences, the same for all
  cells, so that differences between cells and the maximum over a map have the
  right spread. Add the value to get a replicate of it.
  """
  weights = jax.random.normal(key, (count, influence.shape[0]))
  return jnp.tensordot(weights, influence, 1, precision='highest')


def row_products(
  a: Float[Array, 'm n n'], b: Float[Array, 'l n n']
) -> Float[Array, 'n m l']:
  """sum_j a[m, i, j] b[l, i, j] of all pairs: n matrix products."""

  def at(i: Int[Array, '']) -> Float[Array, 'm l']:
    return jnp.matmul(a[:, i], b[:, i].T, precision='highest')

  # XLA's batched product is twice as slow on a CPU.
  return jax.lax.map(at, jnp.arange(a.shape[1]))


def influences(
  a: Float[Array, 'm n n'],
  b: Float[Array, 'l n n'],
  valid: Bool[Array, ' n'],
  clusters: Int[Array, ' n'] | None = None,
) -> Float[Array, 'n m l']:
  """(n-1)/n (score - score without the sentence), minus its mean.

  With clusters the same of clusters, each in the row of its id. NaN where the
  score has no value without one of them. Arguments as of `spread`.
  """
  n = jnp.sum(valid)
  products, diagonals = row_products(a, b), _diagonals(a)[:, :, None]
  value = jnp.sum(products, axis=0)
  lost = _lost(products, diagonals * _diagonals(b)[:, None], n)
  own_a, own_b, present = _share_lost(a, n), _share_lost(b, n), valid
  if clusters is not None:
    # Pairs within a cluster are lost once, not with each of their sentences.
    within = _within(clusters)
    inside = (
      row_products(a * within, b),
      *(jnp.sum(x * x * within, axis=2).T for x in (a, b)),
    )
    lost, own_a, own_b = (
      jax.ops.segment_sum(whole - part, clusters, clusters.size)
      for whole, part in zip((lost, own_a, own_b), inside, strict=True)
    )
    present = _present(clusters, valid)
  left = 1 - own_a[:, :, None], 1 - own_b[:, None]
  kept = left[0] * left[1]
  noise = jnp.finfo(kept.dtype).eps * n
  root = jnp.sqrt(jnp.where(jnp.minimum(*left) > noise, kept, jnp.nan))
  # value - (value - lost) / root, written so that nothing cancels
  change = (lost - value * (1 - kept) / (1 + root)) / root
  count, present = jnp.sum(present), present[:, None, None]
  mean = jnp.sum(jnp.where(present, change, 0), axis=0) / count
  return jnp.where(present, (count - 1) / count * (change - mean), 0)


def _within(clusters: Int[Array, ' n']) -> Bool[Array, 'n n']:
  """Pairs of different sentences of one cluster."""
  same = clusters[:, None] == clusters
  return same & ~jnp.eye(clusters.size, dtype=bool)


def _present(
  clusters: Int[Array, ' n'], valid: Bool[Array, ' n']
) -> Bool[Array, ' n']:
  """The ids that a valid sentence has."""
  return jax.ops.segment_max(valid.astype(int), clusters, valid.size) > 0


def _inner(
  a: Float[Array, 'm n n'], b: Float[Array, 'l n n']
) -> Float[Array, 'm l']:
  return jnp.einsum('mij,lij->ml', a, b, precision='highest')


def _diagonals(x: Float[Array, 'm n n']) -> Float[Array, 'n m']:
  return jnp.diagonal(x, axis1=1, axis2=2).T


def _lost(
  products: Float[Array, 'n *cells'],
  diagonals: Float[Array, 'n *cells'],
  n: Int[Array, ''],
) -> Float[Array, 'n *cells']:
  """What leaving each sentence out takes from an inner product."""
  hollow = jnp.all(diagonals == 0, axis=0)
  whole = 2 * n / (n - 1) * products - (n / (n - 1)) ** 2 * diagonals
  return jnp.where(hollow, 2 * (n - 2) / (n - 3) * products, whole)


def _share_lost(
  x: Float[Array, 'm n n'], n: Int[Array, '']
) -> Float[Array, 'n m']:
  """What leaving each sentence out takes from the squared norm."""
  return _lost(jnp.sum(x * x, axis=2).T, _diagonals(x) ** 2, n)


def _floor_variance(
  a: Float[Array, 'm n n'],
  b: Float[Array, 'l n n'],
  chance: Float[Array, '#m #l'],
  valid: Bool[Array, ' n'],
) -> Float[Array, 'm l']:
  """Jackknife variance of tr A tr B / (n-1), what chance gives on average.

  A permutation keeps the traces; new sentences do not.
  """
  n = jnp.sum(valid)

  def relative(x: Float[Array, 'm n n']) -> Float[Array, 'n m']:
    """By what share each sentence left out changes tr X / |X|."""
    trace = jnp.trace(x, axis1=1, axis2=2)
    hollow = jnp.abs(trace) < jnp.finfo(x.dtype).eps * n
    gone = _diagonals(x) / jnp.where(hollow, 1, trace) * n / (n - 1)
    lost = _share_lost(x, n)
    root = jnp.sqrt(jnp.maximum(1 - lost, jnp.finfo(x.dtype).eps))
    change = (lost / (1 + root) - gone) / root
    return jnp.where(valid[:, None] & ~hollow, change, 0)

  def sums(
    u: Float[Array, 'n m'], v: Float[Array, 'n l']
  ) -> Float[Array, 'm l']:
    return jnp.matmul(u.T, v, precision='highest')

  # u + v + uv is the change of the product
  u, v = relative(a), relative(b)
  total = jnp.sum(u, axis=0)[:, None] + jnp.sum(v, axis=0) + sums(u, v)
  alone = jnp.sum(u**2, axis=0)[:, None] + jnp.sum(v**2, axis=0)
  mixed = sums(u, v) + sums(u**2, v) + sums(u, v**2)
  squares = alone + 2 * mixed + sums(u**2, v**2)
  without = chance * (n - 1) / (n - 2)  # one less to divide by
  return without**2 * (n - 1) / n * (squares - total**2 / n)


def _twofold(
  a: Float[Array, 'm n n'],
  b: Float[Array, 'l n n'],
  value: Float[Array, 'm l'],
  n: Int[Array, ''],
) -> Float[Array, 'm l']:
  """Variance that comes from pairs of sentences.

  2 sum_ij W_ij^2 for W = A o B - value/2 (A o A + B o B), U-centred; in
  products of powers of A and B, since W of all pairs would not fit.
  """
  a, b = (x * ~jnp.eye(x.shape[1], dtype=bool) for x in (a, b))
  squared_a, squared_b = a * a, b * b
  both = _inner(squared_a, squared_b)
  own_a = jnp.sum(squared_a**2, axis=(1, 2))[:, None]
  own_b = jnp.sum(squared_b**2, axis=(1, 2))
  mixed = _inner(squared_a * a, b) + _inner(a, squared_b * b)
  whole = both + value**2 / 4 * (own_a + own_b + 2 * both) - value * mixed
  rows = row_products(a, b) - value / 2 * (
    jnp.sum(squared_a, axis=2).T[:, :, None]
    + jnp.sum(squared_b, axis=2).T[:, None]
  )
  total = jnp.sum(rows, axis=0)
  effects = 2 / (n - 2) * jnp.sum(rows**2, axis=0)
  rest = whole - effects + total**2 / ((n - 1) * (n - 2))
  return 2 * jnp.maximum(rest, 0)


def _twofold_clusters(
  a: Float[Array, 'm n n'],
  b: Float[Array, 'l n n'],
  value: Float[Array, 'm l'],
  valid: Bool[Array, ' n'],
  clusters: Int[Array, ' n'],
) -> Float[Array, 'm l']:
  """As `_twofold`, of pairs of clusters: W is summed over their sentences."""
  n, count = clusters.size, jnp.sum(_present(clusters, valid))
  hollow = ~jnp.eye(n, dtype=bool)

  def of_pair(
    x: Float[Array, 'n n'], y: Float[Array, 'n n'], v: Float[Array, '']
  ) -> Float[Array, '']:
    w = x * y - v / 2 * (x * x + y * y)
    half = jax.ops.segment_sum(w, clusters, n)
    blocks = jax.ops.segment_sum(half.T, clusters, n) * hollow
    rows = jnp.sum(blocks, axis=1)
    effects = 2 / (count - 2) * jnp.sum(rows**2)
    mean = jnp.sum(rows) ** 2 / ((count - 1) * (count - 2))
    return 2 * jnp.maximum(jnp.sum(blocks**2) - effects + mean, 0)

  def of_row(side: tuple[Array, Array]) -> Float[Array, ' l']:
    x, values = side
    return jax.lax.map(lambda other: of_pair(x, *other), (b, values))

  return jax.lax.map(of_row, (a, value))
