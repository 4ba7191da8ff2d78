"""What each family of speech encoders computes from a waveform."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrep.audio.framing import Count, frame_count
from jaxrep.audio.mel import FRAME, HOP, kaldi_fbank, whisper_mel
from jaxrep.types import SAMPLE_RATE

MIN_SAMPLES = FRAME + HOP
"""The shortest audio with a stacked frame: 560 samples, 35 ms."""

_MELS = 80
_STACK = 2


class Frontend(NamedTuple):
  """From padded waveforms and lengths to an encoder's inputs and masks.

  Audio has at least `minimum` samples; what is behind `limit` samples is not
  read. Waveforms are padded to a multiple of `grid`.
  """

  features: Callable[..., tuple[Any, Any]]
  minimum: int
  grid: int = 2 * SAMPLE_RATE
  limit: int | None = None


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


CLIP = 30 * SAMPLE_RATE
"""What Whisper reads: 30 s, always."""

_SHORTEST = SAMPLE_RATE
_BEATS_BINS = 128
_BEATS_PATCH = 16
_BEATS_MEAN, _BEATS_DEVIATION = 15.41663, 6.55582


def whisper_features(
  waveforms: Float[Array, 'batch sample'],
  lengths: Int[Array, ' batch'],
  mels: int,
) -> tuple[Float[Array, 'batch 3000 {mels}'], Bool[Array, 'batch 3000']]:
  """Whisper's log-mel frames of 30 s, and which of them hold audio.

  Shorter audio is filled up with zeros, of longer audio the first 30 s are
  read; as transformers' WhisperFeatureExtractor does.
  """
  clips = _clips(waveforms, lengths)
  features = whisper_mel(clips, mels)
  held = -(-jnp.minimum(lengths, CLIP) // HOP)
  return features, _mask(held, features.shape[1])


def beats_features(
  waveforms: Float[Array, 'batch sample'], lengths: Int[Array, ' batch']
) -> tuple[Float[Array, 'batch frame 128'], Bool[Array, 'batch frame']]:
  """BEATs' fbank of 128 bins, shifted and scaled by constants of its training.

  Returns:
    Features, zero where not valid, and the mask of the valid frames.
  """
  fbank, mask = _fbank(waveforms, lengths, _BEATS_BINS)
  fbank = (fbank - _BEATS_MEAN) / (2 * _BEATS_DEVIATION)
  return jnp.where(mask[..., None], fbank, 0), mask


def fbank_features(
  waveforms: Float[Array, 'batch sample'], lengths: Int[Array, ' batch']
) -> tuple[Float[Array, 'batch frame 80'], Bool[Array, 'batch frame']]:
  """80 log-mel energies a frame, not standardised: their mean says something.

  Returns:
    Features, zero where not valid, and the mask of the valid frames.
  """
  fbank, mask = _fbank(waveforms, lengths, _MELS)
  return jnp.where(mask[..., None], fbank, 0), mask


def duration(
  waveforms: Float[Array, 'batch sample'], lengths: Int[Array, ' batch']
) -> tuple[Float[Array, 'batch 1 1'], Bool[Array, 'batch 1']]:
  """How long the audio is, in seconds: one step, and nothing is heard."""
  seconds = lengths.astype(waveforms.dtype) / SAMPLE_RATE
  return seconds[:, None, None], (lengths > 0)[:, None]


def salmonn_features(
  waveforms: Float[Array, 'batch sample'],
  lengths: Int[Array, ' batch'],
  mels: int,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
  """Both of SALMONN's: Whisper's of 30 s, and BEATs' of the audio as it is.

  Audio below 1 s is filled up to it with zeros, for both.

  Returns:
    (log-mel frames, fbank), and their masks.
  """
  spoken, heard = whisper_features(waveforms, lengths, mels)
  held = jnp.where(lengths > 0, jnp.maximum(lengths, _SHORTEST), 0)
  fbank, frames = beats_features(_clips(waveforms, lengths), held)
  return (spoken, fbank), (heard, frames)


def _clips(
  waveforms: Float[Array, 'batch sample'], lengths: Int[Array, ' batch']
) -> Float[Array, 'batch clip']:
  """30 s of each, zero behind its end."""
  samples = waveforms.shape[1]
  fill = ((0, 0), (0, max(CLIP - samples, 0)))
  clips = jnp.pad(waveforms[:, :CLIP], fill)
  return jnp.where(_mask(lengths, CLIP), clips, 0)


def _fbank(
  waveforms: Float[Array, 'batch sample'],
  lengths: Int[Array, ' batch'],
  mels: int,
) -> tuple[Float[Array, 'batch frame {mels}'], Bool[Array, 'batch frame']]:
  """Kaldi's log-mel energies, and which frames are whole."""
  fbank = kaldi_fbank(waveforms, mels)
  return fbank, _mask(frame_count(lengths, FRAME, HOP), fbank.shape[1])


def _mask(
  lengths: Int[Array, ' batch'], size: int
) -> Bool[Array, 'batch {size}']:
  return jnp.arange(size) < lengths[:, None]


SEAMLESS = Frontend(seamless_features, MIN_SAMPLES)
SONAR = Frontend(sonar_features, MIN_SAMPLES)
BEATS = Frontend(beats_features, FRAME + (_BEATS_PATCH - 1) * HOP)
FBANK = Frontend(fbank_features, FRAME)
DURATION = Frontend(duration, minimum=1)


@functools.cache
def _of_clips(features: Callable[..., Any], mels: int) -> Frontend:
  reader = functools.partial(features, mels=mels)
  return Frontend(reader, minimum=1, grid=CLIP, limit=CLIP)


def whisper(sizes: Any) -> Frontend:
  """Whisper's, with as many mel bins as the checkpoint's config says."""
  return _of_clips(whisper_features, sizes.num_mel_bins)


def salmonn(sizes: Any) -> Frontend:
  """SALMONN's, with as many mel bins as its Whisper's config says."""
  return _of_clips(salmonn_features, sizes.num_mel_bins)
