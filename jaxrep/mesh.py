"""Devices.

Extraction runs on the devices of each process alone; only scoring uses all of
them together.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


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
