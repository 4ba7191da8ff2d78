"""Log-mel filter banks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrep.audio.framing import frame
from jaxrep.types import SAMPLE_RATE

FRAME = 400
HOP = 160
_FFT = 512
_PREEMPHASIS = 0.97
_LOWEST_HZ = 20
_FLOOR = 2.0**-23


def kaldi_fbank(
  waveforms: Float[Array, 'batch sample'], mels: int
) -> Float[Array, 'batch frame {mels}']:
  """Kaldi's log-mel energies of 25 ms frames, one every 10 ms.

  Without dither, energy or centre padding: a frame's mean is removed, then
  pre-emphasis 0.97, Povey window, power spectrum of 512 points, triangles that
  are linear in mel from 20 Hz to 8 kHz, natural logarithm floored at 2^-23.

  The order of operations is chosen for float32. Neighbouring samples are
  subtracted before anything has rounded them, which is exact for smooth or
  16-bit audio, and only the small remainder of the pre-emphasis sees the mean.
  The mean is taken of differences from the first sample, so that a constant
  frame gives exact zeros and the floor, not the rounding of its mean.
  What float32 cannot hold is a bin more than 100 dB below the loudest of its
  frame, as beside a pure tone: such energies are off by several percent.

  Args:
    waveforms: 16 kHz, in [-1, 1]; scaled to 16-bit units here.
    mels: number of filters (80 or 128 in the known models).
  """
  frames = frame(waveforms * 2.0**15, FRAME, HOP)
  shifted = frames - frames[..., :1]
  centred = shifted - jnp.mean(shifted, axis=-1, keepdims=True)
  # x[t] - 0.97 x[t-1] = (x[t] - x[t-1]) + 0.03 x[t-1]. The window is zero at
  # both ends of the frame, so the first and the last sample are left out.
  emphasised = (frames[..., 1:-1] - frames[..., :-2]) + (
    1 - _PREEMPHASIS
  ) * centred[..., :-2]
  energies = _product(_windowed_power(emphasised), kaldi_filters(mels))
  return jnp.log(jnp.maximum(energies, _FLOOR))


def whisper_mel(
  waveforms: Float[Array, 'batch sample'], mels: int
) -> Float[Array, 'batch frame {mels}']:
  """Whisper's log-mel energies, as transformers' WhisperFeatureExtractor.

  Frames of 400 samples lie centred on every 160th sample, the ends mirrored;
  periodic Hann window, power spectrum of 400 points, Slaney's triangles of
  equal area up to 8 kHz, base-10 logarithm floored at 1e-10 and at 8 below the
  loudest energy of the row, then (x + 4) / 4. The frame centred on the end of
  the waveform is left out.

  Args:
    waveforms: 16 kHz, in [-1, 1], filled up to the length that is read.
    mels: number of filters (80, or 128 for large-v3).
  """
  half = FRAME // 2
  ends = waveforms[:, half:0:-1], waveforms[:, -2 : -half - 2 : -1]
  mirrored = jnp.concatenate([ends[0], waveforms, ends[1]], axis=1)
  frames = frame(mirrored, FRAME, HOP)[:, :-1]
  energies = _product(_centred_power(frames), slaney_filters(mels))
  logs = jnp.log10(jnp.maximum(energies, 1e-10))
  loudest = jnp.max(logs, axis=(1, 2), keepdims=True)
  return (jnp.maximum(logs, loudest - 8) + 4) / 4


@functools.cache
def slaney_filters(mels: int) -> Float[np.ndarray, 'bin {mels}']:
  """Slaney's triangular filters of area 1 over the 201 bins of the spectrum.

  His mel scale is linear below 1 kHz, 200/3 Hz a step, and logarithmic above,
  27 steps to a factor of 6.4.
  """
  step, bend, growth = 200 / 3, 1000.0, np.log(6.4) / 27
  top = bend / step + np.log(SAMPLE_RATE / 2 / bend) / growth
  points = np.linspace(0, top, mels + 2)
  high = bend * np.exp(growth * (points - bend / step))
  points = np.where(points < bend / step, step * points, high)
  hertz = np.arange(FRAME // 2 + 1)[:, None] * SAMPLE_RATE / FRAME
  left, centre, right = points[:-2], points[1:-1], points[2:]
  rising = (hertz - left) / (centre - left)
  falling = (right - hertz) / (right - centre)
  triangles = np.maximum(0, np.minimum(rising, falling))
  return triangles * 2 / (right - left)


@functools.cache
def kaldi_filters(mels: int) -> Float[np.ndarray, 'bin {mels}']:
  """Kaldi's triangular filters over the 257 bins of the power spectrum."""
  hertz = np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT
  points = np.linspace(_mel(_LOWEST_HZ), _mel(SAMPLE_RATE / 2), mels + 2)
  left, centre, right = points[:-2], points[1:-1], points[2:]
  bins = _mel(hertz)[:, None]
  rising = (bins - left) / (centre - left)
  falling = (right - bins) / (right - centre)
  return np.maximum(0, np.minimum(rising, falling))


