"""The jitted SeamlessM4T front end against transformers' feature extractor.

    python -m benchmarks.frontend

Both go from NumPy waveforms to features: clips of equal length, one alone and
a batch. Half a minute on two CPU cores.
"""

from collections.abc import Callable

import numpy as np
from absl import app, flags

from benchmarks import harness
from jaxrep.types import SAMPLE_RATE

_SECONDS = flags.DEFINE_float('seconds', 10, 'Length of every clip.')
_BATCH = flags.DEFINE_multi_integer('batch', [1, 8], 'Clips at a time.')
_ROUNDS = flags.DEFINE_integer('rounds', 15, 'Timed calls of each side.')


def main(_) -> None:
  for batch in _BATCH.value:
    row = measure(_SECONDS.value, batch, _ROUNDS.value)
    print(harness.summary(row))


def measure(seconds: float, batch: int, rounds: int) -> dict:
  """Times and compares both sides on one batch; appends the row."""
  sides = {'jaxrep': ours, 'transformers': theirs}
  clips = babble(seconds, batch)
  calls = {name: side(clips) for name, side in sides.items()}
  return harness.write(
    'frontend',
    {'seconds': seconds, 'batch': batch, 'dtype': 'float32'},
    harness.compare(calls, agree, rounds),
    {
      name: harness.peak_memory(run, side, seconds, batch)
      for name, side in sides.items()
    },
  )


def babble(seconds: float, batch: int) -> np.ndarray:
  """Noise that swells and fades four times a second, between 0 and -60 dB."""
  time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
  level = 10 ** (-1.5 * (1 + np.cos(2 * np.pi * 4 * time)))
  noise = np.random.default_rng(0).standard_normal((batch, len(time)))
  return np.float32(0.1 * level * noise)


def ours(clips: np.ndarray) -> Callable:
  # Each side imports its libraries itself: they count in its peak memory.
  import jax

  from jaxrep.audio.frontends import seamless_features

  step = jax.jit(seamless_features)
  lengths = np.full(len(clips), clips.shape[1])
  return lambda: jax.block_until_ready(step(clips, lengths))


def theirs(clips: np.ndarray) -> Callable:
  from transformers import SeamlessM4TFeatureExtractor

  extractor = SeamlessM4TFeatureExtractor()
  clips = list(clips)

  def call():
    result = extractor(clips, sampling_rate=SAMPLE_RATE, return_tensors='np')
    return result['input_features'], result['attention_mask']

  return call


def agree(ours: tuple, theirs: tuple) -> dict[str, float]:
  """Differences over the valid steps; refuses what is not the same function."""
  (features, mask), (expected, expected_mask) = ours, theirs
  steps = mask.shape[1]  # the reference keeps one masked step at odd lengths
  np.testing.assert_array_equal(mask, expected_mask[:, :steps])
  difference = np.abs(features - expected[:, :steps])
  relative = np.linalg.norm(difference) / np.linalg.norm(expected)
  if not relative < 1e-4:
    raise AssertionError(f'The features differ by {relative:.1e}.')
  return {'relative': float(relative), 'largest': float(difference.max())}


def run(side: Callable, seconds: float, batch: int) -> None:
  """All that one side needs from start to features, for `peak_memory`."""
  side(babble(seconds, batch))()


if __name__ == '__main__':
  app.run(main)
