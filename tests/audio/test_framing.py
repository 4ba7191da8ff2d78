import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.audio.framing import frame, frame_count


@pytest.mark.parametrize(
  ('samples', 'count'),
  [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98), (16_160, 99)],
)
def test_frame_count_of_numbers_and_arrays(samples, count):
  assert frame_count(samples, 400, 160) == count
  assert frame_count(jnp.array([samples]), 400, 160).tolist() == [count]


@pytest.mark.parametrize(('length', 'hop'), [(400, 160), (320, 160), (7, 3)])
@pytest.mark.parametrize('extra', [0, 1, 79, 80, 159])
def test_frames_are_windows_of_the_waveform(length, hop, extra):
  samples = length + 5 * hop + extra
  waveforms = np.arange(2 * samples, dtype=np.float32).reshape(2, samples)
  windows = np.lib.stride_tricks.sliding_window_view(waveforms, length, axis=1)
  frames = frame(jnp.asarray(waveforms), length, hop)
  np.testing.assert_array_equal(frames, windows[:, ::hop])
