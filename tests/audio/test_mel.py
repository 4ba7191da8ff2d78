import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.audio.mel import kaldi_fbank, kaldi_filters

# One of 128 filters falls between two bins of the spectrum, in Kaldi as well.
pytestmark = pytest.mark.filterwarnings(
  'ignore:At least one mel filter has all zero'
)


@pytest.mark.parametrize('mels', [80, 128])
def test_filters_equal_the_reference(reference_filters, mels):
  np.testing.assert_allclose(
    kaldi_filters(mels), reference_filters(mels), atol=1e-12
  )


@pytest.mark.parametrize('mels', [80, 128])
def test_fbank_in_float64_equals_the_reference(
  recordings, reference_fbank, mels
):
  with jax.enable_x64(True):
    waveforms = jnp.asarray(recordings[0], jnp.float64)[None]
    ours = kaldi_fbank(waveforms, mels)[0]
  expected = reference_fbank(recordings[0], mels)
  np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_a_constant_is_exactly_at_the_floor():
  waveforms = jnp.full((1, 4000), 0.3, jnp.float32)
  np.testing.assert_array_equal(
    kaldi_fbank(waveforms, 80), np.float32(np.log(2.0**-23))
  )


def test_an_offset_does_not_hide_silence(recordings, reference_fbank):
  """Digital silence between speech stays at the floor on any offset."""
  speech = np.float32(np.round(recordings[0] * 2**13) / 2**15)
  waveform = np.concatenate([speech, np.zeros(8000, np.float32), speech])
  shifted = waveform + np.float32(9830 / 2**15)  # exact for 16-bit audio
  ours = kaldi_fbank(jnp.asarray(shifted)[None], 80)[0]
  difference = np.abs(ours - reference_fbank(waveform, 80))
  assert np.quantile(difference, 0.999) < 1e-3
  assert difference.max() < 2e-2
