"""Devices and processes.

Extraction runs on the devices of each process alone; only scoring uses all of
them together.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrep.types import InputError


def start(multihost: bool, cache: str = '') -> None:
  """Before anything is computed: the other hosts, the compilation cache."""
  if cache == 'none':
    jax.config.update('jax_enable_compilation_cache', False)
  elif cache:
    jax.config.update('jax_compilation_cache_dir', cache)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  if multihost and not jax.distributed.is_initialized():
    try:
      jax.distributed.initialize()
    except ValueError as error:
      raise InputError(
        f'--multihost: no cluster was found ({error}). Leave the flag out on '
        'one machine; it works on a TPU pod slice, under Slurm and Open MPI.'
      ) from error


def process() -> tuple[int, int]:
  """This process' number, and how many there are."""
  return jax.process_index(), jax.process_count()


def is_first() -> bool:
  return jax.process_index() == 0


def wait_for_all(stage: str) -> None:
  """Until every process has come to this stage."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(stage)


def describe(mesh: Mesh) -> str:
  device = mesh.devices.flat[0]
  shared = mesh.shape['model']
  rows = f', {shared} of them for a row' if shared > 1 else ''
  return f'{mesh.size} × {device.device_kind} ({device.platform}){rows}'


def local_mesh(model: int = 1) -> Mesh:
  """This process' devices as 'data' × 'model'; `model` of them share a row."""
  return of_devices(jax.local_devices(), model)


def global_mesh() -> Mesh:
  """All devices of all processes along one axis, 'data'."""
  return of_devices(jax.devices())


def of_devices(devices: Sequence[jax.Device], model: int = 1) -> Mesh:
  """Devices that follow each other share a row of 'model'."""
  grid = np.array(devices).reshape(-1, model)
  axes = (AxisType.Auto, AxisType.Auto)
  return Mesh(grid, ('data', 'model'), axis_types=axes)


def placement(mesh: Mesh) -> Callable[[int | None], NamedSharding]:
  """A parameter's axis that may be dealt → where the parameter goes.

  It is dealt to the devices of a row, and each row has it; without such an axis
  every device has it whole.
  """

  def place(split: int | None) -> NamedSharding:
    axes = () if split is None else (*(None,) * split, 'model')
    return NamedSharding(mesh, PartitionSpec(*axes))

  return place


def by_row(mesh: Mesh) -> NamedSharding:
  """Rows of a batch dealt to all devices."""
  return NamedSharding(mesh, PartitionSpec(mesh.axis_names))
