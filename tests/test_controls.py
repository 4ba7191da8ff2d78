"""Controls by name: what they are, what they know of a sentence, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrep
from jaxrep import controls, models, opened
from jaxrep.audio import frontends
from jaxrep.jobs.encoders import Encoders
from jaxrep.models import MODELS, row_of
from jaxrep.registry import resolve
from jaxrep.sources import open_source
from jaxrep.tokenizers import Ngrams
from jaxrep.types import InputError
from tests import speech
from tests.ports import salmonn_reference, sonar_reference

LENGTHS = (0.3, 1.07, 2.5)
TEXTS = ('Ab ab', 'मेरी नाव', 'x')
EDITED = ('adaptor-redrawn', 'adaptor-residual')


@pytest.fixture(scope='module')
def clips():
  return [speech.waveform(i, seconds) for i, seconds in enumerate(LENGTHS)]


def test_duration_is_seconds_and_characters(clips):
  spoken = jaxrep.load_encoder('control-duration', 'speech')
  found = spoken.encode(clips, 'eng')['speech/surface']
  np.testing.assert_allclose(found[:, 0], LENGTHS, rtol=1e-6)
  written = jaxrep.load_encoder('control-duration', 'text')
  found = written.encode(TEXTS, 'hin')['text/surface']
  assert found.tolist() == [[5.0], [8.0], [1.0]]


def test_speech_is_the_mean_of_the_front_ends_frames(clips):
  encoder = jaxrep.load_encoder('control-surface', 'speech')
  found = encoder.encode(clips, 'eng')['speech/surface']
  for row, clip in zip(found, clips, strict=True):
    lengths = jnp.array([len(clip)])
    frames, mask = frontends.fbank_features(jnp.asarray(clip[None]), lengths)
    assert mask.all()
    assert frames.shape[1] == 1 + (len(clip) - 400) // 160
    mean = np.asarray(frames[0], np.float64).mean(axis=0)
    np.testing.assert_allclose(row, mean, rtol=1e-5)
    assert mean.std() > 0.5  # not standardised away


def ngrams(**sizes):
  return Ngrams(
    open_source('bundled:none'), {'buckets': 512, 'orders': (1, 2, 3)} | sizes
  )


def test_ngrams_by_hand():
  """'Ab a' has 4 characters, 3 pairs and 2 triples, in lower case."""
  (found,) = ngrams().encode(['Ab a'], 'eng')
  a, b, space, last = found[:4]
  assert a == last
  assert len({a, b, space}) == 3
  assert len(found) == 4 + 3 + 2
  assert found[4:] == ngrams(orders=(2, 3)).encode(['aB A'], 'fra')[0]
  assert a == 0xE8B7BE43 % 512  # CRC-32 of 'a', as published
  assert ngrams().encode(['é', ''], 'fra') == [
    ngrams(orders=(1,)).encode(['É'], 'fra')[0],
    [],
  ]


def test_text_is_the_relative_frequency_of_each_bucket():
  encoder = jaxrep.load_encoder('control-surface', 'text')
  found = encoder.encode(TEXTS, 'eng')['text/surface']
  for row, ids in zip(found, ngrams().encode(TEXTS, 'eng'), strict=True):
    expected = np.bincount(ids, minlength=512) / len(ids)
    np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('name', controls.ROWS)
def test_controls_read_any_language_and_say_what_they_are(name):
  row = MODELS[name]
  assert row.control.startswith('control: ')
  assert models.language_code(row, 'speech', 'qqq') == 'qqq'
  assert row.counterparts


def test_every_model_with_an_adaptor_says_which_parameters_it_has():
  for name, row in MODELS.items():
    networks = {kind: resolve(p.network) for kind, p in row.parts.items()}
    has = {kind for kind, one in networks.items() if one.adaptor}
    assert has == ({'speech'} if row.adaptor else set()), name


def states(name, modality, place=''):
  model = opened.open_model(name, modality, place)
  return model, jax.tree.map(np.asarray, model.weights('float32'))


@pytest.mark.parametrize('variant', EDITED)
def test_a_variant_changes_speech_and_not_text(variant, clips):
  name = f'tiny-aligned@{variant}'
  for modality, same in (('text', True), ('speech', False)):
    (own, first), (other, second) = (
      states(one, modality) for one in ('tiny-aligned', name)
    )
    assert (own.fingerprint == other.fingerprint) == same
    equal = jax.tree.map(np.array_equal, first, second)
    assert all(jax.tree.leaves(equal)) == same
  assert own.program == other.program  # compiled once
  plain, edited = (
    jaxrep.load_encoder(one, 'speech').encode(clips[:1], 'eng')
    for one in ('tiny-aligned', name)
  )
  before, after = MODELS['tiny-aligned'].adaptor
  np.testing.assert_array_equal(plain[before], edited[before])
  assert np.abs(plain[after] - edited[after]).max() > 0.1


def test_fingerprints_tell_variants_apart():
  found = {
    opened.open_model(f'{name}{variant}', 'speech').fingerprint
    for name in ('tiny-aligned', 'tiny-untrained')
    for variant in ('', *(f'@{one}' for one in EDITED))
  }
  assert len(found) == 6


def test_untrained_is_the_same_network_of_seed_0():
  for modality in ('text', 'speech'):
    (drawn, first), (control, second) = (
      states(one, modality)
      for one in ('tiny-aligned@untrained', 'tiny-untrained')
    )
    assert drawn.fingerprint == control.fingerprint
    jax.tree.map(np.testing.assert_array_equal, first, second)
  row = row_of('tiny-aligned@untrained')
  assert row.control == MODELS['tiny-untrained'].control
  assert (row.demonstration, row.resources) == ('', None)


def test_an_untrained_encoder_needs_no_weights(tmp_path):
  """Only what is said of its sizes; of an encoder a language, by these."""
  place = str(tmp_path)
  sonar_reference.save_speech(tmp_path / 'spenc.eng.pt', 3)
  (tmp_path / 'spenc.eng.pt').unlink()
  model = opened.open_model('sonar@untrained', 'speech', place, language='eng')
  assert jax.tree.leaves(model.weights('float32'))
  with pytest.raises(InputError, match='No checkpoint in'):
    opened.open_model('sonar', 'speech', place, language='eng').weights(
      'float32'
    )


def test_untrained_encoders_of_equal_sizes_are_one(tmp_path):
  """SONAR's English pooler has 3 layers, those of French and Spanish 6."""
  sonar_reference.save_speech(tmp_path / 'spenc.eng.pt', 3)
  family = Encoders('sonar@untrained', 'speech', str(tmp_path), False, '')
  eng, fra, spa = (family.of(iso) for iso in ('eng', 'fra', 'spa'))
  assert fra is spa
  assert len(fra.taps) - len(eng.taps) == 3
  assert family.all == [eng, fra]


