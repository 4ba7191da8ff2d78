"""Similarity by projection-weighted canonical correlation.

PWCCA: Morcos et al., "Insights on Representational Similarity in Neural
Networks with Canonical Correlation", NeurIPS 2018, section 2.2: the canonical
correlations, each weighted by how much of one side's features its canonical
variate h_i accounts for, alpha_i = sum_j |<h_i, x_j>|.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float

from jaxrep.similarity import canonical, linalg
from jaxrep.similarity.measure import Factors, Measure, Parameters

# Correlations this close to 1 are 1 in float32. Where k_a + k_b > n - 1 many
# are, and any basis of what they span is as canonical as another.
_UNIT = 1e-5


def factor(
  x: Float[Array, 'n p'], valid: Bool[Array, ' n'], **cut: Any
) -> Factors:
  """The basis of SVCCA; `rest` has the features [r, p] in terms of it.

  Args:
    x: one representation, a row per sentence.
    valid: the sentences that count.
    **cut: as of `canonical.factor`.
  """
  factors = canonical.factor(x, valid, **cut)
  features = linalg.cross(factors.rows, linalg.centre(x, valid))
  return factors._replace(rest=(features,))


def score(fx: Factors, fy: Factors) -> Float[Array, '']:
  """Weighted by the side with fewer components; the mean of both if equal."""
  cross = linalg.cross(canonical.kept(fx), canonical.kept(fy))
  by_x, by_y = _weighted(cross, fx), _weighted(cross.T, fy)
  fewer = jnp.where(fx.k < fy.k, by_x, by_y)
  return jnp.where(fx.k == fy.k, (by_x + by_y) / 2, fewer)


def _weighted(cross: Float[Array, 'k l'], side: Factors) -> Float[Array, '']:
  """Mean correlation, weighted by the side that the rows of `cross` belong to.

  Its canonical directions are the eigenvectors of cross cross'. What is not
  kept gets eigenvalues of its own, lest it mix with correlations of 0. Of
  directions with correlation 1, m in number, the weights are those expected of
  a random basis of their span: a random unit vector in it has
  E |<h, x>| = ||x projected|| Gamma(m / 2) / (sqrt(pi) Gamma((m + 1) / 2)).
  """
  inside = jnp.arange(len(cross)) < side.k
  features = jnp.where(inside[:, None], side.rest[0], 0)
  with jax.default_matmul_precision('highest'):
    squared = cross @ cross.T - jnp.diag(jnp.where(inside, 0.0, 2.0))
    directions = jnp.linalg.eigh(squared, symmetrize_input=False)[1]
    rho = jnp.linalg.norm(cross.T @ directions, axis=0)
    projected = directions.T @ features
  unit = rho > 1 - _UNIT
  weights = jnp.where(unit, 0, jnp.sum(jnp.abs(projected), axis=1))
  m = jnp.maximum(jnp.sum(unit), 1).astype(rho.dtype)
  share = m * jnp.exp(gammaln(m / 2) - gammaln((m + 1) / 2)) / jnp.sqrt(jnp.pi)
  together = jnp.where(unit[:, None], projected, 0)
  shared = share * jnp.sum(jnp.linalg.norm(together, axis=0))
  total = jnp.sum(weights) + shared
  ones = jnp.sum(jnp.where(unit, rho, 0)) / m
  return (weights @ rho + shared * ones) / jnp.where(total > 0, total, 1)


def _describe(parameters: Parameters) -> str:
  return (
    'PWCCA: features centred on the sentences compared; '
    f'{canonical.describe_cut(parameters)} of each side; canonical '
    'correlations weighted by sum_j |<h_i, x_j>| over the centred features of '
    'the side with fewer components (mean of both if equal), correlations of 1 '
    'by what a random basis of theirs would get; no regularisation'
  )


PWCCA = Measure(
  factor=factor,
  score=score,
  describe=_describe,
  undefined='no principal component can be told from rounding',
  arguments=canonical.SVCCA.arguments,
  components=True,
)
