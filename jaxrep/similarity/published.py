"""Variants of SVCCA by which numbers were published.

None is the standard definition; each is what one public implementation
computes, so that its numbers can be reproduced. Where those fail (rank
deficiency, n < p) these keep only components above rounding.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrep.similarity import canonical, linalg
from jaxrep.similarity.measure import Factors, Measure, Parameters

_KEPT_SUM = 0.98  # google/svcca, cca_core.get_cca_similarity: threshold


def score_leading(fx: Factors, fy: Factors) -> Float[Array, '']:
  """Mean of the fewest leading correlations with 98 % of their sum."""
  cross = linalg.cross(canonical.kept(fx), canonical.kept(fy))
  with jax.default_matmul_precision('highest'):
    rho = jnp.linalg.svd(cross, compute_uv=False)
  partial = jnp.cumsum(rho)
  short = partial < _KEPT_SUM * partial[-1]
  return jnp.mean(rho, where=jnp.pad(short[:-1], (1, 0), constant_values=True))


def geometric(k_a: Any, k_b: Any) -> Any:
  """min(k_a, k_b) over their geometric mean."""
  larger = jnp.maximum(jnp.maximum(k_a, k_b), 1)
  return jnp.sqrt(jnp.minimum(k_a, k_b) / larger)


def score_geometric(fx: Factors, fy: Factors) -> Float[Array, '']:
  """Sum of the correlations over the geometric mean of k_a and k_b."""
  return canonical.score(fx, fy) * geometric(fx.k, fy.k)


def factor_uncentred(
  x: Float[Array, 'n p'],
  valid: Bool[Array, ' n'],
  rate: Float[Array, ''] | float,
) -> Factors:
  """Basis [n, r] of components that are cut first and centred then.

  Args:
    x: one representation, a row per sentence.
    valid: the sentences that count.
    rate: as many components of the matrix as it comes are kept as have a
      cumulative sum of singular values strictly below this share.
  """
  x = jnp.where(valid[:, None], x, 0)
  largest = jnp.max(jnp.abs(x))
  u, s = linalg.left_singular(x / jnp.where(largest > 0, largest, 1))
  sums = jnp.cumsum(s)
  reduced = jnp.where(sums < rate * sums[-1], u * s, 0)
  return canonical.factor(reduced, valid, left_out=0.0, k=reduced.shape[1])


def _with_cut(name: str, rest: str):
  def describe(parameters: Parameters) -> str:
    return (
      f'{name}: features centred on the sentences compared; '
      f'{canonical.describe_cut(parameters)} of each side; {rest}'
    )

  return describe


def _describe_anatome(parameters: Parameters) -> str:
  return (
    'SVCCA as in anatome: components of the features as they come (not '
    'centred) while the sum of singular values (not squared) stays below '
    f'{parameters.variance:.6g} of the whole, then centred; sum of the '
    'canonical correlations / min(k_a, k_b); changes with an offset'
  )


SVCCA_GOOGLE = Measure(
  factor=canonical.factor,
  score=score_leading,
  describe=_with_cut(
    'SVCCA as in google/svcca',
    'mean of the leading canonical correlations that hold 98 % of their sum',
  ),
  undefined='no principal component can be told from rounding',
  arguments=canonical.SVCCA.arguments,
  components=True,
)
SVCCA_NETREP = canonical.SVCCA._replace(
  score=score_geometric,
  scale=geometric,
  describe=_with_cut(
    'SVCCA as in netrep (alpha=0, cosine of its angle)',
    'sum of the canonical correlations / sqrt(k_a k_b)',
  ),
)
SVCCA_ANATOME = canonical.SVCCA._replace(
  factor=factor_uncentred,
  describe=_describe_anatome,
  undefined='no component stays below the share of the singular values',
  arguments=lambda parameters: {'rate': parameters.variance},
  centred=False,
)
