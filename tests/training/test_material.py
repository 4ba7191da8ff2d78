"""What is trained on, and what is not."""

import shutil

import numpy as np
import pytest

from jaxrep import languages
from jaxrep.audio.frontends import seamless_steps
from jaxrep.data import open_corpus, sentences, synthesis
from jaxrep.jobs import bundle
from jaxrep.models import RESOURCES
from jaxrep.training import material
from jaxrep.types import CorpusOptions, InputError
from tests.training.material import LANGUAGES
from tests.training.material import test_set as spoken_test_set


@pytest.fixture(scope='module')
def grammar():
  return sentences.load_grammar()


def test_nothing_that_is_judged_is_trained_on(grammar):
  held, order = material.ordered(grammar, 4000)
  test = set(sentences.test_combinations(grammar).values())
  assert len(set(held)) == material.DEVELOPMENT
  assert len(set(order)) == 4000
  assert not test & set(held)
  assert not (test | set(held)) & set(order)
  for language in sentences.LANGUAGES:
    read = {sentences.render(grammar, one, language) for one in order}
    kept = {sentences.render(grammar, one, language) for one in (*test, *held)}
    assert not read & kept


def test_no_judged_voice_is_trained_on():
  judged = {voice.variant for voice in bundle.VOICES}
  assert judged.isdisjoint(material.VARIANTS)
  assert not set(material.DEVELOPMENT_VARIANTS) & set(material.VARIANTS)
  assert not set(material.DEVELOPMENT_VARIANTS) & judged


def test_amounts_are_four_two_one_over_the_classes_of_the_report():
  amounts = material.amounts(10)
  classes = languages.resource_classes(RESOURCES.table)
  shares = {'high': 40, 'medium': 20, 'low': 10}
  assert amounts == {iso: shares[classes[iso]] for iso in sentences.LANGUAGES}
  assert set(amounts.values()) == {40, 20, 10}


def test_voices_are_drawn_for_each_language_and_the_same_again():
  drawn = material.voices('eng', material.VARIANTS)
  first = [next(drawn) for _ in range(200)]
  again = material.voices('eng', material.VARIANTS)
  assert first == [next(again) for _ in range(200)]
  other = material.voices('rus', material.VARIANTS)
  assert first != [next(other) for _ in range(200)]
  assert {voice.variant for voice in first} == set(material.VARIANTS)
  assert len({voice.speed for voice in first}) > 60
  assert len({voice.pitch for voice in first}) > 35


def test_the_test_set_is_the_bundled_corpus():
  corpus = open_corpus('bundled', CorpusOptions())
  found = spoken_test_set()
  assert tuple(one.language for one in found) == LANGUAGES
  for one in found:
    examples = corpus.examples(one.language, 'speech')
    assert len(one.tokens) == len(examples) == 128
    steps = [seamless_steps(example.samples) for example in examples]
    assert one.steps.tolist() == steps
    clip = one.clip(7)
    assert clip.shape == (one.steps[7], 160)
    # Each mel bin is standardised over the utterance.
    both = clip.astype(np.float32).reshape(-1, 80)
    assert np.abs(both.mean(axis=0)).max() < 0.1
    assert np.abs(both.std(axis=0) - 1).max() < 0.1


def test_another_version_of_the_synthesiser_is_told_of(monkeypatch, caplog):
  for version in ('1.51', '1.52.0'):
    said = f'eSpeak NG text-to-speech: {version}  Data at: /usr/share'
    monkeypatch.setattr(synthesis, '_output', lambda *_, s=said: s.encode())
    installed = synthesis.installed.__wrapped__()
    assert installed == f'espeak-ng {version}'
    warned = '1.52.0 may speak otherwise than 1.51' in caplog.text
    assert warned == (version != '1.51')


def test_what_is_needed_to_make_material_is_named(tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', '')
  monkeypatch.setattr(synthesis, 'installed', synthesis.installed.__wrapped__)
  with pytest.raises(InputError, match='Install espeak-ng'):
    material.prepare(tmp_path, 1)


def test_material_is_made_once(tmp_path, monkeypatch):
  if not shutil.which('espeak-ng'):
    pytest.skip('espeak-ng, which makes the material, is not installed')
  monkeypatch.setattr(material, 'DEVELOPMENT', 4)
  made = material.prepare(tmp_path, 1)
  assert [len(one.tokens) for one in made.training] == list(
    material.amounts(1).values()
  )
  assert all(len(one.tokens) == 4 for one in made.development)
  rows = [row for one in made.phones for row in one]
  assert {int(n) for row in rows for n in row} == set(range(1, made.kinds + 1))
  for one, spelt in zip(made.training, made.phones, strict=True):
    # A phone is spoken in 40 to 160 ms.
    speed = one.steps / [len(row) for row in spelt]
    assert ((speed > 2) & (speed < 8)).all()
  monkeypatch.setattr(synthesis, '_espeak', None)
  again = material.prepare(tmp_path, 1)
  for old, new in zip(made.training, again.training, strict=True):
    np.testing.assert_array_equal(old.features, new.features)
    np.testing.assert_array_equal(old.tokens[0], new.tokens[0])
  monkeypatch.setattr(synthesis, 'installed', lambda: 'espeak-ng 1.52.0')
  # It would speak, which it cannot any more.
  with pytest.raises(TypeError, match="'NoneType' object is not callable"):
    material.prepare(tmp_path, 1)
