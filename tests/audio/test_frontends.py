import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxrep.audio.frontends import (
  MIN_SAMPLES,
  seamless_features,
  seamless_steps,
  sonar_features,
  standardise,
)
from jaxrep.audio.mel import kaldi_fbank

jitted = jax.jit(seamless_features)


def padded(clips, samples=None, fill=0.0, dtype=np.float32):
  samples = samples or max(map(len, clips))
  waveforms = np.full((len(clips), samples), fill, dtype)
  for row, clip in zip(waveforms, clips, strict=True):
    row[: len(clip)] = clip
  return jnp.asarray(waveforms), jnp.array([len(clip) for clip in clips])


def valid(clips, **padding):
  """The features of each clip of a batch, its valid steps only."""
  features, mask = map(np.asarray, jitted(*padded(clips, **padding)))
  return [x[m] for x, m in zip(features, mask, strict=True)]


def cut(recordings, lengths):
  """Clips of the given lengths from all over the recordings."""
  stream = np.concatenate(recordings)
  starts = np.random.default_rng(0).integers(
    len(stream) - max(lengths), size=len(lengths)
  )
  return [stream[a : a + n] for a, n in zip(starts, lengths, strict=True)]


def assert_close(ours, expected, scale=1.0):
  """The accuracy that float32 owes the reference's float64."""
  assert [x.shape for x in ours] == [x.shape for x in expected]
  ours, expected = np.concatenate(ours), np.concatenate(expected)
  difference = np.abs(ours - expected) * scale
  assert np.linalg.norm(difference) <= 1e-4 * np.linalg.norm(expected * scale)
  assert np.mean(difference <= 2e-4) >= 0.999


def test_recordings_equal_the_reference(recordings, reference):
  assert_close(valid(recordings), [reference(x) for x in recordings])


def test_every_length_equals_the_reference(recordings, reference):
  """All remainders of 160 and of 320 samples, padded to one length."""
  clips = cut(recordings, range(8000, 8320))
  assert_close(valid(clips, samples=9000), [reference(x) for x in clips])


def test_shortest_clips_equal_the_reference(
  recordings, reference, reference_fbank
):
  """Two to four frames: one or two steps.

  Standardised over so few frames, differences of 1e-4 between them are blown up
  to unit variance, and the rounding of the reference's own logarithms with
  them: 0.13 % of its entries are further than 2e-4 from exact arithmetic. So
  the differences are measured in logarithms, before the division.
  """
  clips = cut(recordings, range(MIN_SAMPLES, MIN_SAMPLES + 320))
  ours, expected, scales = valid(clips), [], []
  for clip in clips:
    expected.append(reference(clip))
    deviation = reference_fbank(clip, 80).std(axis=0, ddof=1)
    scales.append(np.tile(deviation, 2))
  scales = np.repeat(scales, [len(x) for x in expected], axis=0)
  assert_close(ours, expected, scales)


def test_arithmetic_is_exact(recordings, reference_fbank):
  """In float64, against the reference before it rounds its logarithms."""
  clips = cut(recordings, range(12_000, 12_320, 11))
  with jax.enable_x64(True):
    ours = valid(clips, dtype=np.float64)
  for features, clip in zip(ours, clips, strict=True):
    mels = reference_fbank(clip, 80)
    mels = (mels - mels.mean(axis=0)) / np.sqrt(mels.var(axis=0, ddof=1) + 1e-7)
    expected = mels[: 2 * len(features)].reshape(len(features), 160)
    np.testing.assert_allclose(features, expected, atol=1e-7, rtol=0)


def test_padding_does_not_matter(recordings):
  clips = cut(recordings, [560, 8000, 12_345, 16_000])
  features, mask = jitted(*padded(clips, 20_000))
  noisy, noisy_mask = jitted(*padded(clips, 20_000, fill=np.nan))
  np.testing.assert_array_equal(noisy, features)
  np.testing.assert_array_equal(noisy_mask, mask)
  assert_close(valid(clips, samples=30_000), valid(clips))


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_batched_equals_alone(recordings, dtype):
  clips = cut(recordings, [560, 2000, 8000, 16_000])
  with jax.enable_x64(dtype == np.float64):
    batched = valid(clips, samples=20_000, dtype=dtype)
    alone = [valid([clip], dtype=dtype)[0] for clip in clips]
  assert_close(batched, alone)
  if dtype == np.float64:
    np.testing.assert_allclose(
      np.concatenate(batched), np.concatenate(alone), atol=1e-9
    )


def test_jit_equals_eager(recordings):
  waveforms, lengths = padded(cut(recordings, [560, 8000, 16_000]))
  features, mask = seamless_features(waveforms, lengths)
  expected, expected_mask = jitted(waveforms, lengths)
  np.testing.assert_array_equal(mask, expected_mask)
  assert_close([features], [expected])


