"""SALMONN and its parts by the calls that a notebook makes.

The stored answers are what SALMONN itself computes (`tests/golden`);
`tests/ports/test_salmonn.py` compares every stage.
"""

import collections
import json
import logging
import pathlib
import shutil

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from safetensors.torch import load_file

import jaxrep
from jaxrep import mesh as meshes
from jaxrep import opened
from jaxrep.extract import pooling
from jaxrep.extract.step import pooled_step
from jaxrep.inputs import pad
from jaxrep.types import InputError
from tests import released
from tests.ports import reference

GOLDEN = pathlib.Path(__file__).parent / 'golden'
FOLDER = GOLDEN / 'salmonn'
CONFIG = json.loads((FOLDER / 'config.json').read_text())
TOLERANCE = 2e-4  # of the front ends; see tests/golden


@pytest.fixture(scope='module')
def stored():
  return np.load(FOLDER / 'expected.npz'), np.load(FOLDER / 'inputs.npz')


def load(modality, prompt=None, **options):
  options = {'checkpoint': FOLDER, 'prompt': prompt} | options
  return jaxrep.load_encoder('salmonn-7b', modality=modality, **options)


@pytest.mark.parametrize('utterance', [4, 3])
def test_the_audio_slots_of_every_layer(stored, utterance):
  """From 0.6 s, which is filled up, to 33 s, which is cut."""
  expected, inputs = stored
  said = CONFIG['utterances'][utterance]
  encoder = load('speech', said['instruction'])
  found = encoder.encode([inputs[said['name']]], 'eng', pooling=None)
  slots = expected[f'{said["name"]}/is_audio']
  for tap, stage in (
    ('speech/layer_01', 'llm_layer0'),
    ('speech/layer_02', 'llm_layer1'),
    ('speech/output', 'llm_norm'),
  ):
    theirs = expected[f'{said["name"]}/{stage}'][slots]
    assert reference.relative(found[tap][0], theirs) <= TOLERANCE, tap
  for tap, stage in (
    ('speech/qformer_01', 'q0'),
    ('speech/qformer_02', 'q1'),
    ('speech/audio_tokens', 'audio_tokens'),
  ):
    theirs = expected[f'{said["name"]}/{stage}']
    assert reference.relative(found[tap][0], theirs) <= TOLERANCE, tap


def test_what_is_cut_is_told(stored, caplog):
  _, inputs = stored
  encoder = load('speech')
  logger = logging.getLogger('absl')
  logger.addHandler(caplog.handler)
  encoder.encode([inputs['utt3'], inputs['utt4']], 'eng')
  logger.removeHandler(caplog.handler)
  told = {record.getMessage() for record in caplog.records}
  assert told == {
    '1 of 2 items are cut to the 480000 values that salmonn-7b reads.'
  }


def test_a_prompt_is_spliced_as_the_reference_does():
  """An instruction, or the whole prompt with its slot."""
  for said in CONFIG['utterances']:
    for prompt in (said['instruction'], said['prompt']):
      model = opened.open_model(
        'salmonn-13b', 'speech', str(FOLDER), False, '', prompt
      )
      assert list(model.sizes.llm.before) == said['ids_before']
      assert list(model.sizes.llm.after) == said['ids_after']


def test_only_the_items_own_slots_are_pooled(stored):
  """A mean is of the 88 audio slots; 'sequence' reads the prompt as well."""
  expected, inputs = stored
  name, said = 'utt1', CONFIG['utterances'][1]
  encoder = load('speech', said['instruction'])
  slots = expected[f'{name}/is_audio']
  pooled = {
    'mean': lambda states: states[slots].mean(axis=0),
    'last': lambda states: states[slots][-1],
    'sequence': lambda states: states.mean(axis=0),
    'sequence_last': lambda states: states[-1],
    # 7 s of audio reach into the 21st window of 0.34 s.
    'heard': lambda states: states[slots][:21].mean(axis=0),
  }
  taps = {
    'speech/output': 'llm_norm',
    'speech/layer_01': 'llm_layer0',
    'speech/layer_02': 'llm_layer1',
  }
  for rules in (('mean', 'last', 'sequence'), ('heard', 'sequence_last')):
    chosen = dict(zip(taps, rules, strict=False))
    said = ','.join(f'{tap}={rule}' for tap, rule in chosen.items())
    found = encoder.encode([inputs[name]], 'eng', f'mean,{said}')
    for tap, rule in chosen.items():
      theirs = pooled[rule](expected[f'{name}/{taps[tap]}'])
      assert reference.relative(found[tap][0], theirs) <= TOLERANCE, rule


