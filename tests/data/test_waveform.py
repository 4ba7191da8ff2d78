import io
import struct

import numpy as np
import pytest
import soundfile

from jaxrep.data import waveform
from jaxrep.types import InputError

ENCODINGS = {
  'float.wav': ('WAV', 'FLOAT'),
  'pcm.wav': ('WAV', 'PCM_16'),
  'pcm.flac': ('FLAC', 'PCM_16'),
  'opus.ogg': ('OGG', 'OPUS'),
}


def _tone(samples, rate=16_000, hertz=440.0):
  time = np.arange(samples) / rate
  return (0.3 * np.sin(2 * np.pi * hertz * time)).astype('float32')


def _encoded(wave, rate=16_000, container='WAV', subtype='PCM_16'):
  buffer = io.BytesIO()
  soundfile.write(buffer, wave, rate, format=container, subtype=subtype)
  return buffer.getvalue()


@pytest.mark.parametrize('name', ENCODINGS)
def test_reads_each_encoding(tmp_path, name):
  wave = _tone(16_000)
  path = tmp_path / name
  path.write_bytes(_encoded(wave, 16_000, *ENCODINGS[name]))
  read = waveform.read(path)
  assert read.dtype == np.float32 and read.shape == wave.shape
  tolerance = {'float.wav': 0, 'opus.ogg': 0.05}.get(name, 1 / 32768)
  # Opus needs a moment to settle.
  settled = slice(1600, -1600) if name == 'opus.ogg' else slice(None)
  assert np.abs(read - wave)[settled].max() <= tolerance
  assert waveform.probe(path) == len(wave)


def test_bytes_and_files_are_read_as_paths_are(tmp_path):
  data = _encoded(_tone(4000))
  path = tmp_path / 'a.wav'
  path.write_bytes(data)
  for source in (str(path), data, io.BytesIO(data)):
    np.testing.assert_array_equal(waveform.read(source), waveform.read(path))
  assert waveform.probe(data) == waveform.probe(io.BytesIO(data)) == 4000


def test_the_first_of_several_channels_is_taken():
  left, right = _tone(3000), _tone(3000, hertz=100)
  read = waveform.read(_encoded(np.stack([left, right], 1), subtype='FLOAT'))
  np.testing.assert_array_equal(read, left)
  assert read.flags.c_contiguous


@pytest.mark.parametrize('rate', [8000, 11025, 22050, 24000, 44100, 48000])
def test_probe_foretells_the_resampled_length(rate):
  for samples in (*range(rate // 400, rate // 400 + 50), 12_345, 3 * rate + 1):
    data = _encoded(_tone(samples, rate), rate)
    assert waveform.probe(data) == len(waveform.read(data)), samples


def test_resampling_keeps_the_signal():
  read = waveform.read(_encoded(_tone(48_000, 48_000), 48_000, subtype='FLOAT'))
  expected = _tone(16_000)
  assert np.abs(read - expected)[400:-400].max() < 1e-3


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(value):
  wave = _tone(1000)
  wave[17] = value
  with pytest.raises(InputError, match=r'eng/3\.wav: holds NaN or infinite'):
    waveform.read(_encoded(wave, subtype='FLOAT'), 'eng/3.wav')


@pytest.mark.parametrize('take', [waveform.read, waveform.probe])
def test_files_that_hold_no_audio_are_named(tmp_path, take):
  with pytest.raises(InputError, match=r'none\.wav: there is no such'):
    take(tmp_path / 'none.wav')
  with pytest.raises(InputError, match='there is no such'):
    take(tmp_path)
  for name, data in {
    'void.wav': b'',
    'text.wav': b'not audio at all' * 40,
    'head.wav': _encoded(_tone(1000))[:40],
    'samples.raw': _encoded(_tone(1000))[44:],
  }.items():
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=f'{name}: is not an audio file'):
      take(tmp_path / name)
  with pytest.raises(InputError, match=r'b\.wav: holds no samples'):
    take(_encoded(_tone(0)), 'b.wav')


def test_a_file_that_is_cut_short_is_refused():
  for name, encoding in ENCODINGS.items():
    data = _encoded(_tone(48_000), 16_000, *encoding)
    with pytest.raises(InputError, match=f'{name}: (the file is cut|is damag)'):
      waveform.read(data[: len(data) // 2], name)


@pytest.mark.parametrize('size', [0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_that_was_piped_is_whole(size):
  data = bytearray(_encoded(_tone(2000)))
  data[4:8] = data[40:44] = struct.pack('<I', size)
  assert len(waveform.read(bytes(data))) == 2000


@pytest.mark.parametrize('rate', [16_000, 22_050, 44_100])
def test_an_mp3_is_read_whole_or_not_at_all(tmp_path, rate):
  """Without a first frame that counts the others a length is but guessed."""
  whole = _encoded(_tone(3 * rate), rate, 'MP3', 'MPEG_LAYER_III')
  tag = b'ID3\4\0\0\0\0\1\0' + bytes(128)
  for data in (whole, tag + whole, tag + tag + whole):
    (tmp_path / 'a.mp3').write_bytes(data)
    for file in (tmp_path / 'a.mp3', data, io.BytesIO(data)):
      assert waveform.probe(file) == len(waveform.read(file)) == 48_000
  frames = whole[whole.index(whole[:2], 4) :]
  named = tag[:10] + b'Xing' * 32  # what a tag says counts nothing
  for data in (frames, tag + frames, named + frames):
    (tmp_path / 'a.mp3').write_bytes(data)
    for take in (waveform.probe, waveform.read):
      with pytest.raises(InputError, match=r'a\.mp3: does not say how long'):
        take(tmp_path / 'a.mp3')


def test_a_flac_that_was_piped_does_not_say_how_long_it_is():
  data = bytearray(_encoded(_tone(2000), 16_000, 'FLAC', 'PCM_16'))
  data[21] &= 0xF0  # the count of samples in its first block
  data[22:26] = bytes(4)
  for take in (waveform.probe, waveform.read):
    with pytest.raises(InputError, match=r'a\.flac: does not say how long'):
      take(bytes(data), 'a.flac')


def test_silence_is_told_by_level():
  rng = np.random.default_rng(0)
  noise = rng.standard_normal(24_000).astype('float32')
  assert waveform.silent(np.zeros(24_000, 'float32'))
  assert waveform.silent(np.full(24_000, 0.2, 'float32'))
  assert waveform.silent(noise / 32768)
  assert waveform.silent(0.8e-3 * noise)
  assert not waveform.silent(1.2e-3 * noise)
  word = np.zeros(160_000, 'float32')
  word[70_000:73_200] = 0.1 * _tone(3200)
  assert not waveform.silent(word)
  assert not waveform.silent(_tone(10))


def test_a_checksum_tells_recordings_of_one_length_apart(tmp_path):
  rng, found = np.random.default_rng(0), set()
  speech = rng.standard_normal(16_000).astype(np.float32) / 10
  noisy = speech + rng.standard_normal(16_000).astype(np.float32) / 100
  for name, wave in (('clean', speech), ('copy', speech), ('noisy', noisy)):
    path = tmp_path / name / 'one.wav'
    path.parent.mkdir()
    soundfile.write(path, wave, 16_000)
    found.add(waveform.checksum(path))
  assert len(found) == 2


def test_a_file_that_cannot_be_read_has_no_checksum(tmp_path):
  with pytest.raises(InputError, match=f'{tmp_path}: cannot be read'):
    waveform.checksum(tmp_path)
