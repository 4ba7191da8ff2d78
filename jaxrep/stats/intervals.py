"""Intervals of a score's expectation at this n, over new sentences.

The estimand is the mean of the score over sets of n new sentences, biased
scores included: not its limit for endless n. Errors come from influences
(`jaxrep.stats.influence`), or from values of the score on subsets of the
sentences. Rows drawn with replacement are not offered: a sentence and its copy
would count as a pair of sentences that are alike.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key
from scipy import special

from jaxrep.stats.permutation import random_order
from jaxrep.types import InputError

# Nearer to chance than this many of its standard deviations, the slope of the
# variance cannot be told from the distance to chance.
_NEAR = 2
GROUPS = 3  # of sentences, left out in turn


class Interval(NamedTuple):
  low: Float[np.ndarray, '*cells']
  high: Float[np.ndarray, '*cells']


class Contrast(NamedTuple):
  """A difference of two scores, its interval and two-sided p-value."""

  difference: Float[np.ndarray, '*cells']
  low: Float[np.ndarray, '*cells']
  high: Float[np.ndarray, '*cells']
  p: Float[np.ndarray, '*cells']


def interval(
  value: Float[np.ndarray, '*cells'],
  error: Float[np.ndarray, '*cells'],
  degrees: Float[np.ndarray, '*cells'] | float = np.inf,
  level: float = 0.95,
) -> Interval:
  """value -+ Student's quantile times the standard error."""
  half = _quantile(degrees, level) * error
  return Interval(value - half, value + half)


def interval_above_chance(
  value: Float[np.ndarray, '*cells'],
  error: Float[np.ndarray, '*cells'],
  degrees: Float[np.ndarray, '*cells'] | float,
  chance: Float[np.ndarray, '*cells'],
  chance_error: Float[np.ndarray, '*cells'],
  level: float = 0.95,
) -> Interval:
  """Expectations from which the value is no further than the quantile allows.

  As Wilson's interval of a proportion: the standard error is that at the
  expectation in question, not at the value. Its square goes in a straight line
  from that of independent sides, at chance, to that at the value. Without it
  intervals near chance are too long above and too short below.
  """
  t = _quantile(degrees, level)
  excess = np.maximum(value - chance, 0)
  far = np.maximum(excess, _NEAR * chance_error)
  slope = (error**2 - chance_error**2) / np.where(far > 0, far, 1)
  slope = np.where(excess > 0, slope, 0)
  at_value = np.where(excess > 0, chance_error**2 + slope * excess, error**2)
  middle = value + t**2 * slope / 2
  half = t * np.sqrt(at_value + (t * slope) ** 2 / 4)
  return Interval(middle - half, middle + half)


def contrast(
  first: Float[np.ndarray, '*cells'],
  second: Float[np.ndarray, '*cells'],
  error: Float[np.ndarray, '*cells'],
  degrees: Float[np.ndarray, '*cells'] | float = np.inf,
  level: float = 0.95,
) -> Contrast:
  """first - second, paired over the sentences, at the same n and k.

  Args:
    first: scores.
    second: what they are compared with.
    error: of the difference: the norm of the difference of their influences,
      or `subset_error` of the differences of their values on subsets.
    degrees: of freedom of that error.
    level: that of the interval.
  """
  difference = first - second
  low, high = interval(difference, error, degrees, level)
  t = np.abs(difference) / np.where(error > 0, error, np.nan)
  return Contrast(difference, low, high, 2 * special.stdtr(degrees, -t))


def subsets(
  key: Key[Array, ''],
  valid: Bool[Array, ' n'],
  rounds: int,
  clusters: Int[Array, ' n'] | None = None,
) -> Bool[Array, 'rounds groups n']:
  """The valid sentences but for one group of them, for each group and round.

  A round deals the sentences at random to groups of a third of them. Up to two
  that remain are in all subsets of the round.

  Args:
    key: the same key, the same subsets: cells and measures share them.
    valid: the sentences that count.
    rounds: 32 give 96 subsets.
    clusters: an id from 0 to n - 1 for each row; rows of the same id stay
      together.
  """
  n = valid.size
  ids = jnp.arange(n) if clusters is None else clusters
  present = jax.ops.segment_max(valid.astype(int), ids, n) > 0
  size = jnp.sum(present) // GROUPS

  def of_round(index: Int[Array, '']) -> Bool[Array, 'groups n']:
    order = random_order(jax.random.fold_in(key, index), present)
    place = jnp.zeros(n, int).at[order].set(jnp.arange(n))
    group = place // jnp.maximum(size, 1)
    return valid & (group[ids] != jnp.arange(GROUPS)[:, None])

  return jax.lax.map(of_round, jnp.arange(rounds))


def subset_error(
  values: Float[np.ndarray, 'rounds groups *cells'], n: int
) -> Float[np.ndarray, '*cells']:
  """Standard error from the values on `subsets`.

  The delete-d jackknife (Shao and Wu, "A general theory for jackknife variance
  estimation", 1989), right for a statistic to which each sentence adds its
  part. Scores of fitted components also vary with several sentences at once.
  If a share of the variance is of that order q, two subsets of m sentences of
  which they share s have a covariance of (s/m)^q of it: the jackknife counts it
  (1 - (s/m)^q) / (1 - s/m) times, which is 2 at most where a third is left out,
  and nearly q where little is. How much of it there is differs with the states
  and is not to be told from one sample, so none is subtracted.

  Args:
    values: on `subsets`.
    n: the sentences, or clusters, that the subsets were drawn from.
  """
  d = n // GROUPS
  if d < 1:
    raise InputError(
      f'n={n}: an interval from subsets needs {GROUPS} sentences or more.'
    )
  if values.shape[1] != GROUPS:
    raise InputError(
      f'{values.shape[1]} values in a round, not {GROUPS}: one for each group.'
    )
  kept, shared = n - d, n - 2 * d
  spread = np.mean(np.var(values, axis=1, ddof=1), axis=0)
  return np.sqrt(kept / n * spread / (1 - shared / kept))


def subset_degrees(rounds: int) -> float:
  """Degrees of freedom of `subset_error`."""
  return float(rounds * (GROUPS - 1))


def _quantile(
  degrees: Float[np.ndarray, '*cells'] | float, level: float
) -> Float[np.ndarray, '*cells']:
  if not 0 < level < 1:
    raise InputError(f'level={level}: give a share between 0 and 1, as 0.95.')
  return np.asarray(special.stdtrit(degrees, (1 + level) / 2))
