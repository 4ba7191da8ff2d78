"""Convolutions over [batch, time, dim], equal to PyTorch's arithmetic.

Each is written as what XLA runs well on every backend: matrix products, or
multiply-adds that it fuses.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from ports.kernels import depthwise, narrow
from ports.layers import InnerLinear, Linear, wide
from ports.parallel import over_devices, rows


class PointwiseConv(Linear):
  """torch.nn.Conv1d with kernel 1 and no bias, over [batch, time, dim]."""

  def __init__(self, p: int, q: int, *, rngs: nnx.Rngs):
    super().__init__(p, q, use_bias=False, rngs=rngs)


class InnerPointwiseConv(PointwiseConv, InnerLinear):
  """One whose outputs the branch alone reads."""


class DepthwiseConv(nnx.Module):
  """torch.nn.Conv1d with groups = channels and no bias.

  It sees the past alone (`causal`), or as much of the past as of the future.
  Written as one multiply-add per kernel position: XLA fuses them, where its
  grouped convolution is many times slower on a CPU. The compiler for NVIDIA's
  GPUs would try for minutes to fuse them with the norm that follows. For both
  accelerators there is a kernel.
  """

  def __init__(self, dim: int, size: int, *, causal: bool, rngs: nnx.Rngs):
    init = nnx.initializers.lecun_normal()
    self.kernel = nnx.Param(init(rngs.params(), (size, dim)))
    self.past = size - 1 if causal else size // 2

  def __call__(
    self, x: Float[Array, 'batch time dim']
  ) -> Float[Array, 'batch time dim']:
    kernel = self.kernel[...].astype(wide(x.dtype))
    forms = {'default': self._shifted, 'cuda': self._apart}
    if narrow():
      for platform, form in depthwise.forms(x).items():
        forms[platform] = functools.partial(self._in_kernel, form)
    return jax.lax.platform_dependent(x, kernel, **forms).astype(x.dtype)

  def _shifted(
    self,
    x: Float[Array, 'batch time dim'],
    kernel: Float[Array, 'position dim'],
  ) -> Float[Array, 'batch time dim']:
    size, time = kernel.shape[0], x.shape[1]
    sides = (self.past, size - 1 - self.past)
    padded = jnp.pad(x, ((0, 0), sides, (0, 0)))
    return sum(kernel[i] * padded[:, i : i + time] for i in range(size))

  def _apart(self, *operands: Array) -> Array:
    return jax.lax.optimization_barrier(self._shifted(*operands))

  def _in_kernel(self, form: Callable[..., Array], *operands: Array) -> Array:
    form = functools.partial(form, past=self.past)
    form = over_devices(form, (rows(), PartitionSpec()), rows())
    return form(*operands).astype(wide(operands[0].dtype))


class Conv(nnx.Module):
  """torch.nn.Conv1d over [batch, time, dim], as one matrix product."""

  def __init__(
    self,
    p: int,
    q: int,
    size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    rngs: nnx.Rngs,
  ):
    init = nnx.initializers.lecun_normal()
    self.kernel = nnx.Param(init(rngs.params(), (size, p, q)))
    self.bias = nnx.Param(jnp.zeros(q))
    self.stride, self.padding = stride, padding

  def __call__(
    self, x: Float[Array, 'batch time p']
  ) -> Float[Array, 'batch window q']:
    kernel = self.kernel[...]
    size, p, q = kernel.shape
    x = jnp.pad(x, ((0, 0), (self.padding,) * 2, (0, 0)))
    last = x.shape[1] - size + 1
    patches = jnp.concatenate(
      [x[:, i : last + i : self.stride] for i in range(size)], axis=-1
    )
    y = jax.lax.dot_general(
      patches.astype(kernel.dtype),
      kernel.reshape(size * p, q),
      (((2,), (0,)), ((), ())),
      preferred_element_type=wide(kernel.dtype),
    )
    return (y + self.bias[...]).astype(x.dtype)
