"""Audio files as mono float32 waveforms at 16 kHz."""

import functools
import io
import os
import re
import zlib

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32

from jaxrep.types import SAMPLE_RATE, InputError

Source = str | os.PathLike | bytes | io.BufferedIOBase

SILENCE = 1e-3  # −60 dB of full scale
_WINDOW = SAMPLE_RATE // 10

# libsndfile reads a file that was cut short as a shorter one, and says so only
# in its log. A WAV written to a pipe states a size near 2³¹ or 2³²: it is
# whole.
_CUT_WAV = re.compile(r'^data : (\d+) \(should be (\d+)\)', re.MULTILINE)
_CUT_OGG = 'Last page lacks an end-of-stream bit'
_PIPED = 0x7FFFF000
# Of an MP3 without a first frame that counts the others, and of a FLAC that was
# written to a pipe, libsndfile only guesses a length, and reads no further.
_COUNTED_MP3 = (b'Xing', b'Info', b'VBRI')
_UNCOUNTED = 1 << 62  # samples
_RATES = range(1_000, 1_000_001)
_SAMPLED = 4096  # bytes that a checksum takes of a place
_PIECE = 1 << 22  # samples of all channels


def read(file: Source, name: str = '') -> Float32[np.ndarray, ' sample']:
  """Reads WAV (16-bit or float), FLAC, Ogg/Opus and what else libsndfile does.

  Of several channels the first is taken. Other rates are resampled to 16 kHz.

  Args:
    file: a path, the file's bytes, or an open seekable binary file.
    name: what errors call it; a path is its own name.

  Raises:
    InputError: missing, corrupt, cut short, empty, or not finite.
  """
  name = _name(file, name)
  with _open(file, name) as sound:
    _check(sound, name)
    try:
      waveform = _first_channel(sound)
    except soundfile.SoundFileError as error:
      raise InputError(f'{name}: is damaged ({error}).') from error
    rate, length = sound.samplerate, sound.frames
  if len(waveform) != length:
    raise InputError(f'{name}: only {len(waveform)} of {length} samples read.')
  if not np.isfinite(waveform).all():
    raise InputError(f'{name}: holds NaN or infinite samples.')
  if rate == SAMPLE_RATE:
    return waveform
  return soxr.resample(waveform, rate, SAMPLE_RATE)


def probe(file: Source, name: str = '') -> int:
  """The length of `read(file)`, from the header; same errors but for NaN."""
  name = _name(file, name)
  with _open(file, name) as sound:
    _check(sound, name)
    rate, length = sound.samplerate, sound.frames
  # soxr's own rounding: to the nearest, halves up.
  return (2 * length * SAMPLE_RATE + rate) // (2 * rate)


def checksum(path: str | os.PathLike) -> str:
  """Of a file's size and 4 KiB of its start, middle and end.

  Tells a recording from one with other samples, though not from all: to read
  each file whole would cost as much as to extract it.

  Raises:
    InputError: it cannot be read.
  """
  try:
    with open(path, 'rb') as file:
      size = os.fstat(file.fileno()).st_size
      found = zlib.crc32(str(size).encode())
      for start in (0, size // 2, max(size - _SAMPLED, 0)):
        file.seek(start)
        found = zlib.crc32(file.read(_SAMPLED), found)
  except OSError as error:
    raise InputError(f'{path}: cannot be read ({error.strerror}).') from error
  return f'{found:08x}'


def silent(waveform: Float32[np.ndarray, ' sample']) -> bool:
  """Whether no 0.1 s of a recording reaches −60 dB of full scale.

  Level is the standard deviation within the window, so that a constant offset
  counts as silence. Some FLEURS recordings are silent; those that hold only
  noise are louder than this and are not found.
  """
  windows = np.array_split(waveform, -(-len(waveform) // _WINDOW))
  return all(window.std() < SILENCE for window in windows)


def _name(file: Source, name: str) -> str:
  if name or not isinstance(file, (str, os.PathLike)):
    return name or 'audio'
  return os.fspath(file)


def _open(file: Source, name: str) -> soundfile.SoundFile:
  if isinstance(file, bytes):
    file = io.BytesIO(file)
  elif isinstance(file, (str, os.PathLike)) and not os.path.isfile(file):
    raise InputError(f'{name}: there is no such audio file.')
  try:
    return soundfile.SoundFile(file)
  except (soundfile.SoundFileError, TypeError) as error:  # TypeError: *.raw
    told = getattr(error, 'error_string', error)  # without the file's name
    raise InputError(f'{name}: is not an audio file ({told}).') from error


def _first_channel(
  sound: soundfile.SoundFile,
) -> Float32[np.ndarray, ' sample']:
  """Piece by piece: a header may claim more than there is memory for."""
  pieces = [np.empty(0, np.float32)]
  most = max(1, _PIECE // sound.channels)
  # Float files are read as float: libsndfile gives silence for them as int16.
  while len(read := sound.read(most, dtype='float32', always_2d=True)):
    pieces.append(read[:, 0].copy())
  return np.concatenate(pieces)


def _states_length(sound: soundfile.SoundFile) -> bool:
  """Whether the header gives the length, where libsndfile would guess one."""
  if sound.format != 'MP3':
    return True
  if isinstance(sound.name, (str, os.PathLike)):
    with open(sound.name, 'rb') as file:
      return _counted(file)
  place = sound.name.tell()
  try:
    return _counted(sound.name)
  finally:
    sound.name.seek(place)


def _counted(file: io.BufferedIOBase) -> bool:
  """Whether the first frame, behind tags of ID3v2, counts the others."""
  file.seek(0)
  start, tag = 0, file.read(10)
  while tag[:3] == b'ID3' and len(tag) == 10:
    size = functools.reduce(lambda whole, byte: whole << 7 | byte, tag[6:], 0)
    start += 10 + size + (10 if tag[5] & 0x10 else 0)
    file.seek(start)
    tag = file.read(10)
  file.seek(start)
  first = file.read(_SAMPLED)
  return any(mark in first for mark in _COUNTED_MP3)


def _check(sound: soundfile.SoundFile, name: str) -> None:
  log = sound.extra_info
  cut = _CUT_WAV.search(log)
  if _CUT_OGG in log or (cut and int(cut[2]) < int(cut[1]) < _PIPED):
    raise InputError(f'{name}: the file is cut short; replace it.')
  if not sound.frames:
    raise InputError(f'{name}: holds no samples.')
  if sound.frames > _UNCOUNTED or not _states_length(sound):
    raise InputError(
      f'{name}: does not say how long it is; convert it to WAV or FLAC.'
    )
  if sound.samplerate not in _RATES:
    raise InputError(
      f'{name}: claims {sound.samplerate} samples a second, which no speech '
      'has; replace it.'
    )
