"""Attention in one kernel (FlashAttention; Dao et al., 2022), by platform.

XLA's programs write the scores [batch, head, query, key] in float32 and read
them again, up to five times on a GPU; on a TPU they also spend much on putting
products with relative positions where they belong. In these kernels no score
leaves the chip.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Array, Bool, Float

from ports.kernels import flash_gpu, flash_tpu, said_of, trusted

KERNELS = {'cuda': flash_gpu, 'tpu': flash_tpu}
TRUST = 0.02  # of the largest result; bfloat16 is wrong by a quarter of it


def forms(
  q: Float[Array, 'batch query head d'],
  k: Float[Array, 'batch key head d'],
  allowed: Bool[Array, '#batch #query key'],
  heads: int,
  placed: bool,
) -> Mapping[str, Callable[..., Array]]:
  """Platform → its `flash_attention`, if it takes these and can be trusted.

  Args:
    heads: that one device has.
    placed: whether positions are added by their distance.
  """
  return {
    platform: kernel.flash_attention
    for platform, kernel in KERNELS.items()
    if kernel.takes(q, k, allowed, heads, placed)
    and trusted(platform, kernel.flash_attention, fault_of)
  }


def fault_of(form: Callable[..., Array]) -> str | None:
  """What is wrong with a form of `flash_attention`, by the definition."""
  rng = np.random.default_rng(0)
  time, left, columns, d = 150, 12, 20, 64
  q, k, v = rng.standard_normal((3, 2, time, 2, d)).astype(np.float32)
  table = rng.standard_normal((2, columns, d)).astype(np.float32)
  allowed = np.arange(time) < np.array([time, 70])[:, None, None]
  step = np.arange(time)
  column = np.clip(step - step[:, None] + left, 0, columns - 1)
  worst = 0.0
  for width in (1, d):
    near, rows = q[..., :width], table[..., :width]
    try:
      found = np.asarray(form(q, k, v, allowed, near, rows, left=left))
    except Exception as error:
      return said_of(error)
    logits = np.einsum('bqhd,bkhd->bhqk', q, k) / np.sqrt(d)
    products = np.einsum('bqhd,hwd->bhqw', near, rows) / np.sqrt(width)
    logits += products[:, :, step[:, None], column]
    weights = np.exp(logits) * allowed[:, None]
    weights /= weights.sum(axis=-1, keepdims=True)
    wanted = np.einsum('bhqk,bkhd->bqhd', weights, v)
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    worst = max(worst, float(error))
  return None if worst < TRUST else f'it is wrong by {worst:.0%}'
