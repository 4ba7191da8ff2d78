"""Devices and processes.

Extraction runs on the devices of each process alone; only scoring uses all of
them together.
"""

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrep.types import InputError


def start(multihost: bool, cache: str = '') -> None:
  """Before anything is computed: the other hosts, the compilation cache."""
  if cache:
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
  return f'{mesh.size} × {device.device_kind} ({device.platform})'


def local_mesh() -> Mesh:
  """This process' devices along one axis, 'data'."""
  return _mesh(jax.local_devices())


def global_mesh() -> Mesh:
  """All devices of all processes along one axis, 'data'."""
  return _mesh(jax.devices())


def _mesh(devices: list[jax.Device]) -> Mesh:
  return Mesh(np.array(devices), ('data',), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
  """Rows of a batch dealt to the devices."""
  return NamedSharding(mesh, PartitionSpec('data'))
