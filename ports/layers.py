"""The pieces that several ports share, equal to PyTorch's arithmetic.

Parameters keep the dtype they were loaded in and activations follow the input;
sums, softmax and norms run in at least float32.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int


class Tap(NamedTuple):
  """The states of one stage, and which of their time steps are valid.

  `mask` is of the steps that stand for the item. Where it is only a part of a
  longer sequence, as behind a prompt, `whole` is of all steps of that sequence.
  Where audio was filled up with silence to a fixed length that the network
  reads as well, `heard` is of the steps that hold audio.
  """

  name: str
  states: Float[Array, 'batch time dim']
  mask: Bool[Array, 'batch time']
  whole: Bool[Array, 'batch time'] | None = None
  heard: Bool[Array, 'batch time'] | None = None


class TapSpec(NamedTuple):
  """What a tap will be, known without running the network.

  Names say the stage: 'speech/layer_01'. A second slash marks a finer tap
  inside a stage: 'speech/layer_01/attn'.
  """

  name: str
  dim: int


class AdaptorParameters(NamedTuple):
  """The parameters of a length adaptor, as patterns of their names.

  `own` are all of them, `branches` those that end a branch beside the residual
  path; '' where that path carries a query, the same for every utterance.
  """

  own: str
  branches: str = ''


def select(specs: list[TapSpec], fine: bool) -> tuple[TapSpec, ...]:
  """All taps, or only those at the boundaries of stages."""
  return tuple(s for s in specs if fine or s.name.count('/') == 1)


def one_step(
  name: str,
  vector: Float[Array, 'batch 1 dim'],
  mask: Bool[Array, 'batch time'],
) -> Tap:
  """A tap of one vector a sentence, valid where any step is."""
  return Tap(name, vector, mask.any(axis=1, keepdims=True))


def by_depth(text: int, speech: int) -> dict[str, str]:
  """Speech stage → text stage of the same relative depth, for so many layers.

  The embeddings are compared with each other. Of two text layers that a speech
  layer lies between it is the later one, so that twice as many layers are
  compared with each text layer in pairs.
  """
  pairs = {'speech/embed': 'text/embed'}
  for i in range(1, speech + 1):
    pairs[f'speech/layer_{i:02}'] = f'text/layer_{-(-i * text // speech):02}'
  return pairs


def wide(dtype: jax.typing.DTypeLike) -> jnp.dtype:
  """The dtype that sums over `dtype` run in."""
  return jnp.promote_types(dtype, jnp.float32)


class Linear(nnx.Linear):
  """torch.nn.Linear: accumulates and returns wide.

  The compiler for NVIDIA's GPUs writes a wide product whole before what follows
  reads it. So there the product is rounded to the parameters' dtype, as PyTorch
  does: half as much to move.
  """

  def __call__(
    self, inputs: Float[Array, '*batch p']
  ) -> Float[Array, '*batch q']:
    dtype = self.kernel[...].dtype
    return _by_platform(
      lambda *x: _mapped(dtype, *x).astype(wide(dtype)),
      functools.partial(_mapped, wide(dtype)),
      *self._operands(inputs),
    )

  def _operands(self, inputs: Float[Array, '*batch p']) -> tuple[Array, ...]:
    bias = () if self.bias is None else (self.bias[...],)
    return inputs, self.kernel[...], *bias


class InnerLinear(Linear):
  """A Linear into the inner width of a branch, which the branch alone reads.

  It returns the parameters' dtype: half as much to move for any accelerator,
  where the compiler does not fuse what follows with the product.
  """

  def __call__(
    self, inputs: Float[Array, '*batch p']
  ) -> Float[Array, '*batch q']:
    dtype = self.kernel[...].dtype
    return _by_platform(
      functools.partial(_mapped, dtype),
      lambda *x: _mapped(wide(dtype), *x).astype(dtype),
      *self._operands(inputs),
    )


def _by_platform(
  rounded: Callable[..., Array], default: Callable[..., Array], *operands: Array
) -> Array:
  """`rounded` on NVIDIA's GPUs, if the kernel is narrow."""
  dtype = operands[1].dtype
  if dtype == wide(dtype):
    return default(*operands)
  return jax.lax.platform_dependent(*operands, cuda=rounded, default=default)


