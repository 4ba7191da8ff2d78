"""Extraction against PyTorch with the same weights.

    python -m benchmarks.extraction --cases='sonar speech,sonar text'
    python -m benchmarks.extraction --dtypes=bfloat16
    python -m benchmarks.extraction --clips=1 --sentences=1 --batch=1  # latency

Encoders of full width and 4 layers, random weights. Speech goes from waveforms
in memory to the mean of every stage, text from token ids; lengths as in FLEURS
(log-normal about 12 s, about 35 tokens). `sides` has who is compared: PyTorch
at its best is given batches of the same shapes, as people run it it takes the
items as they come. PyTorch runs transformers' extractor and encoders, for
SONAR, BEATs and SALMONN modules of the same arithmetic. Where
TORCHINDUCTOR_FREEZING=1 its best folds weights into each shape's graph. A case
takes two to five minutes a dtype on two CPU cores.
"""

import tempfile
from collections.abc import Callable

import numpy as np
from absl import app, flags

from benchmarks import harness
from benchmarks.sides import (
  SIDES,
  Vectors,
  Work,
  gpu_peaks,
  held,
  items_of,
  operations,
  run,
  where,
)
from jaxrep import memory
from jaxrep.types import SAMPLE_RATE

_CASES = flags.DEFINE_list('cases', [], 'Which; empty for all.')
_DTYPES = flags.DEFINE_list(
  'dtypes', ['float32'], 'Of weights and activations.'
)
_CLIPS = flags.DEFINE_integer('clips', 8, 'Recordings.')
_SENTENCES = flags.DEFINE_integer('sentences', 48, 'Texts.')
_BATCH = flags.DEFINE_integer('batch', 4, 'Recordings at a time; 4x texts.')
_LAYERS = flags.DEFINE_integer('layers', 4, 'Layers of both encoders.')
_GIVEN = flags.DEFINE_bool(
  'given', False, "Let PyTorch's features lie ready on its device."
)
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Timed calls of each side.')

# Not compared: the reference's adaptor reads padded frames, ours does not.
PADDED = ('speech/adaptor', 'speech/output')
# bfloat16 has 8 bits of precision, and the sides round at different places.
TOLERANCE = {'float32': 1e-4, 'bfloat16': 3e-2}


def main(_) -> None:
  from benchmarks import references

  for name in harness.chosen(_CASES.value, references.CASES):
    with tempfile.TemporaryDirectory() as folder:
      case, layers = references.CASES[name], _LAYERS.value
      references.save(case, folder, layers, _DTYPES.value)
      for dtype in _DTYPES.value:
        print(harness.summary(measure(folder, name, dtype)))


def measure(folder: str, name: str, dtype: str) -> dict:
  from benchmarks import references

  speech = name.endswith(' speech')
  count = _CLIPS.value if speech else _SENTENCES.value
  size = _BATCH.value if speech else min(4 * _BATCH.value, count)
  work = Work(name, folder, _LAYERS.value, dtype, count, size, _GIVEN.value)
  unit = SAMPLE_RATE if speech else 1
  case = {
    'model': work.model,
    'modality': work.modality,
    'layers': work.layers,
    'width': references.CASES[name].width,
    'dtype': dtype,
    'shapes': 'equal',
    'features': 'given' if work.given else 'made',
    'items': count,
    'batch': size,
    'seconds' if speech else 'tokens': sum(map(len, items_of(work))) / unit,
    'gflop': operations(work),
    'matmul_gflop_per_s': harness.matmul_rate(dtype),
  }
  calls, weights = {}, {}
  for kind, side in SIDES.items():
    before = held()
    calls[kind] = side(work)
    weights[kind] = held() - before
  found = harness.compare(
    calls, agreement(TOLERANCE[dtype]), _ROUNDS.value, warm_up=1
  )
  if where() == 'cpu':
    peaks = {kind: harness.peak_memory(run, kind, work) for kind in SIDES}
  else:
    del weights['jaxrep']
    peaks = gpu_peaks(calls, weights)
  return harness.write('extraction', case, found, peaks)


def agreement(tolerance: float) -> Callable[..., dict[str, float]]:
  """Refuses what is not the same function; gives the worst differences.

  What `output_hidden_states` lists has no names: each has to be a tap.
  """

  def agree(ours: Vectors, best: Vectors, eager: Vectors) -> dict[str, float]:
    named = {
      name: relative(ours[name], x)
      for name, x in best.items()
      if name not in PADDED
    }
    listed = {}
    for name, x in eager.items():
      near = name if name in ours else nearest(ours, x)
      if near not in PADDED:
        listed[name] = relative(ours[near], x)
    for errors in (named, listed):
      worst = max(errors, key=errors.get)
      if errors[worst] > tolerance:
        raise AssertionError(f'{worst} differs by {errors[worst]:.1e}.')
    return {
      'worst_tap': max(named.values()),
      'taps': len(named),
      'worst_listed': max(listed.values()),
      'listed': len(listed),
    }

  return agree


def nearest(taps: Vectors, x: np.ndarray) -> str:
  same = [name for name, y in taps.items() if y.shape == x.shape]
  return min(same, key=lambda name: relative(taps[name], x))


def relative(x: np.ndarray, y: np.ndarray) -> float:
  return float(np.abs(x - y).max() / np.abs(y).max())


if __name__ == '__main__':
  memory.take_large_pages()
  app.run(main)
