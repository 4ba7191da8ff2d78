"""SeamlessM4T v1 and v2 encoders against the reference, every tap."""

import numpy as np
import pytest
import torch

from ports import nllb, seamless
from tests.ports import reference
from tests.ports.batches import compare, pad, run, speech_rows


@pytest.fixture(scope='module', params=['v1', 'v2'])
def tiny(request, tmp_path_factory):
  made = reference.config(request.param)
  text, speech = reference.encoders(made)
  folder = tmp_path_factory.mktemp(request.param)
  reference.save(folder, made, text, speech)
  return folder, text, speech, reference.NETWORKS[request.param]


def speech_states(model):
  return lambda row: reference.states(
    model,
    torch.tensor(row)[None],
    attention_mask=torch.ones(1, len(row), dtype=torch.long),
  )


def test_text_every_tap_in_a_ragged_batch(tiny):
  folder, text, _, networks = tiny
  rng = np.random.default_rng(0)
  rows = [rng.integers(1, 120, n) for n in (1, 2, 7, 40, 300)]
  found = run(reference.port(folder, networks['text']), *pad(rows, 0, 16))

  def expected(row):
    ids = torch.tensor(row)[None]
    return reference.states(text, input_ids=ids)

  sizes = reference.sizes(folder, networks['text'])
  compare(found, rows, expected, nllb.taps(sizes, fine=True))


@pytest.mark.parametrize(
  'lengths',
  [(1,), tuple(range(1, 18)), (25, 64, 30, 71, 99), (1640,)],
  ids=['one frame', 'all residues', 'ragged', '33 s'],
)
def test_speech_every_tap_against_each_utterance_alone(tiny, lengths):
  folder, _, speech, networks = tiny
  rows = speech_rows(lengths)
  found = run(
    reference.port(folder, networks['speech']), *pad(rows, np.nan, 10)
  )
  sizes = reference.sizes(folder, networks['speech'])
  specs = seamless.speech_taps(sizes, fine=True)
  compare(found, rows, speech_states(speech), specs)


@pytest.mark.parametrize('left_chunks', [0, 1, -1])
def test_chunk_mask_with_left_context(tmp_path, left_chunks):
  made = reference.config(
    speech_encoder_chunk_size=7, speech_encoder_left_chunk_num=left_chunks
  )
  text, speech = reference.encoders(made, seed=5)
  reference.save(tmp_path, made, text, speech)
  rows = speech_rows((40, 23, 7, 3))
  found = run(reference.port(tmp_path, seamless.SPEECH), *pad(rows, np.nan))
  sizes = reference.sizes(tmp_path, seamless.SPEECH)
  specs = seamless.speech_taps(sizes, fine=True)
  compare(found, rows, speech_states(speech), specs)


def test_stage_taps_are_the_fine_ones_without_their_parts(tiny):
  folder, _, _, networks = tiny
  text = reference.sizes(folder, networks['text'])
  speech = reference.sizes(folder, networks['speech'])
  names = [tap.name for tap in seamless.SPEECH.taps(speech)]
  assert names == [
    'speech/embed',
    'speech/layer_01',
    'speech/layer_02',
    'speech/layer_03',
    'speech/norm',
    'speech/pre_adaptor',
    'speech/adaptor',
    'speech/output',
  ]
  pairs = seamless.counterparts(text, speech)
  assert list(pairs) == names
  assert set(pairs.values()) <= {t.name for t in seamless.TEXT.taps(text)}


FULL_WIDTH = {
  'vocab_size': 4000,
  'hidden_size': 1024,
  'encoder_layers': 2,
  'encoder_attention_heads': 16,
  'encoder_ffn_dim': 8192,
  'speech_encoder_layers': 2,
  'speech_encoder_attention_heads': 16,
  'speech_encoder_intermediate_size': 4096,
}
RELEASED_POSITIONS = {
  'v1': {'max_source_positions': 4096},
  'v2': {
    'left_max_position_embeddings': 64,
    'right_max_position_embeddings': 8,
  },
}


@pytest.mark.slow
@pytest.mark.parametrize('version', ['v1', 'v2'])
def test_full_width(tmp_path, version):
  """The released widths with two layers, 1 to 15 s, every tap."""
  positions = RELEASED_POSITIONS[version]
  made = reference.config(version, **FULL_WIDTH, **positions)
  networks = reference.NETWORKS[version]
  text, speech = reference.encoders(made, seed=9)
  reference.save(tmp_path, made, text, speech)
  rows = speech_rows((750, 333, 50))
  found = run(reference.port(tmp_path, networks['speech']), *pad(rows, np.nan))
  sizes = reference.sizes(tmp_path, networks['speech'])
  specs = seamless.SPEECH.taps(sizes, fine=True)
  compare(found, rows, speech_states(speech), specs)
  rng = np.random.default_rng(2)
  rows = [rng.integers(1, 4000, n) for n in (60, 17)]
  found = run(reference.port(tmp_path, networks['text']), *pad(rows, 0))
  compare(
    found,
    rows,
    lambda row: reference.states(text, input_ids=torch.tensor(row)[None]),
    nllb.taps(reference.sizes(tmp_path, networks['text']), fine=True),
  )
