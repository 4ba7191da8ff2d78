"""Eight simulated devices for every test; tests assert that they got them.

What one test compiles, the others load: in this process, in xdist's workers and
in runs under test.
"""

import atexit
import gc
import os
import pathlib
import shutil
import tempfile

os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')  # as run.py does
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='jaxrep-')
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], True)

import jax

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_default_matmul_precision', 'highest')

# Linux gives a process 65,530 memory maps (vm.max_map_count); every compiled
# program takes some, and XLA dies of a segmentation fault where there are none.
MANY_MAPS = 20_000


def pytest_configure(config):
  """Programs of short tests are compiled without LLVM's optimisation.

  Compiling takes most of their time. With `XLA_FLAGS=` in the environment they
  are compiled as a user's are.
  """
  if 'not slow' in config.option.markexpr:
    os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=0')


def pytest_runtest_teardown(item, nextitem):
  """Forgets compiled programs between files, once there are many."""
  if nextitem is None or nextitem.path == item.path:
    return
  maps = pathlib.Path('/proc/self/maps')
  if maps.exists() and maps.read_bytes().count(b'\n') > MANY_MAPS:
    jax.clear_caches()
    gc.collect()
