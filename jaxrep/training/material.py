"""What the bundled models are trained on: composed sentences, spoken once each.

All languages share one order of sentences, and a language has the first so many
of it: those of a language with less are among those of a language with more. No
sentence of the bundled test set is among them, nor of the development set, on
which recipes are compared. A sentence is spoken in a voice, speed and pitch
drawn for it; neither the two voices of the test set nor that of the
development set are among them.
"""

import concurrent.futures
import hashlib
import itertools
import json
import os
import pathlib
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
import tqdm
from jaxtyping import Float16, Float32, Int32

from jaxrep.audio.frontends import SEAMLESS, seamless_steps
from jaxrep.data import open_corpus, sentences, synthesis
from jaxrep.data.sentences import Combination, Grammar
from jaxrep.data.synthesis import Voice
from jaxrep.inputs import pad
from jaxrep.languages import resource_classes
from jaxrep.models import RESOURCES
from jaxrep.sources import open_source
from jaxrep.tokenizers import Seamless
from jaxrep.types import CorpusOptions

SHARES = {'high': 4, 'medium': 2, 'low': 1}
DEVELOPMENT = 128
VARIANTS = ('m1', 'm2', 'm4', 'm5', 'm6', 'm7', 'f1', 'f3', 'f4', 'f5')
DEVELOPMENT_VARIANTS = ('m8',)
SPEEDS = range(170, 261)
PITCHES = range(25, 76)
_SEED = 1
_TOGETHER = 32


class Spoken(NamedTuple):
  """The sentences of one language: sentence i is `tokens[i]`, and `clip(i)`.

  Tokens have their language in front and `</s>` behind.
  """

  language: str
  tokens: tuple[Int32[np.ndarray, ' _'], ...]
  features: Float16[np.ndarray, 'all_steps 160']
  steps: Int32[np.ndarray, ' sentence']
  starts: Int32[np.ndarray, ' sentence']

  def clip(self, sentence: int) -> Float16[np.ndarray, 'step 160']:
    start = self.starts[sentence]
    return self.features[start : start + self.steps[sentence]]


class Material(NamedTuple):
  """`phones[l][i]` are of sentence i of `training[l]`, from 1 to `kinds`."""

  training: tuple[Spoken, ...]
  development: tuple[Spoken, ...]
  phones: tuple[tuple[Int32[np.ndarray, ' _'], ...], ...]
  kinds: int

  @property
  def fingerprint(self) -> str:
    """Names the sentences, their phones, and how long they are spoken."""
    digest = hashlib.sha256()
    for one, spelt in zip(self.training, self.phones, strict=True):
      for row in (one.steps, *one.tokens, *spelt):
        digest.update(row.tobytes())
    return digest.hexdigest()[:16]


def amounts(smallest: int) -> dict[str, int]:
  """Sentences of each language, in the ratio 4:2:1 of its resource class."""
  classes = resource_classes(RESOURCES.table)
  return {
    language: smallest * SHARES[classes[language]]
    for language in sentences.LANGUAGES
  }


def prepare(folder: pathlib.Path, smallest: int) -> Material:
  """Reads the material, and first makes what of it is not in `folder` yet.

  Speech is kept as features, a memory-mapped file for each language, which is
  named by the texts, the voices and the synthesiser. Whoever changes the front
  end has to empty the folder.

  Args:
    folder: Where the features are kept.
    smallest: Sentences of a language of the low class.

  Raises:
    InputError: espeak-ng is not there to speak what is missing.
  """
  grammar = sentences.load_grammar()
  counts = amounts(smallest)
  held, order = ordered(grammar, max(counts.values()))
  folder.mkdir(parents=True, exist_ok=True)
  training = tuple(
    _made(folder, grammar, language, order[:count], VARIANTS)
    for language, count in counts.items()
  )
  development = tuple(
    _made(folder, grammar, language, held, DEVELOPMENT_VARIANTS)
    for language in counts
  )
  spelt = [
    _phones(folder, grammar, language, order[:count])
    for language, count in counts.items()
  ]
  kinds = sorted({phone for rows in spelt for row in rows for phone in row})
  number = {phone: i for i, phone in enumerate(kinds, 1)}
  phones = tuple(
    tuple(np.array([number[phone] for phone in row], np.int32) for row in rows)
    for rows in spelt
  )
  return Material(training, development, phones, len(kinds))


def test_set(
  languages: tuple[str, ...] = sentences.LANGUAGES,
) -> tuple[Spoken, ...]:
  """The sentences and first recordings of the bundled corpus."""
  corpus = open_corpus('bundled', CorpusOptions())
  found = []
  for language in languages:
    examples = corpus.examples(language, 'speech')
    waveforms = [corpus.waveform(example) for example in examples]
    clips = list(_features(waveforms))
    steps = np.array([len(clip) for clip in clips], np.int32)
    tokens = _tokens([example.text for example in examples], language)
    found.append(_spoken(language, tokens, np.concatenate(clips), steps))
  return tuple(found)


