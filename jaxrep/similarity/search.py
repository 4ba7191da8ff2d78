"""Retrieval: is a sentence's counterpart the most alike on the other side?

R@1 and R@5: the share of sentences whose counterpart is among the first 1 or 5
by cosine, in both directions, in a space that both sides share (Artetxe and
Schwenk, TACL 2019); ties give the credit that
random order would, so that chance is 1/n and 5/n exactly. CSLS (Conneau et
al., "Word Translation Without Parallel Data", ICLR 2018, eq. 3) takes off what
a candidate has in common with every query, which hubs have much of.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrep.similarity import linalg, neighbours
from jaxrep.similarity.measure import Factors, Measure


def factor(x: Float[Array, 'n p'], valid: Bool[Array, ' n']) -> Factors:
  """Rows [n, p] from the mean of this side's sentences, at length 1."""
  rows, defined = neighbours.centred_directions(x, valid)
  return Factors(rows, jnp.zeros((), int), defined)


def factor_uncentred(
  x: Float[Array, 'n p'], valid: Bool[Array, ' n']
) -> Factors:
  """Rows [n, p] at length 1."""
  rows, defined = neighbours.directions(x, valid)
  return Factors(rows, jnp.zeros((), int), defined)


def factor_csls(
  x: Float[Array, 'n p'],
  valid: Bool[Array, ' n'],
  neighbours: Int[Array, ''] | int,
) -> Factors:
  """As `factor`; the number of neighbours goes along."""
  factors = factor(x, valid)
  defined = factors.defined & (jnp.sum(valid) >= neighbours)
  return factors._replace(defined=defined, rest=(jnp.asarray(neighbours),))


def hits(
  likeness: Float[Array, 'n n'],
  rounding: Float[Array, ' n'],
  valid: Bool[Array, ' n'],
  at: int,
) -> Float[Array, '']:
  """Share of rows whose diagonal entry is among the `at` largest.

  Ranks are counted, not sorted. A row whose entry ties with e - 1 others behind
  g larger ones has the chance (at - g) / e of a random order.
  """
  more = likeness - jnp.diagonal(likeness)[:, None]
  rounding = jnp.maximum(rounding[:, None], rounding)
  larger = jnp.sum(more > rounding, axis=1, where=valid)
  tied = jnp.sum(jnp.abs(more) <= rounding, axis=1, where=valid)
  credit = jnp.clip((at - larger) / jnp.maximum(tied, 1), 0, 1)
  return jnp.sum(credit, where=valid) / jnp.sum(valid)


def by_cosine(queries: Factors, targets: Factors, at: int) -> Float[Array, '']:
  """R@at by cosine."""
  valid = _valid(targets)
  return hits(
    *neighbours.likeness(queries.rows, targets.rows, valid), valid, at
  )


def by_csls(queries: Factors, targets: Factors, at: int) -> Float[Array, '']:
  """R@at by CSLS.

  2 cos(x, y) - r(x) - r(y), where r(y) is the mean cosine of y with its k
  nearest queries; r(x) is the same for all targets of x and does not count.
  """
  valid, k = _valid(targets), targets.rest[0]
  cosines = linalg.cross(targets.rows.T, queries.rows.T)
  nearest = jnp.where(valid, cosines, -jnp.inf)
  hub = neighbours.largest(nearest, k)[1] / k
  rounding = jnp.full(valid.shape, 2 * neighbours.ROUNDING)
  return hits(2 * cosines.T - hub, rounding, valid, at)


def _valid(factors: Factors) -> Bool[Array, ' n']:
  """Every valid sentence has a direction, where the measure is defined."""
  return jnp.any(factors.rows != 0, axis=1)


def _retrieval(
  at: int,
  back: bool = False,
  rule: Callable = by_cosine,
  likeness: str = 'cosine of features centred on the sentences compared',
) -> Measure:
  """R@at of b's sentences for a's or, if `back`, of a's for b's."""
  query, target = ('b', 'a') if back else ('a', 'b')
  first = 'the first' if at == 1 else f'among the first {at}'

  def score(fx: Factors, fy: Factors) -> Float[Array, '']:
    return rule(fy, fx, at) if back else rule(fx, fy, at)

  return Measure(
    factor=factor,
    score=score,
    describe=lambda parameters: (
      f"retrieval R@{at}: share of {query}'s sentences whose counterpart in "
      f'{target} is {first} by '
      f'{likeness.format(neighbours=parameters.neighbours)}; ties in random '
      'order'
    ),
    undefined='a sentence lies at the mean of all, which has no direction',
    least=max(at + 1, 3),
    symmetric=False,
    same_width=True,
    law=lambda k_a, k_b, n: np.full(np.shape(k_a), at / n),
  )


def _csls(back: bool = False) -> Measure:
  likeness = (
    'CSLS, with {neighbours} neighbours, of features centred on the sentences '
    'compared'
  )
  return _retrieval(1, back, by_csls, likeness)._replace(
    factor=factor_csls,
    arguments=lambda parameters: {'neighbours': parameters.neighbours},
    undefined=(
      'a sentence lies at the mean of all, which has no direction, or there '
      'are fewer sentences than the neighbours asked for'
    ),
  )


def _uncentred(back: bool = False) -> Measure:
  likeness = 'cosine of features as they are, not centred'
  return _retrieval(1, back, likeness=likeness)._replace(
    factor=factor_uncentred,
    centred=False,
    undefined='a sentence is a vector of zeros, which has no direction',
  )


RETRIEVAL_R1, RETRIEVAL_R1_BACK = _retrieval(1), _retrieval(1, back=True)
RETRIEVAL_R5, RETRIEVAL_R5_BACK = _retrieval(5), _retrieval(5, back=True)
CSLS_R1, CSLS_R1_BACK = _csls(), _csls(back=True)
UNCENTRED_R1, UNCENTRED_R1_BACK = _uncentred(), _uncentred(back=True)
