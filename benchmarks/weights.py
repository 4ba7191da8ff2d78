"""Parameters from a cache against the checkpoint that they were made from.

    python -m benchmarks.weights

One encoder of full width, random weights, in the file that people download:
safetensors (seamless) or a '.pt' (sonar). «Cold» drops the file's pages from
memory before each load; all files lie on one local disk. What the processes of
other programs read meanwhile falls on all sides alike.
"""

import functools
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import harness

_CASES = flags.DEFINE_list(
  'cases', ['seamless-m4t-v2-large speech', 'sonar speech'], 'Which.'
)
_LAYERS = flags.DEFINE_integer('layers', 12, 'Layers of the encoder.')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Timed loads of each kind.')
_PRECISIONS = flags.DEFINE_list('precisions', ['float32', 'bfloat16'], 'Which.')


def main(_) -> None:
  from benchmarks import references

  for name in harness.chosen(_CASES.value, references.CASES):
    with tempfile.TemporaryDirectory() as folder:
      references.save(references.CASES[name], folder, _LAYERS.value)
      for precision in _PRECISIONS.value:
        print(harness.summary(measure(folder, name, precision)))


def measure(folder: str, name: str, precision: str) -> dict:
  arguments = (folder, name, precision)
  load(True, *arguments)  # fills the cache
  calls: dict[str, Callable[[], Any]] = {}
  for cold in (False, True):
    for cached in (True, False):
      kind = f'{"cache" if cached else "checkpoint"}{", cold" if cold else ""}'
      calls[kind] = functools.partial(_load, cached, cold, *arguments)
  case = {
    'model': name.split()[0],
    'layers': _LAYERS.value,
    'precision': precision,
    'megabytes': sum(x.nbytes for x in load(False, *arguments)) / 1e6,
  }
  peaks = {
    kind: harness.peak_memory(load, kind == 'cache', *arguments)
    for kind in ('cache', 'checkpoint')
  }
  result = harness.compare(calls, agree, _ROUNDS.value, warm_up=0)
  return harness.write('weights', case, result, peaks)


def _load(cached: bool, cold: bool, folder: str, *arguments: str) -> list[Any]:
  if cold:
    forget(pathlib.Path(folder))
  return load(cached, folder, *arguments)


def load(cached: bool, folder: str, name: str, precision: str) -> list[Any]:
  """The parameters on one device; the cache is in the checkpoint's folder."""
  import jax

  from jaxrep import mesh, opened, weights_cache

  model, modality = name.split()
  language = 'eng' if (model, modality) == ('sonar', 'speech') else ''
  found = opened.open_model(model, modality, folder, language=language)
  place = mesh.placement(mesh.of_devices(jax.devices()[:1]))
  if cached:
    cache = os.path.join(folder, 'cache')
    state = weights_cache.weights(cache, found, precision, place)
  else:
    state = found.weights(precision, place)
  return jax.block_until_ready(jax.tree.leaves(state))


def forget(folder: pathlib.Path) -> None:
  """Has the system read the files from the disk the next time."""
  for path in folder.rglob('*'):
    if path.is_file():
      with path.open('rb') as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def agree(first: list[Any], *others: list[Any]) -> dict[str, float]:
  for other in others:
    for one, two in zip(first, other, strict=True):
      np.testing.assert_array_equal(np.asarray(one), np.asarray(two))
  return {'largest_difference': 0.0}


if __name__ == '__main__':
  app.run(main)
