"""Which sentences are seen at which step: a function of seed and step alone."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from jaxrep.inputs import pad
from jaxrep.training.material import Material, Spoken

GRID = 64
UNKNOWN = 1
"""The token that stands for a hidden one; no composed text holds it."""

_POOL = 16


class Chosen(NamedTuple):
  """The clips of a batch: row r is sentence[r], spoken in language[r].

  `steps` is what their features are padded to.
  """

  language: Int32[np.ndarray, ' row']
  sentence: Int32[np.ndarray, ' row']
  steps: int

  @property
  def rows(self) -> list[tuple[int, int]]:
    """(language, sentence) of each row."""
    pairs = zip(self.language.tolist(), self.sentence.tolist(), strict=True)
    return list(pairs)


class Order:
  """Every clip once an epoch, in batches of clips of like length.

  What does not fill a batch is left out of its epoch.
  """

  def __init__(self, spoken: Sequence[Spoken], rows: int, seed: int):
    counts = [len(one.steps) for one in spoken]
    self._language = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    self._sentence = np.concatenate(
      [np.arange(count, dtype=np.int32) for count in counts]
    )
    self._steps = np.concatenate([one.steps for one in spoken])
    self._rows, self._seed = rows, seed
    self.epoch = len(self._steps) // rows
    self._batches = functools.lru_cache(maxsize=1)(self._shuffled)

  def __getitem__(self, step: int) -> Chosen:
    epoch, place = divmod(step, self.epoch)
    clips = self._batches(epoch)[place]
    longest = int(self._steps[clips].max())
    width = -(-longest // GRID) * GRID
    return Chosen(self._language[clips], self._sentence[clips], width)

  def _shuffled(self, epoch: int) -> list[Int[np.ndarray, ' row']]:
    generator = np.random.default_rng([self._seed, epoch])
    clips = generator.permutation(len(self._steps))
    clips = clips[: self.epoch * self._rows]
    pools = np.array_split(clips, max(1, self.epoch // _POOL))
    pools = [
      pool[np.argsort(self._steps[pool], kind='stable')] for pool in pools
    ]
    batches = np.concatenate(pools).reshape(self.epoch, self._rows)
    return list(generator.permutation(batches))


def parallel(
  material: Material, chosen: Chosen, generator: np.random.Generator
) -> dict[str, Any]:
  """Clips, their phones and text, and their text in another language."""
  spoken = material.training
  other = other_language(spoken, chosen, generator)
  return {
    'speech': speech(spoken, chosen),
    'phones': phones(material, chosen),
    'text': text(spoken, chosen.language, chosen.sentence),
    'translation': text(spoken, other, chosen.sentence),
  }


def speech(spoken: Sequence[Spoken], chosen: Chosen) -> dict[str, np.ndarray]:
  """Features, padded with zeros, and their lengths."""
  features = np.zeros((len(chosen.language), chosen.steps, 160), np.float32)
  lengths = np.zeros(len(chosen.language), np.int32)
  for row, (language, sentence) in enumerate(chosen.rows):
    clip = spoken[language].clip(sentence)
    features[row, : len(clip)] = clip
    lengths[row] = len(clip)
  return {'features': features, 'lengths': lengths}


def text(
  spoken: Sequence[Spoken],
  language: Int[np.ndarray, ' row'],
  sentence: Int[np.ndarray, ' row'],
) -> dict[str, np.ndarray]:
  """Token ids, padded to one width for all batches, and their lengths."""
  rows = [
    spoken[one].tokens[number]
    for one, number in zip(language, sentence, strict=True)
  ]
  return _padded(rows, widest(spoken))


def phones(material: Material, chosen: Chosen) -> dict[str, np.ndarray]:
  """Those of the clips, padded to one width for all batches."""
  rows = [
    material.phones[language][sentence] for language, sentence in chosen.rows
  ]
  longest = max(len(row) for rows in material.phones for row in rows)
  return _padded(rows, -(-longest // 8) * 8)


def widest(spoken: Sequence[Spoken]) -> int:
  longest = max(len(row) for one in spoken for row in one.tokens)
  return -(-longest // 8) * 8


def other_language(
  spoken: Sequence[Spoken], chosen: Chosen, generator: np.random.Generator
) -> Int32[np.ndarray, ' row']:
  """For each clip another language that has its sentence."""
  counts = np.array([len(one.tokens) for one in spoken])
  found = []
  for language, sentence in chosen.rows:
    there = np.flatnonzero(counts > sentence)
    found.append(generator.choice(there[there != language]))
  return np.array(found, np.int32)


def _padded(
  rows: list[Int32[np.ndarray, ' _']], width: int
) -> dict[str, np.ndarray]:
  ids, lengths = pad(rows, len(rows), width, np.int32)
  return {'ids': ids, 'lengths': lengths}
