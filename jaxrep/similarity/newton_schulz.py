"""Polar factor and nuclear norm by matrix products alone.

An odd polynomial of a matrix acts on its singular values, and a composition of
such polynomials that is near 1 on all but the tiniest of them gives the polar
factor U V' (Higham, Functions of Matrices, 2008, chapter 8). Nothing here can
fail to converge, repeated and zero singular values are like any others, and
padding by zeros stays zero.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# a, b, c of x -> a x + b x^3 + c x^5. Each step is the best uniform
# approximation to 1 on [low, high]: high is what the steps before it leave of
# 1.01 (and 0.3 % more, beyond which a step magnifies rounding errors), low what
# they leave of 3.2e-6, but at least 0.06 high. Without that last bound the
# steps are fewer (Amsel et al., "The Polar Express", 2025), but send some of
# the large singular values so near 0 that float32 loses their directions.
_GROW = (4.003909, -4.073687, 1.116072)
STEPS = (
  (6.420168, -16.794780, 11.830500),
  *[_GROW] * 7,
  (2.586044, -2.004022, 0.496940),
  (1.921357, -1.297252, 0.377034),
  (1.875031, -1.250026, 0.374995),
)


def polar(matrix: Float[Array, 'k l']) -> Float[Array, 'k l']:
  """U V' of a matrix U S V' whose singular values lie in [0, 1.01].

  A singular value above 4e-6 becomes 1 within 2e-7 and rounding, a smaller one
  something between 0 and 1, and 0 stays 0. Above 1.01 the result is not finite.
  """
  if matrix.shape[0] < matrix.shape[1]:
    return polar(matrix.T).T
  with jax.default_matmul_precision('highest'):
    return jax.lax.scan(_step, matrix, jnp.asarray(STEPS, matrix.dtype))[0]


def nuclear_norm(matrix: Float[Array, 'k l']) -> Float[Array, '']:
  """Sum of singular values that lie in [0, 1.01].

  Each is right to 3e-7 and rounding, whatever the spectrum; so a sum of m
  values is right to m times that. Divide a matrix with larger ones by a bound
  of them first: the tighter the bound, the fewer digits are lost.
  """
  return jnp.sum(jnp.sum(polar(matrix) * matrix, axis=1))


def _step(
  matrix: Float[Array, 'k l'], step: Float[Array, ' 3']
) -> tuple[Float[Array, 'k l'], None]:
  a, b, c = step
  gram = matrix.T @ matrix
  return a * matrix + matrix @ (b * gram + c * (gram @ gram)), None
