"""A convolution of each channel by itself for NVIDIA's GPUs, in Pallas' Triton.

XLA's loop reads a number at a time, once for every position of the kernel.
Here a block of frames is read as often, but from the cache next to the core and
many numbers at a time.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

STEPS, CHANNELS = 32, 64  # of a block
ROWS = 2**16  # of CUDA's grid


def takes(x: Float[Array, 'batch time dim']) -> bool:
  """Whether the kernel is for these sizes."""
  real = x.dtype in (jnp.bfloat16, jnp.float32)
  return real and x.shape[0] < ROWS and x.shape[2] % CHANNELS == 0


@functools.partial(jax.jit, static_argnames=('past', 'interpret'))
def depthwise(
  x: Float[Array, 'batch time dim'],
  kernel: Float[Array, 'position dim'],
  *,
  past: int,
  interpret: bool = False,
) -> Float[Array, 'batch time dim']:
  """Σᵢ kernel[i] · x[time + i − past], in float32, rounded to x's dtype.

  Args:
    interpret: runs the kernel on any backend, slowly.
  """
  batch, time, dim = x.shape
  steps = pl.BlockSpec(
    (None, time, CHANNELS), lambda i, tile, row: (row, 0, tile)
  )
  positions = pl.BlockSpec(
    (len(kernel), CHANNELS), lambda i, tile, row: (0, tile)
  )
  return pl.pallas_call(
    functools.partial(_kernel, past=past),
    grid=(pl.cdiv(time, STEPS), dim // CHANNELS, batch),
    in_specs=[steps, positions],
    out_specs=steps,
    out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
    compiler_params=triton.CompilerParams(num_warps=4, num_stages=1),
    interpret=interpret,
    name='depthwise',
  )(x, kernel.astype(jnp.float32))


def _kernel(x_ref, kernel_ref, out_ref, *, past):
  """A block of steps of some channels of one row; references are of all."""
  time, (positions, _) = x_ref.shape[0], kernel_ref.shape
  first = pl.program_id(0) * STEPS
  step = first + jnp.arange(STEPS, dtype=jnp.int32)
  channel = jnp.arange(CHANNELS, dtype=jnp.int32)[None]
  y = jnp.zeros((STEPS, CHANNELS), jnp.float32)
  for i in range(positions):
    at = step + (i - past)
    there = (at >= 0) & (at < time)
    frames = triton.load(
      x_ref.at[jnp.clip(at, 0, time - 1)[:, None], channel],
      mask=jnp.broadcast_to(there[:, None], y.shape),
      other=0,
    )
    weight = triton.load(kernel_ref.at[jnp.full_like(channel, i), channel])
    y += weight * frames.astype(jnp.float32)
  mine = pl.ds(first, STEPS)
  out = y.astype(out_ref.dtype)
  triton.store(out_ref.at[mine, :], out, mask=(step < time)[:, None])