def test_a_text_stands_where_audio_does(stored):
  """Without a prompt behind `<s>` alone; its own tokens are pooled."""
  expected, _ = stored
  encoder = load('text')
  tokenizer = encoder.model.inputs._tokenizer
  text = tokenizer._model.decode(expected['text/ids'][1:].tolist())
  assert tokenizer.encode([text], '')[0] == expected['text/ids'].tolist()
  states = encoder.encode([text], 'eng', pooling=None)
  for tap, stage in (
    ('text/layer_01', 'llm_layer0'),
    ('text/layer_02', 'llm_layer1'),
    ('text/output', 'llm_norm'),
  ):
    theirs = expected[f'text/{stage}'][1:]
    assert reference.relative(states[tap][0], theirs) <= 1e-5, tap
  prompted = load('text', 'Describe the audio.')
  ids = prompted.model.inputs.whole([text], 'eng')[0]
  said = CONFIG['utterances'][4]
  own = expected['text/ids'][1:].tolist()
  assert ids.tolist() == [1, *said['ids_before'], *own, *said['ids_after']]
  within = prompted.encode([text], 'eng', pooling=None)['text/layer_02'][0]
  assert within.shape == states['text/layer_02'][0].shape
  assert reference.relative(within, states['text/layer_02'][0]) > 0.01


def test_without_specials_a_text_keeps_its_own_tokens():
  """There are none of them among its slots."""
  model = opened.open_model('salmonn-7b', 'text', str(FOLDER))
  state = model.weights('float32')
  ids = model.inputs.whole(['two old boats'], 'eng')
  batch = pad(ids, 1, 16, model.inputs.dtype)
  mesh = meshes.of_devices(jax.devices()[:1])
  with_them, without = (
    pooled_step(model.program, pooling.parse('mean'), 'float32', mesh, keep)
    for keep in (True, False)
  )
  for width, expected in with_them(state, *batch).items():
    np.testing.assert_array_equal(without(state, *batch)[width], expected)


@pytest.mark.parametrize('modality', ['text', 'speech'])
def test_bfloat16_stays_near(stored, modality):
  """Its norms and what is pooled are float32; so is the residual stream."""
  _, inputs = stored
  items = [inputs['utt1']] if modality == 'speech' else ['two old boats']
  vectors = {}
  for dtype in ('float32', 'bfloat16'):
    encoder = load(modality, 'Describe the audio.', dtype=dtype)
    vectors[dtype] = encoder.encode(items, 'eng')
    kinds = collections.Counter(
      str(leaf.dtype) for leaf in jax.tree.leaves(encoder.state)
    )
    paths = [path for path, _ in nnx.to_flat_state(encoder.state)]
    norms = sum(path[-1] == 'scale' for path in paths)
    assert kinds['float32'] >= norms > 0
    assert (kinds['bfloat16'] > 0) == (dtype == 'bfloat16')
  for tap, expected in vectors['float32'].items():
    found = vectors['bfloat16'][tap]
    assert found.dtype == np.float32
    error = reference.relative(found, expected)
    assert 0 < error <= 0.03, (tap, error)


