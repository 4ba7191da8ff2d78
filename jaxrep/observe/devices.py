"""The process' devices, and what memory their work took at most."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

from jaxrep.observe import recorder


@contextlib.contextmanager
def watched() -> Iterator[None]:
  """Notes at both ends which process this is, and its devices' memory."""
  _note()
  try:
    yield
  finally:
    _note()


def _note() -> None:
  recorder.about(
    process=jax.process_index(),
    processes=jax.process_count(),
    devices=[_describe(device) for device in jax.local_devices()],
  )


def _describe(device: jax.Device) -> dict[str, Any]:
  """A CPU does not say how much; see the process' own peak."""
  stats = device.memory_stats() or {}
  return {
    'device': f'{device.platform}:{device.id}',
    'kind': device.device_kind,
    'peak_bytes': stats.get('peak_bytes_in_use'),
    'limit_bytes': stats.get('bytes_limit'),
  }
