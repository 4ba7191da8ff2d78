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
  time, left, columns = 150, 12, 20
  q, k, v = rng.standard_normal((3, 2, time, 2, 64)).astype(np.float32)
  table = rng.standard_normal((2, columns, 64)).astype(np.float32)
  allowed = np.arange(time) < np.array([time, 70])[:, None, None]
  try:
    found = np.asarray(form(q, k, v, allowed, q, table, left=left))
  except Exception as error:
    return said_of(error)
  step = np.arange(time)
  column = np.clip(step - step[:, None] + left, 0, columns - 1)
  logits = np.einsum('bqhd,bkhd->bhqk', q, k)
  products = np.einsum('bqhd,hwd->bhqw', q, table)
  logits += products[:, :, step[:, None], column]
  logits /= np.sqrt(q.shape[-1])
  weights = np.exp(logits) * allowed[:, None]
  weights /= weights.sum(axis=-1, keepdims=True)
  wanted = np.einsum('bhqk,bkhd->bqhd', weights, v)
  error = np.abs(found - wanted).max() / np.abs(wanted).max()
  return None if error < TRUST else f'it is wrong by {error:.0%}'