def test_the_parts_may_lie_apart(tmp_path, stored):
  _, inputs = stored
  for name in ('whisper', 'llama'):
    shutil.copytree(FOLDER / name, tmp_path / name / 'snapshot')
  (tmp_path / 'own').mkdir()
  for name in ('salmonn_v1.pth', 'config.json'):
    shutil.copy(FOLDER / name, tmp_path / 'own')
  places = {
    'whisper': tmp_path / 'whisper/snapshot',
    'beats': FOLDER / 'beats.pt',
    'llm': tmp_path / 'llama/snapshot',
    'connector': tmp_path / 'own/salmonn_v1.pth',
  }
  item = [inputs['utt4']]
  apart = load('speech', checkpoint=places).encode(item, 'eng')
  whole = load('speech').encode(item, 'eng')
  for tap, vectors in whole.items():
    np.testing.assert_array_equal(apart[tap], vectors)


def test_hub_folders_may_hold_bin_files(tmp_path, stored):
  """Vicuna as two shards with an index, as its hub has it; Whisper as one."""
  _, inputs = stored
  shutil.copytree(FOLDER, tmp_path / 'all')
  llama, whisper = tmp_path / 'all/llama', tmp_path / 'all/whisper'
  tensors = load_file(llama / 'model.safetensors')
  (llama / 'model.safetensors').unlink()
  weight_map = {}
  for shard in range(2):
    file = f'pytorch_model-{shard + 1:05}-of-00002.bin'
    part = {name: tensors[name] for name in sorted(tensors)[shard::2]}
    torch.save(part, llama / file)
    weight_map |= dict.fromkeys(part, file)
  index = {'metadata': {}, 'weight_map': weight_map}
  (llama / 'pytorch_model.bin.index.json').write_text(json.dumps(index))
  torch.save(
    load_file(whisper / 'model.safetensors'), whisper / 'pytorch_model.bin'
  )
  (whisper / 'model.safetensors').unlink()
  item = [inputs['utt4']]
  found = load('speech', checkpoint=tmp_path / 'all').encode(item, 'eng')
  for tap, vectors in load('speech').encode(item, 'eng').items():
    np.testing.assert_array_equal(found[tap], vectors)


def test_what_is_missing_or_ambiguous_is_named(tmp_path):
  released.save_salmonn(tmp_path, '7b')
  with pytest.raises(InputError, match='reads no prompt'):
    jaxrep.load_encoder('beats', 'speech', GOLDEN / 'beats', prompt='x')
  with pytest.raises(InputError, match='more than once'):
    load('text', 'a <SpeechHere> b <SpeechHere>')
  with pytest.raises(
    InputError, match='checkpoints llm, connector, whisper, beats'
  ):
    load('speech', checkpoint={'': FOLDER, 'vicuna': FOLDER})
  with pytest.raises(InputError, match='has one checkpoint'):
    jaxrep.load_encoder('beats', 'speech', {'beats': GOLDEN / 'beats'})
  with pytest.raises(InputError, match=r'is no folder.*several checkpoints'):
    load('speech', checkpoint=FOLDER / 'salmonn_v1.pth')
  (tmp_path / 'BEATs_iter3.pt').touch()
  with pytest.raises(InputError, match=r'BEATs_iter3\.pt, beats\.pt.*/beats='):
    load('speech', checkpoint=tmp_path)
  shutil.rmtree(tmp_path / 'vicuna')
  with pytest.raises(InputError, match='nothing in it could be the llm'):
    load('text', checkpoint=tmp_path)


def test_a_template_without_a_place_for_the_instruction(tmp_path):
  shutil.copytree(FOLDER, tmp_path / 'all')
  path = tmp_path / 'all/config.json'
  for template in ('USER: ', 3):
    table = CONFIG | {'prompt_template': template}
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match=r'has no \{\} for the'):
      load('text', 'Translate.', checkpoint=tmp_path / 'all')


