"""The tool's own controls: what is known of the bundled models has to show.

The aligned one was trained to bring text and speech of a sentence together in
all languages, the unaligned one to do neither, the random one was not trained.
All of it is of sentences and voices that no training saw.
"""

import pathlib

import jax
import pytest

import jaxrep
from jaxrep import models
from jaxrep.data import open_corpus
from jaxrep.models import MODELS
from jaxrep.similarity import Calibration, compare
from jaxrep.types import CorpusOptions

ALIGNED, UNALIGNED, RANDOM = 'tiny-aligned', 'tiny-unaligned', 'tiny-untrained'
TRAINED = (ALIGNED, 'tiny-translation', UNALIGNED)
LANGUAGES = ('eng', 'arb', 'hin', 'swh')  # of all classes
FOLDER = pathlib.Path(models.RESOURCES.table).parent
WITH_INTERVALS = Calibration(replicates=96)


@pytest.fixture(scope='module')
def vectors():
  """(model, language, modality) → the mean output for each sentence."""
  corpus = open_corpus('bundled', CorpusOptions())
  found = {}
  for name in (*TRAINED, RANDOM):
    for modality in ('text', 'speech'):
      encoder = jaxrep.load_encoder(name, modality=modality)
      for language in LANGUAGES:
        examples = corpus.examples(language, modality)
        items = [
          one.text if modality == 'text' else corpus.waveform(one)
          for one in examples
        ]
        states = encoder.encode(items, language)[f'{modality}/output']
        found[name, language, modality] = states
  return found


def between(vectors, model, a, b, measure):
  x, y = vectors[(model, *a)], vectors[(model, *b)]
  return compare(x, y, measure, WITH_INTERVALS)


def across_modalities(language):
  return (language, 'text'), (language, 'speech')


SPOKEN = [across_modalities(language) for language in LANGUAGES]
TRANSLATED = [
  ((a, 'text'), (b, 'text'))
  for a, b in (('eng', 'arb'), ('eng', 'swh'), ('arb', 'hin'))
]


@pytest.mark.parametrize('a,b', [*SPOKEN, *TRANSLATED])
def test_sentences_are_found_by_the_aligned_model_and_not_by_chance(
  vectors, a, b
):
  """More than by random weights, beyond both intervals, and many."""
  aligned = between(vectors, ALIGNED, a, b, 'retrieval_r1')
  random = between(vectors, RANDOM, a, b, 'retrieval_r1')
  assert aligned.n == 128
  assert aligned.ci_low > random.ci_high
  assert aligned.value > 0.2 > 2 * random.value


@pytest.mark.parametrize('a,b', SPOKEN)
@pytest.mark.parametrize('measure', ['cka_debiased', 'svcca_heldout'])
def test_the_unaligned_model_has_the_larger_modality_gap(
  vectors, a, b, measure
):
  """The gap is what text and speech lack of being alike."""
  aligned = between(vectors, ALIGNED, a, b, measure)
  unaligned = between(vectors, UNALIGNED, a, b, measure)
  assert unaligned.ci_high < aligned.ci_low


def test_the_set_is_small():
  sizes = [f.stat().st_size for f in FOLDER.rglob('*') if f.is_file()]
  assert 10e6 < sum(sizes) <= 16e6
  for name in (*TRAINED, RANDOM):
    states = [
      jaxrep.load_encoder(name, one).state for one in ('text', 'speech')
    ]
    assert 2e6 < sum(x.size for x in jax.tree.leaves(states)) <= 2.5e6


@pytest.mark.parametrize('name', TRAINED)
def test_a_model_card_says_what_it_is(name):
  card = (FOLDER / name / 'README.md').read_text()
  for part in ('Objective', 'Data', 'Retrieval', 'Limits', 'Licence'):
    assert f'\n## {part}\n' in card
  assert 'license: apache-2.0' in card
  assert f'python run.py train --recipe={name.removeprefix("tiny-")}' in card
  assert MODELS[name].parts['text'].licence == 'Apache-2.0'
