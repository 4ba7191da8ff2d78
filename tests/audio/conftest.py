"""Speech, and the reference that every front end is compared with."""

import pathlib

import numpy as np
import pytest
from transformers import SeamlessM4TFeatureExtractor, audio_utils

from jaxrep.data import waveform
from jaxrep.types import SAMPLE_RATE

BUNDLED = pathlib.Path(waveform.__file__).with_name('bundled') / 'audio'


@pytest.fixture(scope='session')
def recordings():
  """Forty bundled recordings, spread evenly over languages and voices."""
  files = sorted(
    path for path in BUNDLED.rglob('*') if path.suffix in {'.ogg', '.opus'}
  )
  assert len(files) >= 40
  return [waveform.read(path) for path in files[:: len(files) // 40][:40]]


@pytest.fixture(scope='session')
def reference():
  """Features [steps, 160] of one waveform alone, its valid steps only."""
  extractor = SeamlessM4TFeatureExtractor()

  def extract(samples):
    result = extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors='np')
    steps = result['attention_mask'].sum()
    return np.asarray(result['input_features'][0, :steps])

  return extract


@pytest.fixture(scope='session')
def reference_filters():
  """Mel filters [bin, mel] of the reference."""

  def filters(mels):
    return audio_utils.mel_filter_bank(
      num_frequency_bins=257,
      num_mel_filters=mels,
      min_frequency=20,
      max_frequency=8000,
      sampling_rate=SAMPLE_RATE,
      mel_scale='kaldi',
      triangularize_in_mel_space=True,
    )

  return filters


@pytest.fixture(scope='session')
def reference_fbank(reference_filters):
  """Log-mel energies [frame, mel] of one waveform, kept in float64."""

  def fbank(samples, mels):
    return audio_utils.spectrogram(
      samples * 2**15,
      audio_utils.window_function(400, 'povey', periodic=False),
      frame_length=400,
      hop_length=160,
      fft_length=512,
      power=2.0,
      center=False,
      preemphasis=0.97,
      mel_filters=reference_filters(mels),
      log_mel='log',
      mel_floor=2.0**-23,
      remove_dc_offset=True,
      dtype=np.float64,
    ).T

  return fbank