def ordered(
  grammar: Grammar, count: int
) -> tuple[list[Combination], list[Combination]]:
  """The development sentences and `count` others, none of the test set."""
  test = sentences.test_combinations(grammar).values()
  found = sentences.combinations(grammar, _SEED, test)
  held = list(itertools.islice(found, DEVELOPMENT))
  return held, list(itertools.islice(found, count))


def voices(language: str, variants: Sequence[str]) -> Iterator[Voice]:
  """One after another, as drawn for the sentences of a language."""
  generator = random.Random(f'{_SEED} {language}')
  while True:
    yield Voice(
      generator.choice(variants),
      generator.choice(SPEEDS),
      generator.choice(PITCHES),
    )


def _made(
  folder: pathlib.Path,
  grammar: Grammar,
  language: str,
  chosen: list[Combination],
  variants: Sequence[str],
) -> Spoken:
  texts = [sentences.render(grammar, one, language) for one in chosen]
  read = [sentences.vocalised(grammar, one, language) for one in chosen]
  said = list(zip(read, voices(language, variants), strict=False))
  digest = hashlib.sha256(repr((synthesis.installed(), said)).encode())
  name = f'{language}-{digest.hexdigest()[:16]}'
  path, lengths = folder / f'{name}.npy', folder / f'{name}-steps.npy'
  if not path.exists():
    clips = list(_clips(language, said))
    _save(lengths, np.array([len(clip) for clip in clips], np.int32))
    _save(path, np.concatenate(clips))
  features = np.load(path, mmap_mode='r')
  return _spoken(language, _tokens(texts, language), features, np.load(lengths))


def _phones(
  folder: pathlib.Path,
  grammar: Grammar,
  language: str,
  chosen: list[Combination],
) -> list[list[str]]:
  read = [sentences.vocalised(grammar, one, language) for one in chosen]
  digest = hashlib.sha256(repr((synthesis.installed(), read)).encode())
  path = folder / f'{language}-{digest.hexdigest()[:16]}-phones.json'
  if not path.exists():
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      rows = list(pool.map(lambda t: synthesis.phones(t, language), read))
    new = path.with_suffix('.new')
    new.write_text(json.dumps(rows, ensure_ascii=False), 'utf-8')
    new.replace(path)
  return json.loads(path.read_text('utf-8'))


def _spoken(
  language: str,
  tokens: tuple[Int32[np.ndarray, ' _'], ...],
  features: Float16[np.ndarray, 'all_steps 160'],
  steps: Int32[np.ndarray, ' sentence'],
) -> Spoken:
  starts = np.cumsum(steps, dtype=np.int32) - steps
  return Spoken(language, tokens, features, steps, starts)


def _tokens(
  texts: list[str], language: str
) -> tuple[Int32[np.ndarray, ' _'], ...]:
  tokenizer = Seamless(open_source('bundled:tokenizer'), {})
  return tuple(
    np.array(row, np.int32) for row in tokenizer.encode(texts, language)
  )


def _clips(
  language: str, said: list[tuple[str, Voice]]
) -> Iterator[Float16[np.ndarray, 'step 160']]:
  """The front end's features of each sentence, as it is spoken."""

  def speak(one: tuple[str, Voice]) -> Float32[np.ndarray, ' sample']:
    return synthesis.synthesise(one[0], language, one[1])

  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    batches = [said[i : i + _TOGETHER] for i in range(0, len(said), _TOGETHER)]
    for batch in tqdm.tqdm(batches, f'speaking {language}', disable=None):
      yield from _features(list(pool.map(speak, batch)))


def _features(
  waveforms: list[Float32[np.ndarray, ' _']],
) -> Iterator[Float16[np.ndarray, 'step 160']]:
  for i in range(0, len(waveforms), _TOGETHER):
    some = waveforms[i : i + _TOGETHER]
    width = -(-max(map(len, some)) // SEAMLESS.grid) * SEAMLESS.grid
    rows, _ = _frontend(*pad(some, _TOGETHER, width, np.float32))
    for row, waveform in zip(np.asarray(rows), some, strict=False):
      yield row[: seamless_steps(len(waveform))].astype(np.float16)


_frontend = jax.jit(SEAMLESS.features)


def _save(path: pathlib.Path, array: np.ndarray) -> None:
  """Whole or not at all."""
  new = path.with_suffix('.new')
  with new.open('wb') as file:
    np.save(file, array)
  new.replace(path)
