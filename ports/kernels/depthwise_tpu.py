"""A convolution of each channel by itself for TPUs, in Pallas' Mosaic.

XLA reads the frames again for every position of the kernel. Here the frames of
128 channels stay in registers: turned by one row seven times, each of the eight
serves the positions that lie whole tiles apart.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu
from jaxtyping import Array, Float

LANES, TILE = 128, 8
ROWS = 64  # at a time
LONGEST = 4096  # of a sequence, whose frames fill the memory that a kernel has


def takes(x: Float[Array, 'batch time dim']) -> bool:
  """Whether the kernel is for these sizes."""
  narrow = x.dtype in (jnp.bfloat16, jnp.float32)
  return narrow and x.shape[1] <= LONGEST and x.shape[2] % LANES == 0


@functools.partial(jax.jit, static_argnames=('past', 'interpret'))
def depthwise(
  x: Float[Array, 'batch time dim'],
  kernel: Float[Array, 'position dim'],
  *,
  past: int,
  interpret: bool = False,
) -> Float[Array, 'batch time dim']:
  """As `depthwise_gpu.depthwise`."""
  batch, time, dim = x.shape
  steps = pl.BlockSpec((None, time, LANES), lambda tile, row: (row, 0, tile))
  positions = len(kernel)
  padded = _up(past) + time + ROWS + _up(positions + TILE)
  return pl.pallas_call(
    functools.partial(_kernel, past=past),
    grid=(dim // LANES, batch),
    in_specs=[
      steps,
      pl.BlockSpec((positions, LANES), lambda tile, row: (0, tile)),
    ],
    out_specs=steps,
    out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
    scratch_shapes=[tpu.VMEM((padded, LANES), jnp.float32)],
    cost_estimate=pl.CostEstimate(
      flops=2 * positions * x.size,
      transcendentals=0,
      bytes_accessed=2 * x.size * x.dtype.itemsize,
    ),
    interpret=interpret,
    name='depthwise',
  )(x, kernel.astype(jnp.float32))


def _up(length: int) -> int:
  return -(-length // TILE) * TILE


def _kernel(x_ref, kernel_ref, out_ref, padded_ref, *, past):
  """All steps of 128 channels of one row."""
  time, lead = len(x_ref), _up(past)
  padded_ref[...] = jnp.zeros_like(padded_ref)
  padded_ref[pl.ds(lead, time), :] = x_ref[...].astype(jnp.float32)
  kernel = kernel_ref[...]

  def some(start, rows: int) -> None:
    taken = _up(rows) + _up(len(kernel) + TILE)
    frames = padded_ref[pl.ds(start, taken), :]
    y = jnp.zeros((_up(rows), LANES), jnp.float32)
    for turn in range(TILE):
      turned = tpu.roll(frames, (taken - turn) % taken, 0)
      first = (turn - lead + past) % TILE
      for i in range(first, len(kernel), TILE):
        at = lead - past + i - turn
        y += kernel[i : i + 1] * turned[at : at + _up(rows)]
    out_ref[pl.ds(start, rows), :] = y[:rows].astype(out_ref.dtype)

  whole, rest = divmod(time, ROWS)
  if whole:
    jax.lax.fori_loop(
      0, whole, lambda i, _: some(pl.multiple_of(i * ROWS, ROWS), ROWS), None
    )
  if rest:
    some(whole * ROWS, rest)
