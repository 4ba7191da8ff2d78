"""Similarity of whitened features: ridge CCA and mean squared CCA.

Ridge CCA (Vinod 1976) adds lambda I to both covariances. In terms of a side's
centred SVD, U S V', that shrinks each orthonormal component by its own
w = s / sqrt(s^2 + lambda), and the regularised canonical correlations are the
singular values of diag(w_a) U_a' U_b diag(w_b).

Mean squared CCA is linear CKA of whitened features (Kornblith et al., ICML
2019, table 1: R^2_CCA), so all pairs are one matrix product.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrep.similarity import canonical, linalg
from jaxrep.similarity.measure import Factors, Measure, Parameters
from jaxrep.stats import moments


def factor_ridge(
  x: Float[Array, 'n p'],
  valid: Bool[Array, ' n'],
  ridge: Float[Array, ''] | float,
) -> Factors:
  """Shrunk orthonormal components [n, r], zero beyond the rank k.

  Args:
    x: one representation, a row per sentence.
    valid: the sentences that count.
    ridge: lambda, relative to the mean variance of the k components; so
      neither units nor further constant features change the score.
  """
  u, s = linalg.left_singular(linalg.centre(x, valid))
  k = linalg.rank(s, jnp.sum(valid), x.shape[1])
  inside = jnp.arange(s.size) < k
  variance = jnp.where(inside, jnp.square(s / jnp.where(k > 0, s[0], 1)), 0)
  shrunk = variance + ridge * jnp.sum(variance) / jnp.maximum(k, 1)
  weight = jnp.sqrt(variance / jnp.where(inside, shrunk, 1))
  return Factors(u * weight, k, k > 0)


def score_ridge(fx: Factors, fy: Factors) -> Float[Array, '']:
  """Sum of the correlations over the largest that the shrinkage allows.

  By von Neumann's trace inequality that is sum_i w_a,i w_b,i, both sorted. It
  gives an identical input 1 and nothing more than 1, and without a ridge it is
  min(k_a, k_b).
  """
  most = min(fx.rows.shape[1], fy.rows.shape[1])
  a, b = (jnp.linalg.norm(f.rows[:, :most], axis=0) for f in (fx, fy))
  largest = jnp.sum(a * b)
  total = linalg.nuclear_norm(linalg.cross(fx.rows, fy.rows))
  return total / jnp.where(largest > 0, largest, 1)


def factor_projector(
  x: Float[Array, 'n p'], valid: Bool[Array, ' n'], **cut: Any
) -> Factors:
  """Projector [n, n] on the kept components, at Frobenius norm 1.

  Args:
    x: one representation, a row per sentence.
    valid: the sentences that count.
    **cut: as of `canonical.factor`.
  """
  factors = canonical.factor(x, valid, **cut)
  norm = jnp.sqrt(jnp.maximum(factors.k, 1).astype(x.dtype))
  return factors._replace(rows=linalg.gram(canonical.kept(factors)) / norm)


def score_projectors(fx: Factors, fy: Factors) -> Float[Array, '']:
  """||U_a' U_b||_F^2 / min(k_a, k_b)."""
  return linalg.long_inner(fx.rows, fy.rows) * _scale(fx.k, fy.k)


def _scale(k_a: Any, k_b: Any) -> Any:
  """sqrt(k_a k_b) / min(k_a, k_b)."""
  larger, smaller = jnp.maximum(k_a, k_b), jnp.minimum(k_a, k_b)
  return jnp.sqrt(larger / jnp.maximum(smaller, 1))


def _describe_ridge(parameters: Parameters) -> str:
  return (
    'CCA: features centred on the sentences compared; all principal '
    f'components; ridge {parameters.ridge:.6g} x the mean variance of a '
    'component on both sides; sum of the canonical correlations / the largest '
    'sum that the ridge allows (min(k_a, k_b) without one)'
  )


def _describe_squared(parameters: Parameters) -> str:
  return (
    'mean squared CCA: features centred on the sentences compared; '
    f'{canonical.describe_cut(parameters)} of each side; sum of the squared '
    'canonical correlations / min(k_a, k_b); no regularisation'
  )


CCA = Measure(
  factor=factor_ridge,
  score=score_ridge,
  describe=_describe_ridge,
  undefined='no principal component can be told from rounding',
  arguments=lambda parameters: {'ridge': parameters.ridge},
)
MEAN_SQUARED_CCA = Measure(
  factor=factor_projector,
  score=score_projectors,
  describe=_describe_squared,
  undefined='no principal component can be told from rounding',
  arguments=canonical.SVCCA.arguments,
  inner=True,
  scale=_scale,
  pairwise=True,
  summary=moments.summarise,
  null=moments.null,
)
