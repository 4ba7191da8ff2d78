"""The jitted step: a padded batch in, one pooled vector a tap out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrep import mesh as meshes
from jaxrep.extract.pooling import Pooling
from jaxrep.models import Model
from jaxrep.precision import PRECISIONS
from ports.layers import Tap


def groups(model: Model) -> dict[int, list[str]]:
  """Width → the taps of that width, in layer order."""
  found: dict[int, list[str]] = {}
  for name, dim in model.taps:
    found.setdefault(dim, []).append(name)
  return found


def pooled_step(
  model: Model,
  pooling: Pooling,
  precision: str,
  mesh: Mesh,
  specials: bool = True,
) -> Callable[..., dict[int, jax.Array]]:
  """step(state, batch, lengths) → width → float32 [batch, tap, width].

  Frames never leave the device. The batch is dealt over the mesh's 'data'
  axis, so its rows are a multiple of the devices. `specials=False` leaves the
  first and last token of a text (its language and `</s>`) out of the pooling.
  """

  def step(state, batch, lengths):
    with jax.default_matmul_precision(PRECISIONS[precision].matmul):
      taps = model.forward(state, batch, lengths)
    pooled = {}
    for tap in taps:
      mask = tap.mask
      if model.modality == 'text' and not specials:
        mask = mask & inner(mask)
      pooled[tap.name] = pooling.of(tap.name)(tap.states, mask)
    return {
      width: jnp.stack([pooled[name] for name in names], axis=1)
      for width, names in groups(model).items()
    }

  whole, rows = meshes.replicated(mesh), meshes.by_row(mesh)
  return jax.jit(step, in_shardings=(whole, rows, rows), out_shardings=rows)


def inner(mask):
  """Valid steps but for the first and the last one of each row."""
  following = jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
  return following.at[:, 0].set(False)


def frames_step(
  model: Model, precision: str, mesh: Mesh
) -> Callable[..., list[tuple[jax.Array, jax.Array]]]:
  """step(state, batch, lengths) → each tap's states and mask, unpooled."""

  def step(state: Any, batch: jax.Array, lengths: jax.Array):
    with jax.default_matmul_precision(PRECISIONS[precision].matmul):
      taps: tuple[Tap, ...] = model.forward(state, batch, lengths)
    return [(tap.states, tap.mask) for tap in taps]

  whole, rows = meshes.replicated(mesh), meshes.by_row(mesh)
  return jax.jit(step, in_shardings=(whole, rows, rows), out_shardings=rows)