def _mel(hertz):
  return 1127 * np.log(1 + np.asarray(hertz) / 700)


def _windowed_power(
  frames: Float[Array, 'batch frame inner'],
) -> Float[Array, 'batch frame bin']:
  """|DFT|² of the windowed inside of each frame, by matrix products.

  The power does not depend on where time is counted from. Counted from the
  frame's centre, about which the window is even, the real part needs only the
  even half of the frame and the imaginary part only the odd half. Products are
  used in place of an FFT because XLA gathers a batch that is sharded over
  devices before an FFT, and because they are what accelerators are built for.
  """
  half = frames.shape[-1] // 2
  left, right = frames[..., :half][..., ::-1], frames[..., half:]
  cosines, sines = _windowed_bases()
  real = _product(right + left, cosines)
  imaginary = _product(right - left, sines)
  return real**2 + imaginary**2


@functools.cache
def _windowed_bases() -> tuple[
  Float[np.ndarray, 'half bin'], Float[np.ndarray, 'half bin']
]:
  """Cosines and sines under the right half of the Povey window (Hann^0.85)."""
  distance = np.arange(FRAME // 2 - 1)[:, None] + 0.5
  window = np.cos(np.pi * distance / (FRAME - 1)) ** (2 * 0.85)
  angle = 2 * np.pi / _FFT * distance * np.arange(_FFT // 2 + 1)
  return window * np.cos(angle), window * np.sin(angle)


def _centred_power(
  frames: Float[Array, 'batch frame length'],
) -> Float[Array, 'batch frame bin']:
  """|DFT|² of frames under a periodic Hann window, as `_windowed_power`.

  The window is even about the frame's middle sample, and 0 at the first one.
  """
  half = frames.shape[-1] // 2
  right, left = frames[..., half:], frames[..., half:0:-1]
  cosines, sines = _hann_bases()
  # The middle sample is its own mirror image; its cosine is halved.
  return (
    _product(right + left, cosines) ** 2 + _product(right - left, sines) ** 2
  )


@functools.cache
def _hann_bases() -> tuple[
  Float[np.ndarray, 'half bin'], Float[np.ndarray, 'half bin']
]:
  """Cosines and sines under the right half of a periodic Hann window."""
  half = FRAME // 2
  distance = np.arange(half)[:, None]
  window = 0.5 + 0.5 * np.cos(np.pi * distance / half)
  window[0] /= 2
  angle = np.pi * distance * np.arange(half + 1) / half
  return window * np.cos(angle), window * np.sin(angle)


def _product(
  values: Float[Array, 'batch frame row'],
  table: Float[np.ndarray, 'row column'],
) -> Float[Array, 'batch frame column']:
  """Product with a constant table, in full precision on every backend."""
  table = jnp.asarray(table, values.dtype)
  return jnp.matmul(values, table, precision=jax.lax.Precision.HIGHEST)
