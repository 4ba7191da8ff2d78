"""How many devices share a model's weights, and whether these fit."""

import math
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import logging
from flax import nnx
from jax.sharding import Mesh

from jaxrep import mesh as meshes
from jaxrep.opened import Model
from jaxrep.precision import PRECISIONS
from jaxrep.types import InputError
from ports import llama, loading

# Of a device's memory; the rest is for activations and what XLA keeps.
SHARE = 0.7


class Fit(NamedTuple):
  """`shared` of the `devices` have the weights together, `held` bytes each.

  `limit` is the memory of one device in bytes.
  """

  devices: int
  shared: int
  held: int
  limit: int

  @property
  def fits(self) -> bool:
    return self.held <= SHARE * self.limit


def choose(
  model: Model, precision: str, devices: int, limit: int, asked: int = 0
) -> Fit:
  """As few devices as the weights fit on, or as many as can share them.

  Args:
    devices: Of one process.
    limit: Bytes of memory of each.
    asked: How many share instead; a model that cannot be shared ignores it.

  Raises:
    InputError: The model or the devices cannot be shared by so many.
  """
  leaves = list(loading.leaves(model.program.abstract))
  axes = [
    leaf.shape[x] for leaf in leaves if (x := leaf.rule.split) is not None
  ]
  axes += _heads(model.program.abstract)
  if not axes:
    asked = 1
  common = math.gcd(devices, *axes) if axes else 1
  possible = [n for n in range(1, common + 1) if common % n == 0]
  if asked and asked not in possible:
    raise InputError(
      f'--model_parallel={asked}: {model.name} on {devices} devices can be '
      f'shared by {", ".join(map(str, possible))} of them.'
    )
  for shared in [asked] if asked else possible:
    held = sum(_held(leaf, precision, shared) for leaf in leaves)
    found = Fit(devices, shared, held, limit)
    if found.fits:
      break
  return found


def _heads(network: nnx.Module) -> list[int]:
  """What each of the sharing devices has whole ones of."""
  parts = (part for _, part in nnx.iter_graph(network))
  found = [part for part in parts if isinstance(part, llama.Attention)]
  return [n for part in found for n in (part.heads, part.shared)]


def _held(leaf: loading.Leaf, precision: str, shared: int) -> int:
  dtype = jnp.dtype(PRECISIONS[precision].parameters)
  size = 4 if leaf.wide else dtype.itemsize
  dealt = shared if leaf.rule.split is not None else 1
  return math.prod(leaf.shape) * size // dealt


def here(model: Model, precision: str, asked: int = 0) -> Fit:
  """`choose` for this process' devices; those of a CPU share its memory."""
  devices = jax.local_devices()
  known = devices[0].memory_stats() or {}
  machine = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  limit = known.get('bytes_limit', machine // len(devices))
  return choose(model, precision, len(devices), limit, asked)


def mesh_of(model: Model, precision: str, asked: int = 0) -> Mesh:
  """This process' devices, as a model needs them; warns where it may not fit.

  Raises:
    InputError: As `choose`.
  """
  found = here(model, precision, asked)
  if not found.fits:
    logging.warning('%s %s: %s', model.name, model.modality, describe(found))
  return meshes.local_mesh(found.shared)


def describe(fit: Fit) -> str:
  """A sentence for people."""
  rows = fit.devices // fit.shared
  said = 'fits' if fit.fits else 'DOES NOT FIT'
  held, limit = (size / 2**30 for size in (fit.held, fit.limit))
  text = (
    f'{said} on a mesh of data={rows} × model={fit.shared}: {held:.2f} GiB of '
    f'weights on each device of {limit:.1f} GiB'
  )
  if fit.fits:
    return text
  return f'{text}; take --precision=bfloat16, or more or larger devices'
