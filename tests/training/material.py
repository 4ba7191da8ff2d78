"""A few bundled sentences as training material: real speech, no synthesiser."""

import functools

import numpy as np

from jaxrep.training import material
from jaxrep.training.material import Material, Spoken

LANGUAGES = ('eng', 'tur', 'swh')
COUNTS = (24, 24, 12)
KINDS = 9


@functools.cache
def test_set():
  return material.test_set(LANGUAGES)


@functools.cache
def small() -> Material:
  """24 English and Turkish, 12 Swahili sentences; others for development.

  The phones are made up: each piece of text stands for one.
  """
  spoken = test_set()
  training = tuple(
    part(one, range(count)) for one, count in zip(spoken, COUNTS, strict=True)
  )
  development = tuple(part(one, range(40, 60)) for one in spoken)
  phones = tuple(
    tuple(1 + row[1:-1] % KINDS for row in one.tokens) for one in training
  )
  return Material(training, development, phones, KINDS)


def part(spoken: Spoken, sentences: range) -> Spoken:
  clips = [spoken.clip(i) for i in sentences]
  steps = np.array([len(clip) for clip in clips], np.int32)
  return Spoken(
    spoken.language,
    tuple(spoken.tokens[i] for i in sentences),
    np.concatenate(clips),
    steps,
    np.cumsum(steps, dtype=np.int32) - steps,
  )
