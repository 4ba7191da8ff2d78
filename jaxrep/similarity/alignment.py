"""Similarity by centred kernel alignment, with the linear kernel.

Kornblith et al., "Similarity of Neural Network Representations Revisited",
ICML 2019: the cosine between centred Gram matrices; with the linear kernel it
is the RV coefficient. Debiased: the cosine between U-centred Grams, whose
products are unbiased estimates of HSIC (Szekely and Rizzo 2014; Song et al.
2012). Rows are centred before the Gram is formed, since an offset would
swallow the digits of what is compared.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrep.similarity import linalg
from jaxrep.similarity.measure import Factors, Measure
from jaxrep.stats import moments

_LOST = 2e-5  # more than this much rounding is no value


def u_centre(
  gram: Float[Array, 'n n'], valid: Bool[Array, ' n']
) -> Float[Array, 'n n']:
  """Off-diagonal entries with row and column means removed; diagonal zero.

  Each row of the result sums to zero without its diagonal, which is what makes
  products of two such matrices unbiased.
  """
  n = jnp.sum(valid)
  pairs = valid[:, None] & valid & ~jnp.eye(valid.size, dtype=bool)
  gram = jnp.where(pairs, gram, 0)
  means = jnp.sum(gram, axis=1) / (n - 2)
  means -= jnp.sum(means) / (2 * (n - 1))
  return jnp.where(pairs, gram - means[:, None] - means, 0)


def _unit(
  rows: Float[Array, 'n n'], gram: Float[Array, 'n n'], n: Int[Array, '']
) -> Factors:
  """Rows at norm 1, undefined where they are lost in the rounding of `gram`.

  An outlier leaves little of a Gram matrix once that is centred: measured, a
  score is then off by 0.35 eps ||gram|| / ||rows||.
  """
  norm = _norm(rows)
  defined = norm > jnp.finfo(gram.dtype).eps / _LOST * _norm(gram)
  unit = rows / jnp.where(norm > 0, norm, 1)
  return Factors(unit, jnp.zeros_like(n), defined)


def _norm(matrix: Float[Array, 'n n']) -> Float[Array, '']:
  """In two steps: one long sum of equal terms would lose digits."""
  return jnp.linalg.norm(jnp.linalg.norm(matrix, axis=1))


def factor(x: Float[Array, 'n p'], valid: Bool[Array, ' n']) -> Factors:
  """Centred Gram [n, n] of Frobenius norm 1."""
  gram = linalg.gram(linalg.centre(x, valid))
  return _unit(gram, gram, jnp.sum(valid))


def factor_debiased(
  x: Float[Array, 'n p'], valid: Bool[Array, ' n']
) -> Factors:
  """U-centred Gram [n, n] of Frobenius norm 1."""
  gram = linalg.gram(linalg.centre(x, valid))
  hollow = jnp.where(jnp.eye(valid.size, dtype=bool), 0, gram)
  return _unit(u_centre(gram, valid), hollow, jnp.sum(valid))


def score(fx: Factors, fy: Factors) -> Float[Array, '']:
  """Inner product of the Grams."""
  return linalg.long_inner(fx.rows, fy.rows)


CKA = Measure(
  factor=factor,
  score=score,
  describe=lambda _: (
    'linear CKA, biased: cosine of the Gram matrices of features centred on '
    'the sentences compared'
  ),
  undefined='the sentences do not differ',
  inner=True,
  pairwise=True,
  summary=moments.summarise,
  null=moments.null,
  jackknife=True,
)
DEBIASED_CKA = CKA._replace(
  factor=factor_debiased,
  describe=lambda _: (
    'linear CKA, debiased: cosine of the U-centred Gram matrices of features '
    'centred on the sentences compared; can be negative'
  ),
  undefined=(
    'no pair of sentences is more alike than another, or one sentence lies so '
    'far out that the others cannot be told apart'
  ),
  least=4,
)