def test_eight_devices_equal_one_and_do_not_talk(recordings):
  assert jax.device_count() == 8
  waveforms, lengths = padded(cut(recordings, range(6000, 14_000, 500)))
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  rows = NamedSharding(mesh, PartitionSpec('data'))
  inputs = jax.device_put((waveforms, lengths), rows)
  features, mask = jitted(*inputs)
  assert features.sharding.is_equivalent_to(rows, 3)
  assert mask.sharding.is_equivalent_to(rows, 2)
  expected, expected_mask = jitted(waveforms, lengths)
  np.testing.assert_array_equal(mask, expected_mask)
  assert_close([features], [expected])
  program = jitted.lower(*inputs).compile().as_text()
  assert not re.search('all-|collective-|reduce-scatter', program)


def test_mask_counts_whole_steps_only():
  lengths = jnp.array([0, 399, 400, 559, 560, 719, 720, 879, 880, 1200])
  features, mask = jitted(jnp.ones((10, 1200)), lengths)
  steps = [0, 0, 0, 0, 1, 1, 1, 1, 2, 3]
  assert mask.tolist() == [[i < n for i in range(3)] for n in steps]
  assert [seamless_steps(int(n)) for n in lengths] == steps
  assert not np.any(features[~mask])


def test_dummy_rows_are_finite_and_masked():
  waveforms = jnp.full((3, 1000), jnp.nan)
  features, mask = jitted(waveforms, jnp.array([0, 0, 0]))
  assert not mask.any()
  np.testing.assert_array_equal(features, 0)


def test_silence_is_zero():
  features, mask = jitted(jnp.zeros((1, 16_000)), jnp.array([16_000]))
  assert mask.all()
  np.testing.assert_allclose(features, 0, atol=1e-6)


@pytest.mark.parametrize('gain', [1e-3, 30.0, 1e3])
def test_any_level_equals_the_reference(recordings, reference, gain):
  clips = [np.float32(gain) * clip for clip in recordings[::8]]
  assert_close(valid(clips), [reference(clip) for clip in clips])


def test_clipped_audio_equals_the_reference(recordings, reference):
  clips = [np.clip(30 * clip, -1, 1) for clip in recordings[::8]]
  assert_close(valid(clips), [reference(clip) for clip in clips])


def test_padded_length_must_hold_a_step():
  with pytest.raises(ValueError, match='559 samples'):
    seamless_features(jnp.zeros((1, 559)), jnp.array([559]))


def test_standardised_bins_have_mean_zero_and_unit_variance():
  """On long rows far from zero, where a float32 sum is off."""
  frames = 20_000
  features = 20 + np.random.default_rng(0).normal(size=(1, frames, 4)) / 100
  features = jnp.asarray(features, jnp.float32)
  mask = jnp.arange(frames)[None] < frames - 5
  result = np.float64(standardise(features, mask, 0.0)[:, : frames - 5])
  np.testing.assert_allclose(result.mean(axis=1), 0, atol=1e-6)
  np.testing.assert_allclose(result.var(axis=1, ddof=1), 1, atol=1e-4)


SONAR = pathlib.Path(__file__).parents[1] / 'golden'


@pytest.mark.parametrize('name', ['english', 'other'])
def test_sonar_equals_fairseq2(name):
  """Its converter's own filter banks, standardised and before."""
  folder = SONAR / f'sonar_speech_{name}'
  inputs, stored = np.load(folder / 'inputs.npz'), folder / 'expected.npz'
  expected = np.load(stored)
  clips = [inputs[f'utt{i}'] for i in range(5)]
  features, mask = map(np.asarray, jax.jit(sonar_features)(*padded(clips)))
  for i in range(5):
    theirs = expected[f'utt{i}/fbank']
    steps = len(theirs) // 2
    ours = features[i][mask[i]]
    assert len(ours) == steps
    difference = np.abs(ours.reshape(2 * steps, 80) - theirs[: 2 * steps])
    assert difference.max() <= 2e-4 * np.abs(theirs).max()
  (logs,) = kaldi_fbank(jnp.asarray(clips[:1]), 80)
  np.testing.assert_allclose(logs, expected['utt0/log_mel'], atol=1e-4)


def test_sonar_has_no_epsilon():
  """Bins that hardly change are scaled up like others: here by 0.03 %.

  The waveform repeats itself every 10 ms, but for its level.
  """
  rng = np.random.default_rng(0)
  frames = 60
  level = 1 + 3e-4 * rng.standard_normal(frames + 3)
  clip = np.outer(level, 0.1 * rng.standard_normal(160)).ravel()
  inputs = padded([clip.astype(np.float32)])
  for features, least, most in (
    (sonar_features, 0.975, 1.025),
    (seamless_features, 0.5, 0.97),
  ):
    found, _ = features(*inputs)
    mels = np.asarray(found).reshape(-1, 80)
    deviation = mels.std(axis=0, ddof=1)
    assert (least < deviation).all() and (deviation < most).all()


@pytest.mark.parametrize('level', [0.0, 0.25])
def test_sonar_of_what_does_not_change_is_zero(level):
  """Of silence and of a constant; the reference divides 0 by 0."""
  waveforms = jnp.full((2, 16_000), level)
  features, mask = sonar_features(waveforms, jnp.array([16_000, 9000]))
  assert mask.sum() == 49 + 27
  np.testing.assert_array_equal(features, 0)
