"""Layers of a network that several devices share.

Annotated by kind: `ports.loading.RULES` says which axis of each parameter is
dealt to the mesh axis 'model', and XLA's partitioner does the rest. A column
layer's outputs lie on different devices and a row layer adds them up again, so
that one sum is communicated for both (Shoeybi et al., 2020).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from ports.layers import Linear, wide


class ColumnLinear(Linear):
  """A Linear whose outputs are dealt to the mesh axis 'model'."""


class RowLinear(Linear):
  """A Linear whose inputs are dealt to the mesh axis 'model'."""


class LoraLinear(ColumnLinear):
  """x W + s (x A) B: a Linear with an adapter of low rank (Hu et al., 2022).

  The adapter stays apart: rounded to bfloat16, their sum would lose most of it.
  `merge` makes one kernel of both.
  """

  def __init__(self, p: int, q: int, *, rank: int, scale: float, rngs):
    super().__init__(p, q, use_bias=False, rngs=rngs)
    init = nnx.initializers.lecun_normal()
    self.lora_a = nnx.Param(init(rngs.params(), (p, rank)))
    self.lora_b = nnx.Param(init(rngs.params(), (rank, q)))
    self.lora_scale = scale

  def __call__(
    self, inputs: Float[Array, '*batch p']
  ) -> Float[Array, '*batch q']:
    dtype = self.lora_a[...].dtype
    inner = jnp.dot(
      inputs.astype(dtype),
      self.lora_a[...],
      preferred_element_type=wide(dtype),
    )
    added = jnp.dot(
      inner.astype(dtype),
      self.lora_b[...],
      preferred_element_type=wide(dtype),
    )
    y = super().__call__(inputs.astype(wide(inputs.dtype)))
    return (y + self.lora_scale * added).astype(inputs.dtype)

  def merge(self) -> ColumnLinear:
    """The same map as one kernel."""
    kernel = self.kernel[...]
    a, b = (
      w[...].astype(wide(kernel.dtype)) for w in (self.lora_a, self.lora_b)
    )
    merged = nnx.eval_shape(
      lambda: ColumnLinear(*kernel.shape, use_bias=False, rngs=nnx.Rngs(0))
    )
    added = jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)
    both = kernel.astype(added.dtype) + self.lora_scale * added
    merged.kernel = nnx.Param(both.astype(kernel.dtype))
    return merged


class ColumnEmbed(nnx.Embed):
  """An embedding whose features are dealt to the mesh axis 'model'."""


def several_devices() -> bool:
  """Whether what is traced is for a mesh of more than one."""
  mesh = jax.sharding.get_abstract_mesh()
  return not mesh.empty and mesh.size > 1


def over_devices(
  form: Callable[..., Array],
  in_specs: Sequence[PartitionSpec],
  out_specs: PartitionSpec,
) -> Callable[..., Array]:
  """The form, on each device for its own part of the operands.

  For what XLA cannot divide, and would gather.
  """
  if not several_devices():
    return form
  return jax.shard_map(
    form, in_specs=tuple(in_specs), out_specs=out_specs, check_vma=False
  )


def rows() -> PartitionSpec:
  """Rows dealt over all devices."""
  return PartitionSpec(jax.sharding.get_abstract_mesh().axis_names)


def dealt(x: Float[Array, 'batch ...']) -> Array:
  """The same values, rows dealt to the mesh axis 'data' if a mesh is in use.

  The devices that share the network's width have the same rows, whole.
  """
  if jax.sharding.get_abstract_mesh().empty:
    return x
  return jax.lax.with_sharding_constraint(x, PartitionSpec('data'))