def _mapped(
  dtype: jnp.dtype,
  inputs: Float[Array, '*batch p'],
  kernel: Float[Array, 'p q'],
  bias: Float[Array, ' q'] | None = None,
) -> Float[Array, '*batch q']:
  """The product and the sum in this dtype, each accumulated wide."""
  y = jax.lax.dot_general(
    inputs.astype(kernel.dtype),
    kernel,
    (((inputs.ndim - 1,), (0,)), ((), ())),
    preferred_element_type=dtype,
  )
  return y if bias is None else y + bias.astype(dtype)


class LayerNorm(nnx.LayerNorm):
  """torch.nn.LayerNorm: two-pass variance, computed wide."""

  def __init__(self, dim: int, *, epsilon: float = 1e-5, rngs: nnx.Rngs):
    super().__init__(dim, epsilon=epsilon, use_fast_variance=False, rngs=rngs)

  def __call__(
    self, x: Float[Array, '*batch dim'], *, mask: None = None
  ) -> Float[Array, '*batch dim']:
    return super().__call__(x.astype(wide(x.dtype))).astype(x.dtype)


class RMSNorm(nnx.Module):
  """x / √(mean(x²) + ε), scaled; computed wide."""

  def __init__(self, dim: int, *, epsilon: float):
    self.epsilon = epsilon
    self.scale = nnx.Param(jnp.ones(dim))

  def __call__(
    self, x: Float[Array, '*batch dim']
  ) -> Float[Array, '*batch dim']:
    y = x.astype(wide(x.dtype))
    square = jnp.mean(y * y, axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(square + self.epsilon) * self.scale[...]
    return y.astype(x.dtype)


class BatchNorm(nnx.Module):
  """torch.nn.BatchNorm1d by its running statistics, over [batch, time, dim]."""

  def __init__(self, dim: int, *, epsilon: float = 1e-5):
    self.epsilon = epsilon
    self.scale, self.bias = nnx.Param(jnp.ones(dim)), nnx.Param(jnp.zeros(dim))
    self.mean, self.var = nnx.Param(jnp.zeros(dim)), nnx.Param(jnp.ones(dim))

  def __call__(
    self, x: Float[Array, 'batch time dim']
  ) -> Float[Array, 'batch time dim']:
    factor = self.scale[...] / jnp.sqrt(self.var[...] + self.epsilon)
    y = (x.astype(wide(x.dtype)) - self.mean[...]) * factor + self.bias[...]
    return y.astype(x.dtype)


def gelu(x: Float[Array, '*batch dim']) -> Float[Array, '*batch dim']:
  """x Φ(x) by the error function, computed wide."""
  y = jax.nn.gelu(x.astype(wide(x.dtype)), approximate=False)
  return y.astype(x.dtype)


def glu(x: Float[Array, '*batch two_dim']) -> Float[Array, '*batch dim']:
  """The first half of the channels times the sigmoid of the second."""
  a, b = jnp.split(x, 2, axis=-1)
  return a * jax.nn.sigmoid(b)


def zero_padding(
  x: Float[Array, 'batch time dim'], mask: Bool[Array, 'batch time']
) -> Float[Array, 'batch time dim']:
  return jnp.where(mask[..., None], x, 0)


def sinusoid(
  positions: Int[Array, 'batch time'], dim: int
) -> Float[Array, 'batch time dim']:
  """[sin(p w), cos(p w)] with w_k = 10000^(-k / (dim/2 - 1)).

  The frequencies are rounded to float32 before the product, as in the
  references' tables.
  """
  half = dim // 2
  exponents = np.arange(half) * (-np.log(10000.0) / (half - 1))
  phase = positions[..., None] * jnp.asarray(np.exp(exponents), jnp.float32)
  return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)


def relative_sinusoid(time: int, dim: int) -> Float[Array, 'distance dim']:
  """Rows for the distances time − 1 … 1 − time, sine and cosine in turn.

  Column pair m has the frequency 10000^(−2m / dim) (Dai et al., 2019). Its
  exponent and itself are rounded to float32 as in the references' tables: at
  thousands of steps that moves the phase by 1e-4.
  """
  exponents = np.arange(0, dim, 2, dtype=np.float32)
  exponents = exponents * np.float32(-np.log(10000.0) / dim)
  frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
  distances = jnp.arange(time - 1, -time, -1, dtype=jnp.float32)
  phase = distances[:, None] * frequencies
  pairs = jnp.stack([jnp.sin(phase), jnp.cos(phase)], axis=-1)
  return pairs.reshape(len(distances), dim)
