"""p-values, one-sided: how often chance is at least as similar. On the host."""

import numpy as np
from jaxtyping import Float
from scipy import special

Cells = Float[np.ndarray, '*#cell'] | float

_STRAIGHT = 1e-3  # skewness below which Pearson's curve is the normal one


def upper_tail(
  value: Cells, mean: Cells, sd: Cells, skewness: Cells
) -> Float[np.ndarray, '*cell']:
  """P(a random pairing's score >= value) by Pearson's type III curve.

  A gamma variable, shifted, scaled and for a negative skewness mirrored to
  have these three moments. 1 where the sd is 0, since then every pairing gives
  the same score; NaN where an argument is. For linear CKA of even rows it is
  right to a factor of 1.6 at p = 1e-3. Where few sentences hold most of the
  norm (log-normal row norms with sigma 1, n = 64) it keeps the 5 % level, but
  the debiased score's tails are longer than any three moments say: p <= 1e-3
  comes 8 times in 1,000. Count random pairings there.
  """
  value, mean, sd, skewness = np.broadcast_arrays(value, mean, sd, skewness)
  z = (value - mean) / np.where(sd > 0, sd, 1)
  bent = np.where(np.abs(skewness) < _STRAIGHT, _STRAIGHT, np.abs(skewness))
  shape = 4 / np.square(bent, dtype=np.float64)
  at = np.maximum(shape + np.sign(skewness) * z * np.sqrt(shape), 0)
  right, left = special.gammaincc(shape, at), special.gammainc(shape, at)
  tail = np.where(skewness > 0, right, left)
  tail = np.where(np.abs(skewness) < _STRAIGHT, special.ndtr(-z), tail)
  unknown = np.isnan(value + mean + sd + skewness)
  return np.where(unknown, np.nan, np.where(sd > 0, tail, 1.0))


def bent(
  p: Float[np.ndarray, '*cell'], skewness: Float[np.ndarray, '*cell']
) -> Float[np.ndarray, '*cell']:
  """What a p of a symmetric law is by Pearson's curve of that skewness."""
  bent = upper_tail(-special.ndtri(p), 0.0, 1.0, skewness)
  return np.where(skewness > _STRAIGHT, bent, p)


def monte_carlo(
  value: Float[np.ndarray, '*cell'], draws: Float[np.ndarray, '*cell draw']
) -> Float[np.ndarray, '*cell']:
  """(1 + draws at or above the value) / (1 + draws); NaN where value is.

  Never 0, and valid at any number of draws (Phipson and Smyth 2010).
  """
  above = np.sum(draws >= value[..., None], axis=-1)
  p = (1 + above) / (1 + draws.shape[-1])
  return np.where(np.isnan(value), np.nan, p)


def student(
  value: Cells, mean: Cells, sd: Cells, dof: Cells | int, error: Cells = 0.0
) -> Float[np.ndarray, '*cell']:
  """P(score >= value) where mean and sd were themselves estimated.

  Args:
    value: scores.
    mean: estimated mean of a random pairing's score.
    sd: estimated sd of one random pairing's score.
    dof: degrees of freedom of `sd`.
    error: standard error of `mean`.

  Returns:
    Student's tail; 1 where the sd is 0, NaN where an argument is.
  """
  spread = np.hypot(sd, error)
  t = (value - mean) / np.where(spread > 0, spread, 1)
  tail = np.where(spread > 0, special.stdtr(dof, -t), 1.0)
  return np.where(np.isnan(value + mean + spread), np.nan, tail)
