"""What each family of speech encoders computes from a waveform."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrep.audio.framing import Count, frame_count
from jaxrep.audio.mel import FRAME, HOP, kaldi_fbank

MIN_SAMPLES = FRAME + HOP
"""The shortest audio with a stacked frame: 560 samples, 35 ms."""

_MELS = 80
_STACK = 2


class Frontend(NamedTuple):
  """`features` of padded waveforms and lengths; `minimum` samples of audio."""

  features: Callable[..., tuple[Array, Array]]
  minimum: int


def seamless_features(
  waveforms: Float[Array, 'batch sample'], lengths: Int[Array, ' batch']
) -> tuple[Float[Array, 'batch time 160'], Bool[Array, 'batch time']]:
  """SeamlessM4T's features, as transformers' SeamlessM4TFeatureExtractor.

  80 log-mel energies, each standardised over the utterance's own frames; two
  neighbouring frames make one step of 20 ms. An odd last frame counts in the
  standardisation and is then left out, as the reference masks it. Utterances
  do not see each other, nor what lies in the padding, were it NaN.

  Args:
    waveforms: 16 kHz, in [-1, 1], padded to a common length of at least
      `MIN_SAMPLES`.
    lengths: true number of samples of each. Below `MIN_SAMPLES` no step is
      valid; the caller refuses such audio.

  Returns:
    Features, zero where not valid, and the mask of the valid steps.

  Raises:
    ValueError: the padded length is below `MIN_SAMPLES`.
  """
  return _stacked(waveforms, lengths, epsilon=1e-7)


def sonar_features(
  waveforms: Float[Array, 'batch sample'], lengths: Int[Array, ' batch']
) -> tuple[Float[Array, 'batch time 160'], Bool[Array, 'batch time']]:
  """SONAR's features, as fairseq2's converter of waveforms to filter banks.

  Those of Seamless without its epsilon: each bin is divided by its standard
  deviation. A bin that is the same in all frames, of digital silence, is 0
  here; the reference gives NaN.

  Args, returns and errors are those of `seamless_features`.
  """
  return _stacked(waveforms, lengths, epsilon=0.0)


def _stacked(
  waveforms: Float[Array, 'batch sample'],
  lengths: Int[Array, ' batch'],
  epsilon: float,
) -> tuple[Float[Array, 'batch time 160'], Bool[Array, 'batch time']]:
  samples = waveforms.shape[1]
  if samples < MIN_SAMPLES:
    raise ValueError(
      f'The waveforms are padded to {samples} samples; '
      f'the shortest that can be used is {MIN_SAMPLES}.'
    )
  # No valid frame reaches into the padding, so the waveform needs no mask.
  mels = kaldi_fbank(waveforms, _MELS)
  valid = _mask(frame_count(lengths, FRAME, HOP), mels.shape[1])
  mels = standardise(mels, valid, epsilon)
  steps = seamless_steps(samples)
  stacked = mels[:, : steps * _STACK].reshape(-1, steps, _STACK * _MELS)
  mask = _mask(seamless_steps(lengths), steps)
  return jnp.where(mask[..., None], stacked, 0), mask


def seamless_steps(samples: Count) -> Count:
  """How many steps the features have of so many samples."""
  return frame_count(samples, FRAME, HOP) // _STACK


def standardise(
  features: Float[Array, 'batch frame mel'],
  mask: Bool[Array, 'batch frame'],
  epsilon: float,
) -> Float[Array, 'batch frame mel']:
  """Zero mean, unit variance (ddof 1) of each mel bin over the valid frames.

  A bin that is equal in all of them is 0.
  """
  mask = mask[..., None]
  count = jnp.sum(mask, axis=1, keepdims=True)

  def total(values):
    return jnp.sum(jnp.where(mask, values, 0), axis=1, keepdims=True)

  centred = features - total(features) / jnp.maximum(count, 1)
  # A float32 sum over thousands of frames is off by more than the deviation of
  # a nearly silent bin; the mean of what is left takes that error out.
  centred = centred - total(centred) / jnp.maximum(count, 1)
  variance = total(centred**2) / jnp.maximum(count - 1, 1)
  # Of equal values the mean is rounded, and nothing would hold its rounding.
  first = features[:, :1]
  same = jnp.all((features == first) | ~mask, axis=1, keepdims=True)
  deviation = jnp.sqrt(jnp.where(same, 1, variance) + epsilon)
  return jnp.where(same, 0, centred) / deviation


def _mask(
  lengths: Int[Array, ' batch'], size: int
) -> Bool[Array, 'batch {size}']:
  return jnp.arange(size) < lengths[:, None]


SEAMLESS = Frontend(seamless_features, MIN_SAMPLES)
SONAR = Frontend(sonar_features, MIN_SAMPLES)
