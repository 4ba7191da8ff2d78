"""SALMONN against what it itself computes, stored in tests/golden.

From the waveform to every stored stage, and from those stages that are stored
in full to the next ones. Theirs count layers from 0.
"""

import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.audio import frontends
from ports.checkpoints import open_checkpoint
from tests.ports import batches, reference, test_salmonn

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden/salmonn'
UTTERANCES = json.loads((GOLDEN / 'config.json').read_text())['utterances']
OWNERS = [one['name'] for one in UTTERANCES]
STAGES = {
  'mel': 'speech/whisper_embed/mel',
  'beats_fbank': 'speech/beats_embed/fbank',
  'whisper_conv2': 'speech/whisper_embed/conv2',
  'whisper_embed': 'speech/whisper_embed',
  'whisper_ln': 'speech/whisper_output',
  'beats': 'speech/beats_layer_02',
  'fused': 'speech/fused',
  'q_embed': 'speech/qformer/embed',
  'audio_tokens': 'speech/audio_tokens',
  'llm_norm': 'speech/output',
}
LAYERS = {
  'whisper_layer': 'whisper_layer',
  'q': 'qformer',
  'llm_layer': 'layer',
}


def ours(stage: str) -> str:
  """Our name of a stage."""
  if stage in STAGES:
    return STAGES[stage]
  kind, number, part = re.fullmatch(r'([a-z_]+)(\d)\.?(\w*)', stage).groups()
  return f'speech/{LAYERS[kind]}_{int(number) + 1:02}' + (part and f'/{part}')


def stored(owner: str) -> dict[str, np.ndarray]:
  expected = np.load(GOLDEN / 'expected.npz')
  return {
    key.partition('/')[2]: expected[key]
    for key in expected.files
    if key.startswith(f'{owner}/')
  }


def assert_close(found, expected, tolerance):
  """Asserts every stage; of some, only every tenth or hundredth is stored."""
  for stage, theirs in expected.items():
    name, _, every = stage.partition('_every')
    states = np.asarray(found[name])[:: int(every or 1)]
    theirs = {'mel': theirs.T, 'q_embed': theirs[None]}.get(name, theirs)
    assert states.shape == theirs.shape, stage
    error = reference.relative(states, theirs)
    assert error <= tolerance, (stage, error)


def prompt(owner):
  one = UTTERANCES[OWNERS.index(owner)]
  return tuple(one['ids_before']), tuple(one['ids_after'])


def embeds_of(module, ids, tokens):
  """The rows of `ids`, and in the places of -1 the audio's vectors."""
  rows = np.array(module.llm.embed(jnp.maximum(ids, 0)[None])[0])
  rows[ids < 0] = tokens
  return rows


def logits(output):
  """Of the last step, by the head that no state needs."""
  head = open_checkpoint(GOLDEN / 'llama')['lm_head.weight'].read()
  return output[-1] @ head.astype(np.float32).T


def decoded(module, embeds):
  """The language model's stages over a sequence of vectors."""
  whole = jnp.ones((1, len(embeds)), bool)
  parts = dict(module.llm.states(jnp.asarray(embeds)[None], whole))
  return {
    'llm_layer0': parts['layer_01'][0],
    'llm_layer1': parts['layer_02'][0],
    'llm_norm': parts['output'][0],
    'llm_last_logits': logits(parts['output'][0]),
  }


def only(expected, pattern):
  return {k: x for k, x in expected.items() if re.fullmatch(pattern, k)}


@pytest.fixture(scope='module')
def loaded():
  return test_salmonn.port(GOLDEN)[0]


def test_all_that_is_stored_is_of_an_utterance_or_the_text():
  files = np.load(GOLDEN / 'expected.npz').files
  assert {key.partition('/')[0] for key in files} == {*OWNERS, 'text'}
  assert len(OWNERS) == 5


@pytest.mark.parametrize('owner', OWNERS)
def test_every_stored_stage_from_the_waveform(owner):
  before, after = prompt(owner)
  module, sizes = test_salmonn.port(GOLDEN, before, after)
  samples = np.load(GOLDEN / 'inputs.npz')[owner]
  front = frontends.salmonn(sizes)
  inputs = jax.jit(front.features)(
    jnp.asarray(samples)[None], jnp.array([len(samples)])
  )
  taps = test_salmonn.run(module, *inputs)
  states = {
    name: x[0][mask[0]]
    for name, (x, mask) in test_salmonn.sequences(taps).items()
  }
  expected = stored(owner)
  ids = expected.pop('token_ids')
  own = taps['speech/output'].mask[0]
  np.testing.assert_array_equal(own, expected.pop('is_audio'))
  np.testing.assert_array_equal(own, ids < 0)
  assert (1, *before, *after) == tuple(ids[~own])
  found = {
    'inputs_embeds': embeds_of(module, ids, states['speech/audio_tokens']),
    'llm_last_logits': logits(states['speech/output']),
  }
  for stage in expected:
    name = stage.partition('_every')[0]
    if name not in found:
      found[name] = states[ours(name)]
  assert_close(found, expected, 2e-4)


@pytest.mark.parametrize('owner', [o for o in OWNERS if 'beats' in stored(o)])
def test_the_zeros_behind_the_audio_from_the_stored_states(loaded, owner):
  """The norm comes first, so that they stay zeros."""
  expected = stored(owner)
  audio = np.asarray(loaded.ln_audio(jnp.asarray(expected['beats'])))
  fused = expected.get('fused', expected.get('fused_every10'))
  every = 1500 // len(fused)
  theirs = fused[:, -audio.shape[1] :]
  steps = len(audio[::every])
  assert reference.relative(audio[::every], theirs[:steps]) <= 1e-5
  np.testing.assert_array_equal(theirs[steps:], 0)


def test_the_windows_from_the_stored_fused_states(loaded):
  expected = stored('utt1')
  windows = expected['fused'][: 88 * 17].reshape(88, 17, -1)
  query = loaded.speech_query_tokens[...]
  parts = loaded.qformer(query, jnp.asarray(windows))
  found = {f'speech/{name}': x[:, 0] for name, x in parts}
  stages = only(expected, r'q_embed|q\d.*')
  assert len(stages) == 7
  assert_close({k: found[ours(k)] for k in stages}, stages, 1e-5)


@pytest.mark.parametrize('owner', OWNERS)
def test_the_projection_and_the_language_model_from_stored_states(
  loaded, owner
):
  expected = stored(owner)
  tokens = loaded.speech_llama_proj(jnp.asarray(expected['q1']))
  embeds = embeds_of(loaded, expected['token_ids'], expected['audio_tokens'])
  found = {'audio_tokens': tokens, 'inputs_embeds': embeds}
  found |= decoded(loaded, embeds)
  stages = only(expected, 'audio_tokens|inputs_embeds|llm_.*')
  assert len(stages) == (6 if owner == 'utt1' else 5)
  assert_close(found, stages, 1e-5)


def test_text_every_stage():
  module, _ = test_salmonn.text_port(GOLDEN)
  expected = stored('text')
  taps = module(*batches.pad([expected.pop('ids')], 0, 16))
  states = {t.name: np.asarray(t.states[0][t.whole[0]]) for t in taps}
  found = {
    stage: states[ours(stage).replace('speech', 'text')] for stage in expected
  }
  assert len(found) == 3
  assert_close(found, expected, 1e-5)
