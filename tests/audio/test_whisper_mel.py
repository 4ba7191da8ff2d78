"""Whisper's log-mel frames against transformers, and BEATs' fbank."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import WhisperFeatureExtractor, audio_utils

from jaxrep.audio import frontends, mel
from jaxrep.types import SAMPLE_RATE

# One of 128 filters falls between two bins of the spectrum, in Kaldi as well.
pytestmark = pytest.mark.filterwarnings(
  'ignore:At least one mel filter has all zero'
)

NOISE = np.random.default_rng(0).standard_normal(34 * SAMPLE_RATE)
NOISE = (NOISE / 10).astype(np.float32)
SECONDS = (0.2, 1, 7.77, 30, 33)
TONE = -2


@functools.cache
def extractor(mels):
  return WhisperFeatureExtractor(feature_size=mels)


def reference(clip, mels):
  """Frames [3000, mel] of one recording alone."""
  found = extractor(mels)(clip, sampling_rate=SAMPLE_RATE, return_tensors='np')
  return found['input_features'][0].T


def exact(clip, mels):
  """The same by its arithmetic in NumPy, which keeps to float64 at the end."""
  filled = np.zeros(frontends.CLIP)
  filled[: len(clip)] = clip[: frontends.CLIP]
  logs = audio_utils.spectrogram(
    filled,
    audio_utils.window_function(400, 'hann'),
    frame_length=400,
    hop_length=160,
    power=2.0,
    mel_filters=extractor(mels).mel_filters,
    log_mel='log10',
    dtype=np.float64,
  )[:, :-1]
  return (np.maximum(logs, logs.max() - 8).T + 4) / 4


def padded(clips, fill=np.nan):
  longest = max(map(len, clips)) + 1000
  waveforms = np.full((len(clips), longest), fill, np.float32)
  for row, clip in zip(waveforms, clips, strict=True):
    row[: len(clip)] = clip
  return jnp.asarray(waveforms), jnp.array([len(clip) for clip in clips])


def features(clips, mels=80, fill=np.nan):
  front = jax.jit(functools.partial(frontends.whisper_features, mels=mels))
  return map(np.asarray, front(*padded(clips, fill)))


@pytest.fixture(scope='module')
def clips(recordings):
  """Noise of every length, speech, a tone, and silence with a click."""
  speech = np.concatenate(recordings)
  tone = np.sin(np.arange(20_000) * 0.3).astype(np.float32) / 2
  click = np.zeros(9000, np.float32)
  click[4000] = 0.7
  return [
    *(NOISE[: int(s * SAMPLE_RATE)] for s in SECONDS),
    *(speech[: int(s * SAMPLE_RATE)] for s in (0.2, 5, 33)),
    tone,
    click,
  ]


@pytest.mark.parametrize('mels', [80, 128])
def test_filters_equal_the_reference(mels):
  expected = audio_utils.mel_filter_bank(
    num_frequency_bins=201,
    num_mel_filters=mels,
    min_frequency=0,
    max_frequency=8000,
    sampling_rate=SAMPLE_RATE,
    norm='slaney',
    mel_scale='slaney',
  )
  ours = mel.slaney_filters(mels)
  assert ours.shape == (201, mels)
  np.testing.assert_allclose(ours, expected, atol=1e-14)


@pytest.mark.parametrize('mels', [80, 128])
def test_every_recording_equals_the_reference(clips, mels):
  found, _ = features(clips, mels)
  for ours, clip in zip(found, clips, strict=True):
    expected = reference(clip, mels)
    assert ours.shape == expected.shape == (3000, mels)
    assert np.abs(ours - expected).max() <= 2e-4 * np.abs(expected).max()


@pytest.mark.parametrize('mels', [80, 128])
def test_arithmetic_is_exact(clips, mels):
  for clip in clips:
    filled = np.zeros((1, frontends.CLIP))
    filled[0, : len(clip)] = clip[: frontends.CLIP]
    with jax.enable_x64(True):
      ours = np.asarray(mel.whisper_mel(jnp.asarray(filled), mels)[0])
    np.testing.assert_allclose(ours, exact(clip, mels), atol=1e-6)


@pytest.mark.parametrize('mels', [80, 128])
def test_silence_is_at_the_floor(mels):
  found, heard = features([np.zeros(5000, np.float32)], mels)
  np.testing.assert_array_equal(found[0], np.float32((-10 + 4) / 4))
  np.testing.assert_array_equal(found[0], reference(np.zeros(5000), mels))
  assert heard.sum() == 32


def test_padding_does_not_matter(clips):
  quiet, heard = features(clips, fill=0)
  found, same = features(clips, fill=np.nan)
  np.testing.assert_array_equal(found, quiet)
  np.testing.assert_array_equal(heard, same)
  assert np.isfinite(found).all()


def test_which_frames_hold_audio():
  """Of 160 samples each, the last one begun; never more than 30 s."""
  lengths = [0, 1, 160, 161, 3200, 480_000, 528_000]
  _, heard = features([NOISE[:n] for n in lengths])
  assert heard.shape == (7, 3000)
  for row, count in zip(heard, (0, 1, 1, 2, 20, 3000, 3000), strict=True):
    assert np.flatnonzero(row).tolist() == list(range(count))


@pytest.mark.parametrize('mels', [80, 128])
def test_a_checkpoint_says_how_many_bins(mels):
  class Sizes:
    num_mel_bins = mels

  for made in (frontends.whisper(Sizes), frontends.salmonn(Sizes)):
    assert (made.minimum, made.limit, made.grid) == (1, 480_000, 480_000)
    found, _ = made.features(*padded([NOISE[:4000]]))
    first = found[0] if isinstance(found, tuple) else found
    assert first.shape == (1, 3000, mels)


def beats_reference(fbank, clip):
  return (fbank(clip, 128) - 15.41663) / (2 * 6.55582)


def test_beats_equals_the_reference(clips, reference_fbank):
  """All of noise and speech; of a tone what float32 holds, 80 dB of a frame."""
  found, mask = map(np.asarray, frontends.BEATS.features(*padded(clips)))
  for ours, own, clip in zip(found, mask, clips, strict=True):
    expected = beats_reference(reference_fbank, clip)
    assert ours[own].shape == expected.shape
    difference = np.abs(ours[own] - expected)
    loudest = expected.max(axis=1, keepdims=True)
    near = expected > loudest - 8 * np.log(10) / (2 * 6.55582)
    assert difference[near].max() <= 1e-4
    if clip is not clips[TONE]:
      assert difference.max() <= 2e-4 * np.abs(expected).max()


def test_the_empty_filter_is_at_the_floor_of_every_frame(clips):
  found, mask = frontends.BEATS.features(*padded(clips))
  floor = (np.log(2.0**-23) - 15.41663) / (2 * 6.55582)
  np.testing.assert_allclose(found[mask][:, 3], floor, rtol=1e-6)


def test_the_empty_filter_of_128():
  empty = ~mel.kaldi_filters(128).any(axis=0)
  assert np.flatnonzero(empty).tolist() == [3]
  assert mel.kaldi_filters(80).any(axis=0).all()


def test_beats_arithmetic_is_exact(clips, reference_fbank):
  for clip in clips:
    with jax.enable_x64(True):
      found, mask = frontends.beats_features(
        jnp.asarray(clip, jnp.float64)[None], jnp.array([len(clip)])
      )
    assert mask.all()
    expected = beats_reference(reference_fbank, clip)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_beats_padding_does_not_matter(clips):
  quiet, same = frontends.beats_features(*padded(clips, fill=0))
  found, mask = frontends.beats_features(*padded(clips))
  np.testing.assert_array_equal(found, quiet)
  np.testing.assert_array_equal(mask, same)


def test_salmonn_reads_both(clips):
  """Whisper's 30 s; BEATs' as long as the audio, from 1 s up to 30 s."""
  (spoken, fbank), (heard, mask) = frontends.salmonn_features(
    *padded(clips), mels=80
  )
  whisper, same = features(clips)
  np.testing.assert_allclose(spoken, whisper, atol=1e-6)
  np.testing.assert_array_equal(heard, same)
  for ours, own, clip in zip(fbank, mask, clips, strict=True):
    filled = np.zeros(min(max(len(clip), SAMPLE_RATE), 480_000), np.float32)
    filled[: len(clip)] = clip[: len(filled)]
    expected, there = frontends.beats_features(
      jnp.asarray(filled)[None], jnp.array([len(filled)])
    )
    assert there.all()
    np.testing.assert_allclose(ours[own], expected[0], atol=1e-5)
