"""Similarity of shape: how far rotations, shifts and scaling align two sides.

With X and Y centred and at Frobenius norm 1, the best rotation leaves
min_Q ||X - YQ||^2 = 2 - 2 ||X'Y||_* (Schoenemann 1966). The nuclear norm is
the similarity given here: 1 for equal shapes, 0 for orthogonal ones. Williams
et al., "Generalized Shape Metrics on Neural Representations", NeurIPS 2021,
take the metric sqrt(2 - 2 similarity), or the angle arccos(similarity); Ding
et al., NeurIPS 2021, its square, 2 - 2 similarity.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrep.similarity import linalg
from jaxrep.similarity.measure import Factors, Measure


def factor(x: Float[Array, 'n p'], valid: Bool[Array, ' n']) -> Factors:
  """Principal component scores [n, r] of Frobenius norm 1.

  x = U S V' has the shape of U S, of which the widths of two sides may differ.
  """
  u, s = linalg.left_singular(linalg.centre(x, valid))
  k = linalg.rank(s, jnp.sum(valid), x.shape[1])
  inside = valid[:, None] & (jnp.arange(s.size) < k)
  norm = jnp.linalg.norm(s)
  scores = u * (s / jnp.where(norm > 0, norm, 1))
  return Factors(jnp.where(inside, scores, 0), k, k > 0)


def score(fx: Factors, fy: Factors) -> Float[Array, '']:
  """Nuclear norm of the cross product."""
  return linalg.nuclear_norm(linalg.cross(fx.rows, fy.rows))


PROCRUSTES = Measure(
  factor=factor,
  score=score,
  describe=lambda _: (
    "Procrustes similarity: ||X'Y||_* / (||X||_F ||Y||_F) of features centred "
    'on the sentences compared; the Procrustes distance is '
    'sqrt(2 - 2 similarity)'
  ),
  undefined='the sentences do not differ',
)
