"""A convolution of each channel by itself in one kernel, by platform."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Array, Float

from ports.kernels import depthwise_gpu, depthwise_tpu, said_of, trusted

KERNELS = {'cuda': depthwise_gpu, 'tpu': depthwise_tpu}
TRUST = 1e-5  # of the largest result


def forms(
  x: Float[Array, 'batch time dim'],
) -> Mapping[str, Callable[..., Array]]:
  """Platform → its `depthwise`, if it takes this and can be trusted."""
  return {
    platform: kernel.depthwise
    for platform, kernel in KERNELS.items()
    if kernel.takes(x) and trusted(platform, kernel.depthwise, fault_of)
  }


def fault_of(form: Callable[..., Array]) -> str | None:
  """What is wrong with a form of `depthwise`, by the definition."""
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, 150, 128)).astype(np.float32)
  kernel = rng.standard_normal((31, 128)).astype(np.float32)
  try:
    found = np.asarray(form(x, kernel, past=20))
  except Exception as error:
    return said_of(error)
  padded = np.pad(x, ((0, 0), (20, 10), (0, 0)))
  wanted = sum(kernel[i] * padded[:, i : i + 150] for i in range(31))
  error = np.abs(found - wanted).max() / np.abs(wanted).max()
  return None if error < TRUST else f'it is wrong by {error:.0%}'
