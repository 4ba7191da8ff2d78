"""Devices and processes.

Extraction runs on the devices of each process alone; only scoring uses all of
them together.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def start(multihost: bool) -> None:
  """Joins the other processes, where the job runs on several hosts."""
  if multihost:
    jax.distributed.initialize()


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