def test_salmonns_adaptor_is_all_between_the_ears_and_the_language_model(
  tmp_path,
):
  salmonn_reference.save(tmp_path)
  (_, first), (_, second) = (
    states(name, 'speech', str(tmp_path))
    for name in ('salmonn-7b', 'salmonn-7b@adaptor-redrawn')
  )
  changed = {
    part: not all(jax.tree.leaves(equal))
    for part, equal in jax.tree.map(np.array_equal, first, second).items()
  }
  kept = ('whisper', 'beats', 'ln_speech', 'ln_audio', 'llm')
  exchanged = ('speech_query_tokens', 'qformer', 'speech_llama_proj')
  assert changed == dict.fromkeys(kept, False) | dict.fromkeys(exchanged, True)


@pytest.mark.parametrize('modality', ['text', 'speech'])
@pytest.mark.parametrize('name', ['sonar', 'salmonn-7b'])
def test_an_adaptor_of_a_query_has_no_residual_path(name, modality):
  """Refused before anything is fetched."""
  with pytest.raises(InputError, match=rf'{name}@.*same for every utterance'):
    opened.open_model(f'{name}@adaptor-residual', modality)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('tiny-aligned@adapter-redrawn', 'Did you mean adaptor-redrawn'),
    ('tiny-aligned@', 'There are: untrained, adaptor-redrawn'),
    ('tiny-alined@untrained', "Unknown model 'tiny-alined'"),
    ('tiny-untrained@untrained', 'no trained weights'),
    ('control-surface@untrained', 'no trained weights'),
    ('control-surface@adaptor-residual', 'no length adaptor'),
    ('whisper-tiny@adaptor-redrawn', 'no length adaptor'),
    ('tiny-aligned@untrained@adaptor-residual', 'Unknown variant'),
  ],
)
def test_what_there_is_not_is_refused(name, message):
  with pytest.raises(InputError, match=message):
    opened.open_model(name, 'speech')
