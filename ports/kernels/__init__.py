"""Operations in Pallas, where XLA's own program is shown to lose.

Each is what an operation of `ports` becomes on the platform that it is written
for, where products may read bfloat16 (`narrow`), if it takes the sizes and can
be trusted. None has a derivative.
"""

import concurrent.futures
import functools
import warnings
from collections.abc import Callable

import jax

# What JAX calls the backend → what it calls the platform that is compiled for.
_PLATFORMS = {'gpu': 'cuda', 'tpu': 'tpu'}


def narrow() -> bool:
  """Whether JAX's default precision is bfloat16, as that policy has it."""
  return jax.config.jax_default_matmul_precision == 'bfloat16'


@functools.cache
def trusted(
  platform: str,
  kernel: Callable[..., jax.Array],
  fault_of: Callable[[Callable[..., jax.Array]], str | None],
) -> bool:
  """Whether a kernel is what it should be on this process' device.

  Warns where it is not. A process without such a device compiles for another
  machine, and trusts.

  Args:
    fault_of: what is wrong with such a kernel, as it runs here.
  """
  if _PLATFORMS.get(jax.default_backend()) != platform:
    return True
  # A trace may be under way; a thread of its own is outside of it.
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    fault = thread.submit(fault_of, kernel).result()
  if fault:
    warnings.warn(
      f"The kernel {kernel.__name__} is left out for XLA's program, which is "
      f'slower: on {jax.devices()[0].device_kind} {fault}.',
      stacklevel=2,
    )
  return not fault


def said_of(error: Exception) -> str:
  """A fault: of lowering, of the compiler, of the driver."""
  first, *_ = str(error).split('\n')
  return f'it fails ({first})'
