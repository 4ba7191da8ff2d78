"""SONAR through `load_encoder`, from waveforms and sentences."""

import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest
import soundfile

import jaxrep
from jaxrep import opened
from jaxrep.extract import pooling
from jaxrep.extract.step import pooled_step
from jaxrep.mesh import local_mesh
from jaxrep.types import InputError
from tests import speech
from tests.ports import reference, sonar_reference
from tests.ports.test_sonar_golden import STAGES, TEXT_STAGES, ours

GOLDEN = pathlib.Path(__file__).parent / 'golden'
SPEECH = {'sonar_speech_english': 'eng', 'sonar_speech_other': 'spa'}


@pytest.fixture(scope='module', params=SPEECH)
def spoken(request):
  """An encoder, its language, the stored waveforms and stages."""
  folder = GOLDEN / request.param
  encoder = jaxrep.load_encoder('sonar', 'speech', folder, fine=True)
  inputs = np.load(folder / 'inputs.npz')
  waves = [inputs[f'utt{i}'] for i in range(5)]
  return encoder, SPEECH[request.param], waves, folder / 'expected.npz'


def test_every_stage_from_the_waveform(spoken):
  encoder, language, waves, path = spoken
  expected = np.load(path)
  found = encoder.encode(waves, language, pooling=None)
  found |= {
    f'{name}/weights': [x.T for x in maps]
    for name, maps in encoder.attention(waves, language).items()
  }
  seen = set()
  for key in expected.files:
    owner, stage = key.split('/', 1)
    if not owner.startswith('utt') or stage == 'log_mel':
      continue
    tap = 'speech/embed/fbank' if stage == 'fbank' else ours(stage, STAGES)
    theirs, mine = expected[key], found[tap][int(owner[3:])]
    theirs = theirs.T if stage.endswith('weights') else theirs
    theirs = theirs[None] if theirs.ndim == 1 else theirs
    theirs = theirs[: len(mine)] if stage == 'fbank' else theirs
    assert mine.shape == theirs.shape, key
    assert reference.relative(mine, theirs) <= 2e-4, key
    seen.add(tap)
  assert seen == set(found)


def test_vectors_are_the_models_own(spoken):
  encoder, language, waves, path = spoken
  expected = np.load(path)['batch/sentence']
  pooled = encoder.encode(waves, language)
  assert reference.relative(pooled['speech/sentence'], expected) <= 2e-4
  states = encoder.encode(waves, language, pooling=None)['speech/sentence']
  assert all(x.shape[0] == 1 for x in states)
  np.testing.assert_allclose(
    pooled['speech/sentence'], np.concatenate(states), atol=1e-6
  )


