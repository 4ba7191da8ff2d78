"""Synthetic speech of composed sentences, by an installed espeak-ng."""

import dataclasses
import functools
import re
import subprocess
import unicodedata

import numpy as np
import soxr
from absl import logging
from jaxtyping import Float32

from jaxrep.types import SAMPLE_RATE, InputError

VERSION = '1.51'
"""Of the espeak-ng that has spoken for the bundled corpus and models."""

ESPEAK_VOICES = {
  'eng': 'en-us',
  'rus': 'ru',
  'hin': 'hi',
  'arb': 'ar',
  'cmn': 'cmn-latn-pinyin',  # plain `cmn` spells out characters in English
  'swh': 'sw',
  'ind': 'id',
  'tur': 'tr',
}
_ESPEAK_RATE = 22_050
_STRESS = re.compile('[ˈˌ]')


@dataclasses.dataclass(frozen=True)
class Voice:
  """An espeak-ng variant, in words a minute and in pitch from 0 to 99."""

  variant: str
  speed: int
  pitch: int


# Respellings that bring espeak-ng 1.51 to read a text rightly: Arabic in pausal
# form, Chinese characters of several readings, two Swahili words.
_ARABIC_LETTER = '[^\\Wاوىءأإآ\u064b-\u0652]\u0651?'
_RESPELLINGS = {
  'arb': (
    ('([\u064b-\u0650])\u0651', '\u0651\\1'),  # shadda before its vowel
    ('([بوفك][\u064e\u0650])ال([^ل]\u0651)', r'\1\2'),  # bi-l-sh… → bi-sh-sh…
    ('([بوفك][\u064e\u0650])ال', r'\1ل'),  # the article's alif is silent
    ('ال([^ل])\u0651', r'ال\1'),  # it assimilates the article by itself
    (f'({_ARABIC_LETTER})ي(?![اوى\u064b-\u0652])', '\\1\u0650ي'),
    (f'({_ARABIC_LETTER})و(?![اوى\u064b-\u0652])', '\\1\u064fو'),
    ('اء', '\u064eاء'),
    ('ة(?![\u064b-\u0652])', ''),  # silent at a pause
  ),
  'cmn': (
    ('音乐', '音月'),
    ('睡觉', '睡叫'),
    ('便宜', '胼宜'),
    ('银行', '银航'),
    ('首都', '首督'),
    ('地', '弟'),
    ('弹', '谈'),
    ('只', '之'),
  ),
  'swh': (("ng'", 'ng'), (r'\b([Tt])angu\b', r'\1aangu')),
}


@functools.cache
def installed() -> str:
  """The synthesiser with its version, which decides what is heard.

  Raises:
    InputError: espeak-ng is not there.
  """
  said = _output('espeak-ng', '--version').decode()
  found = re.search(r'\d+(\.\d+)+', said)
  version = found[0] if found else said.strip()
  if version != VERSION:
    logging.warning(
      'espeak-ng %s may speak otherwise than %s, by which the bundled models '
      'were trained.',
      *(version, VERSION),
    )
  return f'espeak-ng {version}'


def synthesise(
  text: str, language: str, voice: Voice
) -> Float32[np.ndarray, ' sample']:
  """Speech at 16 kHz in [-1, 1]; of Arabic, give the vocalised text."""
  wave = _espeak(
    *(language, text, f'+{voice.variant}', f'-s{voice.speed}'),
    *(f'-p{voice.pitch}', '--stdout'),
  )
  # Past the header, whose lengths are wrong where the output is a pipe.
  samples = np.frombuffer(wave[44:], '<i2').astype(np.float32) / 2**15
  return soxr.resample(_trimmed(samples), _ESPEAK_RATE, SAMPLE_RATE)


def phones(text: str, language: str) -> list[str]:
  """What is spoken, in espeak-ng's IPA without stress; tones are kept."""
  ipa = _espeak(language, text, '', '-q', '--ipa', '--sep=_').decode()
  return [phone for phone in re.split(r'[_\s]+', _STRESS.sub('', ipa)) if phone]


def _espeak(language: str, text: str, variant: str, *options: str) -> bytes:
  voice = f'-v{ESPEAK_VOICES[language]}{variant}'
  return _output('espeak-ng', voice, *options, _respelled(text, language))


def _output(*command: str) -> bytes:
  try:
    return subprocess.run(command, capture_output=True, check=True).stdout
  except (OSError, subprocess.CalledProcessError) as error:
    raise InputError(
      f'espeak-ng cannot speak ({error}). Install espeak-ng {VERSION} '
      '(Debian 12: apt-get install espeak-ng).'
    ) from error


def _respelled(text: str, language: str) -> str:
  text = unicodedata.normalize('NFC', text)
  for pattern, replacement in _RESPELLINGS.get(language, ()):
    text = re.sub(pattern, replacement, text)
  return text


def _trimmed(
  samples: Float32[np.ndarray, ' sample'],
) -> Float32[np.ndarray, ' kept']:
  """Without the silence, but for 50 ms before and 100 ms behind."""
  loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
  start = max(0, loud[0] - _ESPEAK_RATE // 20)
  return samples[start : loud[-1] + _ESPEAK_RATE // 10]
