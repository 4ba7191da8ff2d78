"""Similarity by canonical correlation of principal components.

SVCCA: Raghu et al., "SVCCA: Singular Vector Canonical Correlation Analysis",
NeurIPS 2017. With orthonormal bases U and V of the kept components, centred on
the sentences compared, the canonical correlations are the singular values of
U'V (Bjorck and Golub 1973), so their sum is a nuclear norm.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrep.similarity import linalg
from jaxrep.similarity.measure import Factors, Measure, Parameters
from jaxrep.stats import wachter

# Shares this close to the threshold, relative to what may be left out, reach
# it: equal singular values would otherwise be cut by the last digit.
_TIE = 1e-5


def fewest_components(
  s: Float[Array, ' r'], left_out: Float[Array, ''] | float
) -> Int[Array, '']:
  """Smallest k whose remainder is at most the share `left_out`.

  Shares are of the variance, the squared singular values. The remainder is
  summed from its smallest terms, which keeps its digits where it is small.
  """
  beyond = jnp.cumsum(jnp.square(s)[::-1])[::-1]
  return jnp.sum(beyond > left_out * (1 + _TIE) * beyond[0])


def factor(
  x: Float[Array, 'n p'],
  valid: Bool[Array, ' n'],
  left_out: Float[Array, ''] | float,
  k: Int[Array, ''] | int,
) -> Factors:
  """Orthonormal basis [n, r] of the principal components; the first k count.

  Args:
    x: one representation, a row per sentence.
    valid: the sentences that count.
    left_out: the share of the variance that may be left out.
    k: keep this many components instead, unless it is 0; all if there are
      fewer.
  """
  u, s = linalg.left_singular(linalg.centre(x, valid))
  wanted = jnp.where(k > 0, k, fewest_components(s, left_out))
  rank = linalg.rank(s, jnp.sum(valid), x.shape[1])
  kept = jnp.minimum(wanted, rank)
  return Factors(u, kept, kept > 0, rank=rank)


def kept(factors: Factors) -> Float[Array, 'n r']:
  """The basis with zeros in place of what is not kept."""
  return jnp.where(
    jnp.arange(factors.rows.shape[1]) < factors.k, factors.rows, 0
  )


def score(fx: Factors, fy: Factors) -> Float[Array, '']:
  """Mean canonical correlation over min(k_a, k_b)."""
  smaller = jnp.maximum(jnp.minimum(fx.k, fy.k), 1)
  return linalg.nuclear_norm(linalg.cross(kept(fx), kept(fy))) / smaller


def leverages(factors: Factors) -> Float[Array, ' n']:
  """The share of each sentence in the kept subspace: its squared row norm."""
  return jnp.sum(jnp.square(kept(factors)), axis=1)


def _arguments(parameters: Parameters) -> dict[str, float]:
  return {'left_out': 1 - parameters.variance, 'k': parameters.k or 0}


def describe_cut(parameters: Parameters) -> str:
  """Which components the cut keeps, in words."""
  if parameters.k is not None:
    return f'the first {parameters.k} principal components'
  return (
    f'the fewest principal components with {parameters.variance:.6g} of the '
    'variance (squared singular values)'
  )


def _describe(parameters: Parameters) -> str:
  return (
    'SVCCA: features centred on the sentences compared; '
    f'{describe_cut(parameters)} of each side; '
    'sum of the canonical correlations / min(k_a, k_b); no regularisation'
  )


SVCCA = Measure(
  factor=factor,
  score=score,
  describe=_describe,
  undefined='no principal component can be told from rounding',
  arguments=_arguments,
  law=wachter.mean_cosine,
  nuclear=True,
)