def test_one_error_lists_what_does_not_fit_in_any_file(tmp_path):
  shutil.copytree(FOLDER, tmp_path / 'all')
  config = tmp_path / 'all/llama/config.json'
  config.write_text(config.read_text().replace(': 64', ': 72'))
  config = tmp_path / 'all/whisper/config.json'
  config.write_text(
    config.read_text().replace('"encoder_layers": 2', '"encoder_layers": 1')
  )
  with pytest.raises(InputError) as error:
    load('speech', checkpoint=tmp_path / 'all')
  message = str(error.value)
  assert 'whisper.model.encoder.layers.1.fc1.weight: no parameter' in message
  assert 'llm.model.layers.0.mlp.up_proj.weight: shape (64, 24)' in message
  assert str(tmp_path / 'all/beats.pt') in message


def test_beats_alone(stored):
  expected = np.load(GOLDEN / 'beats/expected.npz')
  inputs = np.load(GOLDEN / 'beats/inputs.npz')
  encoder = jaxrep.load_encoder('beats', 'speech', GOLDEN / 'beats')
  items = [inputs[f'utt{i}'] for i in range(4)]
  found = encoder.encode(items, 'eng', pooling=None)
  for i in range(4):
    for tap, stage in (
      ('speech/embed', 'pos_ln'),
      ('speech/layer_01', 'layer0'),
      ('speech/layer_02', 'layer1'),
    ):
      theirs = expected[f'utt{i}/{stage}']
      assert reference.relative(found[tap][i], theirs) <= TOLERANCE
  with pytest.raises(InputError, match='at least 2800 values'):
    encoder.encode([np.ones(2799, np.float32)], 'eng')


def test_whisper_alone(stored):
  expected, inputs = stored
  encoder = jaxrep.load_encoder(
    'whisper-large-v2', 'speech', FOLDER / 'whisper'
  )
  found = encoder.encode([inputs['utt1']], 'eng', pooling=None)
  theirs = expected['utt1/whisper_ln_every10']
  ours = found['speech/output'][0][::10]
  assert reference.relative(ours, theirs) <= TOLERANCE
  heard = encoder.encode([inputs['utt1']], 'eng', 'heard')['speech/output'][0]
  own = found['speech/output'][0][:350].mean(axis=0)  # 7 s
  np.testing.assert_allclose(heard, own, atol=1e-6)


SIZES = {
  # Whisper, BEATs, and what SALMONN adds; without the language model.
  'salmonn-7b': 636_784_640 + 90_311_792 + 30_186_240,
  'salmonn-13b': 636_784_640 + 90_311_792 + 33_332_992,
}
LANGUAGE_MODELS = {'salmonn-7b': 6_738_415_616, 'salmonn-13b': 13_015_864_320}
HEADS = {'salmonn-7b': 32_000 * 4096, 'salmonn-13b': 32_000 * 5120}


@pytest.mark.parametrize('name', SIZES)
def test_released_sizes_by_shape(tmp_path, name):
  """The published counts, less the head that is not read for states."""
  released.save_salmonn(tmp_path, name.removeprefix('salmonn-'))
  model = opened.open_model(name, 'speech', str(tmp_path))
  leaves = jax.tree.leaves(model.program.shapes('bfloat16'))
  assert (
    sum(leaf.size for leaf in leaves)
    == SIZES[name] + LANGUAGE_MODELS[name] - HEADS[name]
  )
  layers, dim = (32, 4096) if name == 'salmonn-7b' else (40, 5120)
  dims = dict(model.taps)
  assert dims['speech/whisper_output'] == 1280
  assert dims['speech/beats_layer_12'] == 768
  assert dims['speech/fused'] == 2048
  assert dims[f'speech/layer_{layers}'] == dims['speech/audio_tokens'] == dim
  text = opened.open_model(name, 'text', str(tmp_path))
  pairs = opened.counterparts(text, model)
  assert set(pairs) <= set(dims)
  assert set(pairs.values()) == {spec.name for spec in text.taps}
  assert pairs['speech/fused'] == pairs['speech/audio_tokens'] == 'text/embed'
