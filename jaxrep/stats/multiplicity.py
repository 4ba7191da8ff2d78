"""p-values of many cells at once."""

import numpy as np
from jaxtyping import Float

Cells = Float[np.ndarray, '*cell']


def maximum_statistic(
  observed: Cells,
  null: Float[np.ndarray, 'draw *cell'],
  mean: Cells,
  sd: Cells,
) -> Cells:
  """p-values that hold for all cells together, by the largest of them.

  Each score is standardised by its own mean and sd under random pairing; the
  p-value of a cell is (1 + draws whose largest cell is at or above it) /
  (1 + draws), single-step (Westfall and Young 1993). At most 5 % of maps of
  unrelated data have any p <= 0.05.

  Args:
    observed: scores.
    null: scores of random pairings, each the same one for all cells.
    mean: of a random pairing's score.
    sd: of a random pairing's score.

  Returns:
    Adjusted p-values; NaN where a cell has no value, 1 where its sd is 0.
  """
  moving = sd > 0
  scale = np.where(moving, sd, 1)
  still = ~(moving & np.isfinite(observed))
  z = np.where(still, -np.inf, (observed - mean) / scale)
  every = np.where(still, -np.inf, (null - mean) / scale)
  largest = np.sort(every.reshape(len(null), -1).max(axis=1))
  above = len(null) - np.searchsorted(largest, z)
  p = (1 + above) / (1 + len(null))
  return np.where(np.isfinite(observed), p, np.nan)


def benjamini_hochberg(p: Cells) -> Cells:
  """Smallest false discovery rate at which each cell would be reported.

  Benjamini and Hochberg 1995; cells that are NaN stay so and do not count.
  """
  flat = p.ravel()
  order = np.argsort(flat)
  order = order[: np.sum(~np.isnan(flat))]
  ranks = np.arange(1, len(order) + 1)
  raised = flat[order] * len(order) / ranks
  q = np.full(flat.shape, np.nan)
  q[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1)
  return q.reshape(p.shape)