def test_where_the_pooler_looks(spoken):
  encoder, language, waves, _ = spoken
  maps = encoder.attention(waves, language)
  stages = [n for n, _ in encoder.taps if n.count('/') == 1 and 'pooler' in n]
  assert list(maps) == stages
  steps = [((len(wave) - 400) // 160 + 1) // 2 for wave in waves]
  for found in maps.values():
    assert [x.shape[1] for x in found] == steps
    for x in found:
      assert (x >= 0).all()
      np.testing.assert_allclose(x.sum(axis=1), 1, atol=1e-5)


def test_silence_is_defined_and_one_frame_refused(spoken):
  """The reference gives NaN for the first and an error for the second."""
  encoder, language, *_ = spoken
  silence = np.zeros(16_000, np.float32)
  constant, half = silence + 0.25, silence.copy()
  half[8000:] = speech.waveform(0, 0.5)
  found = encoder.encode([silence, constant, half], language, pooling=None)
  for name, states in found.items():
    assert all(np.isfinite(x).all() for x in states), name
  assert not np.any(found['speech/embed/fbank'][0])
  np.testing.assert_array_equal(
    found['speech/sentence'][0], found['speech/sentence'][1]
  )
  with pytest.raises(InputError, match=r'Item 1.*at least 560'):
    encoder.encode([silence, silence[:559]], language)


def test_bfloat16_stays_near(spoken):
  """A bound on the worst tap, not a parity.

  Measured were 0.015 and 0.99993 behind three layers of a pooler 24 wide, 0.036
  and 0.9993 behind six of one 16 wide, each with a norm behind every part.
  """
  encoder, language, waves, path = spoken
  narrow = jaxrep.load_encoder(
    'sonar', 'speech', path.parent, dtype='bfloat16', fine=True
  )
  ours = narrow.encode(waves, language)
  theirs = encoder.encode(waves, language)
  for name, _ in narrow.taps:
    a, b = ours[name], theirs[name]
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    assert reference.relative(a, b) < 0.06, name
    assert ((a * b).sum(axis=1) / norms).min() > 0.998, name


def test_text_from_the_sentence():
  encoder = jaxrep.load_encoder(
    'sonar', 'text', GOLDEN / 'sonar_text', fine=True
  )
  stored = json.loads((GOLDEN / 'sonar_text/tokens.json').read_text())
  expected = np.load(GOLDEN / 'sonar_text/expected.npz')
  for i, number in enumerate((0, 2, 3, 6, 8, 13, 18, 19)):
    one, seen = stored['sentences'][number], set()
    found = encoder.encode([one['text']], one['lang'], pooling=None)
    for key in expected.files:
      owner, stage = key.split('/', 1)
      if owner == f'seq{i}' and stage != 'ids':
        tap, theirs = ours(stage, TEXT_STAGES), expected[key]
        theirs = theirs[None] if theirs.ndim == 1 else theirs
        assert reference.relative(found[tap][0], theirs) <= 1e-5, key
        seen.add(tap)
    assert seen == set(found) or i  # the finer taps are stored of the first
  with pytest.raises(InputError, match='no pooler'):
    encoder.attention([np.zeros(560, np.float32)], 'eng')


def test_every_code_of_a_language_is_understood():
  encoder = jaxrep.load_encoder('sonar', 'text', GOLDEN / 'sonar_text')
  codes = ('swh', 'sw_ke', 'swh_Latn')
  first, *others = (encoder.encode(['mto'], code) for code in codes)
  for other in others:
    for name, value in first.items():
      np.testing.assert_array_equal(other[name], value)


def test_a_language_has_its_file_in_a_folder_of_all(tmp_path):
  """A pooler's depth that a config leaves out is that of the language."""
  sonar_reference.save_speech(tmp_path / 'spenc.eng.pt', 3, seed=1)
  sonar_reference.save_speech(tmp_path / 'spenc.v3ap.spa.pt', 6, seed=2)
  wave = speech.waveform(0, 0.7)
  vectors = {}
  for language, layers in (('eng', 3), ('es_419', 6)):
    encoder = jaxrep.load_encoder(
      'sonar', 'speech', tmp_path, language=language
    )
    poolers = [name for name, _ in encoder.taps if '/pooler_' in name]
    assert len(poolers) == layers
    vectors[language] = encoder.encode([wave], language)['speech/sentence']
  assert not np.allclose(vectors['eng'], vectors['es_419'])
  with pytest.raises(InputError, match='encoder of spa, not of eng'):
    encoder.encode([wave], 'eng')
  for language, message in (
    ('fra', r'looked for spenc\.v3ap\.fra\.pt'),
    ('swe', 'does not cover swe as speech'),
    ('amh', 'does not cover amh as speech'),
    ('klingon', 'Unknown language'),
  ):
    with pytest.raises(InputError, match=message):
      jaxrep.load_encoder('sonar', 'speech', tmp_path, language=language)


def test_without_a_config_a_language_must_be_named(tmp_path):
  shutil.copy(GOLDEN / 'sonar_speech_english/checkpoint.pt', tmp_path)
  with pytest.raises(InputError, match=r'config\.json.*language='):
    jaxrep.load_encoder('sonar', 'speech', tmp_path)
  # By the language it has the released size, which this file does not fill.
  with pytest.raises(InputError, match=r'checkpoint\.pt.*does not fit'):
    jaxrep.load_encoder('sonar', 'speech', tmp_path, language='eng')


@pytest.mark.parametrize('language, poolers', [('eng', 3), ('spa', 6)])
def test_released_sizes_go_through_the_step_by_shape(
  tmp_path, language, poolers
):
  """24 layers of full width, from a waveform of 20 s to a vector a stage."""
  model = opened.open_model('sonar', 'speech', str(tmp_path), language=language)
  step = pooled_step(
    model.program, pooling.parse('mean'), 'bfloat16', local_mesh()
  )
  found = jax.eval_shape(
    step,
    model.program.shapes('bfloat16'),
    jax.ShapeDtypeStruct((8, 320_000), np.float32),
    jax.ShapeDtypeStruct((8,), np.int32),
  )
  stages = 1 + 24 + 1 + poolers + 1
  assert found[1024].shape == (8, stages, 1024)
  assert [name for name, _ in model.taps] == [
    'speech/embed',
    *(f'speech/layer_{i:02}' for i in range(1, 25)),
    'speech/norm',
    *(f'speech/pooler_{i:02}' for i in range(1, poolers + 1)),
    'speech/sentence',
  ]


def test_a_file_may_be_given(tmp_path):
  kernels = []
  for seed, name in enumerate(('one.pt', 'two.pt')):
    sonar_reference.save_speech(tmp_path / name, 6, seed)
    encoder = jaxrep.load_encoder('sonar', 'speech', tmp_path / name)
    kernels.append(np.asarray(encoder.state.pooler.projection_out.kernel[...]))
  assert not np.allclose(*kernels)


RELEASED = os.environ.get('JAXREP_SONAR')
ENGLISH = ['Hello, my name is Paul', "I'm working as a teacher"]
FRENCH = ['Bonjour, mon nom est Paul', 'Je travaille comme professeur.']
needs_files = pytest.mark.skipif(
  not RELEASED, reason='JAXREP_SONAR names no folder of the released files'
)


@pytest.mark.released
@needs_files
def test_released_text_encoder_gives_the_published_cosines():
  """Of SONAR's integration tests, to their 1e-4."""
  encoder = jaxrep.load_encoder('sonar', 'text', RELEASED)
  sides = [
    encoder.encode(texts, code)['text/sentence']
    for texts, code in ((ENGLISH, 'eng_Latn'), (FRENCH, 'fra_Latn'))
  ]
  a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in sides)
  published = [[0.9367, 0.3658], [0.3787, 0.8596]]
  np.testing.assert_allclose(a @ b.T, published, atol=1e-4)


@pytest.mark.released
@needs_files
def test_released_english_speech_encoder_gives_the_published_products():
  """On audio_1.wav and audio_2.wav of SONAR's integration tests."""
  encoder = jaxrep.load_encoder('sonar', 'speech', RELEASED, language='eng')
  waves = []
  for name in ('audio_1.wav', 'audio_2.wav'):
    wave, rate = soundfile.read(pathlib.Path(RELEASED) / name, dtype='float32')
    assert rate == 16_000
    waves.append(wave)
  first, second = encoder.encode(waves, 'eng')['speech/sentence']
  assert first @ first == pytest.approx(0.0429819, abs=1e-5)
  assert first @ second == pytest.approx(0.00286825, abs=1e-5)
