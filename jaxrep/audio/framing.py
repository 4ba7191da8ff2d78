"""Waveforms cut into overlapping frames."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Count = TypeVar('Count', int, Int[Array, ' batch'])


def frame_count(samples: Count, length: int, hop: int) -> Count:
  """How many whole frames fit into so many samples; none if too few."""
  return (samples >= length) * ((samples - length) // hop + 1)


def frame(
  waveforms: Float[Array, 'batch sample'], length: int, hop: int
) -> Float[Array, 'batch frame length']:
  """Frames of `length` samples, one every `hop`, the first at sample 0.

  A frame is a row of consecutive hops, the last one cut, so whole blocks are
  copied and nothing is gathered.
  """
  batch, samples = waveforms.shape
  count = frame_count(samples, length, hop)
  pieces = -(-length // hop)
  rows = count + pieces - 1
  fill = rows * hop - samples  # negative: the samples behind the last frame go
  zero = jnp.zeros((), waveforms.dtype)
  hops = jax.lax.pad(waveforms, zero, ((0, 0, 0), (0, fill, 0)))
  hops = hops.reshape(batch, rows, hop)
  return jnp.concatenate(
    [hops[:, i : i + count, : length - i * hop] for i in range(pieces)], axis=-1
  )
