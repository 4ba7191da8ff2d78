"""Machines to compile for that need not be here: slices of TPUs, and GPUs.

A compiler needs no device: libtpu compiles for any slice, and JAX's plugin for
CUDA for a GPU that it is told the measures of.
"""

import collections
import os
import re
from typing import Any, Literal, NamedTuple

from jaxrep.types import InputError

_GIB = 2**30
_TAKEN = 0.75  # of a GPU's memory, by JAX unless told
_INSTALL = {
  'tpu': "libtpu: pip install -e '.[tpu-aot]'",
  'cuda': "JAX's plugin for CUDA: pip install -e '.[gpu-aot]', and where there "
  'is no GPU the variable JAX_PLATFORMS=cpu',
}
_SHAPES = {
  'tpu': re.compile(r'\d+(x\d+)*'),
  'cuda': re.compile(r'(\d+x)?\d+'),
}


class Chip(NamedTuple):
  """A TPU's chip or a GPU.

  `memory` are the bytes that a program can have, of them `fast` beside the
  units for products, of every kind; `operations` of bfloat16 and `bandwidth`
  are of a second, and full float32 takes `full` times as long. A TPU's units
  do `operations` in `clock` cycles a second.
  """

  platform: Literal['tpu', 'cuda']
  memory: int
  operations: float
  bandwidth: float
  full: float
  clock: float = 0
  fast: int = 0


def _tpu(gib: float, operations: float, bandwidth: float, clock: float) -> Chip:
  return Chip(
    'tpu', int(gib * _GIB), operations, bandwidth, 6, clock, 128 * 2**20
  )


def _gpu(gib: float, operations: float, bandwidth: float) -> Chip:
  memory = int(_TAKEN * gib * _GIB)
  return Chip('cuda', memory, operations, bandwidth, operations / 67e12)


# TPUs as Google Cloud documents them, but for the memory: of that the compiler
# says how much there is when it runs out. It takes each half of a v4 for a
# device. GPUs as NVIDIA documents them (SXM, dense).
CHIPS = {
  'v4': _tpu(15.25, 137.5e12, 614e9, 1.05e9),
  'v5e': _tpu(15.75, 197e12, 819e9, 1.5e9),
  'v5p': _tpu(95.74, 459e12, 2765e9, 1.75e9),
  'v6e': _tpu(31.25, 918e12, 1640e9, 1.75e9),
  'h100': _gpu(79.1, 989e12, 3352e9),
  'h200': _gpu(141.0, 989e12, 4800e9),
}

# What the compiler asks of a GPU of Hopper's kind.
_HOPPER = """
gpu_device_info {{
  cuda_compute_capability {{ major: 9 }}
  core_count: 132 fpus_per_core: 128 threads_per_warp: 32
  threads_per_core_limit: 2048 threads_per_block_limit: 1024
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_core: 233472 shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  l2_cache_size: 52428800 clock_rate_ghz: 1.98
  memory_bandwidth: {bandwidth} device_memory_size: {memory}
  device_vendor: "NVIDIA Corporation" name: "{name}"
  driver_version: "13.0.0" runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0" dnn_version: "9.12.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 patch: 0 }}
device_description_str: "{name}"
"""


def chip_of(target: str) -> Chip:
  return CHIPS[target.partition(':')[0]]


def hosts_of(target: str) -> list[list[Any]]:
  """The chips of each host of a target such as 'v5e:4x4' or 'h200:8'.

  Raises:
    InputError: The target is not known, or its compiler is not there.
  """
  by_host = collections.defaultdict(list)
  for device in _devices(target):
    by_host[device.process_index].append(device)
  return list(by_host.values())


def _devices(target: str) -> list[Any]:
  kind, _, shape = target.partition(':')
  if kind not in CHIPS or not _SHAPES[CHIPS[kind].platform].fullmatch(shape):
    known = ', '.join(CHIPS)
    raise InputError(
      f'--target={target}: write kind:shape, as v5e:4x4, or h200:8 for eight '
      f'GPUs of one host and h200:2x8 for two such hosts; kinds are {known}.'
    )
  platform = chip_of(target).platform
  try:
    return _slice(target) if platform == 'tpu' else _gpus(kind, shape)
  except Exception as error:  # of the plugin, in many classes
    reason = str(error).partition('\n')[0]
    raise InputError(
      f'--target={target} cannot be compiled for ({reason}). It needs '
      f'{_INSTALL[platform]}.'
    ) from error


def _slice(target: str) -> list[Any]:
  from jax.experimental import topologies

  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')  # nothing is run
  found = topologies.get_topology_desc(platform='tpu', topology_name=target)
  return list(found.devices)


def _gpus(kind: str, shape: str) -> list[Any]:
  from jax.experimental import topologies

  *hosts, gpus = (int(size) for size in shape.split('x'))
  chip = CHIPS[kind]
  found = topologies.get_topology_desc(
    platform='cuda',
    topology=f'1x{hosts[0] if hosts else 1}x{gpus}',
    target_config=_HOPPER.format(
      name=f'NVIDIA {kind.upper()}',
      bandwidth=int(chip.bandwidth),
      memory=int(chip.memory / _TAKEN),
    ),
  )
  return list(found.devices)
