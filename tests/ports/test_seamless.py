"""SeamlessM4T v2 encoders against the reference, every tap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from ports import nllb, seamless
from tests.ports import reference

TOLERANCE = 1e-5


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
  made = reference.config()
  text, speech = reference.encoders(made)
  folder = tmp_path_factory.mktemp('tiny')
  reference.save(folder, made, text, speech)
  return folder, text, speech


def run(model, inputs, mask):
  """Every tap of a padded batch: name → (states, mask)."""
  graphdef, state = nnx.split(model)
  names = []

  @jax.jit
  def step(state, inputs, mask):
    taps = nnx.merge(graphdef, state)(inputs, mask)
    names.extend(tap.name for tap in taps)
    return [(tap.states, tap.mask) for tap in taps]

  found = jax.tree.map(np.asarray, step(state, inputs, mask))
  return dict(zip(names, found, strict=True))


def pad(rows, value, multiple=1):
  """Rows of different length as one batch and its mask."""
  longest = max(map(len, rows))
  longest = -(-longest // multiple) * multiple
  shape = (len(rows), longest, *rows[0].shape[1:])
  batch = np.full(shape, value, rows[0].dtype)
  mask = np.zeros((len(rows), longest), bool)
  for i, row in enumerate(rows):
    batch[i, : len(row)] = row
    mask[i, : len(row)] = True
  return jnp.asarray(batch), jnp.asarray(mask)


def compare(found, rows, expected_of, specs):
  """Asserts every tap of every row, and that no tap is left out."""
  assert list(found) == [spec.name for spec in specs]
  worst = {}
  for i, row in enumerate(rows):
    expected = expected_of(row)
    assert set(expected) == set(found)
    for spec in specs:
      states, mask = found[spec.name]
      assert states.shape[-1] == spec.dim
      ours = states[i][mask[i]]
      assert ours.shape == expected[spec.name].shape, spec.name
      error = reference.relative(ours, expected[spec.name])
      worst[spec.name] = max(worst.get(spec.name, 0), error)
  bad = {name: error for name, error in worst.items() if error > TOLERANCE}
  assert not bad


def speech_rows(lengths, seed=0):
  rng = np.random.default_rng(seed)
  return [rng.standard_normal((n, 160)).astype(np.float32) for n in lengths]


def speech_states(model):
  return lambda row: reference.states(
    model,
    torch.tensor(row)[None],
    attention_mask=torch.ones(1, len(row), dtype=torch.long),
  )


def test_text_every_tap_in_a_ragged_batch(tiny):
  folder, text, _ = tiny
  rng = np.random.default_rng(0)
  rows = [rng.integers(1, 120, n) for n in (1, 2, 7, 40, 300)]
  found = run(reference.port(folder, seamless.TEXT), *pad(rows, 0, 16))

  def expected(row):
    ids = torch.tensor(row)[None]
    return reference.states(text, input_ids=ids)

  sizes = reference.sizes(folder, seamless.TEXT)
  compare(found, rows, expected, nllb.taps(sizes, fine=True))


@pytest.mark.parametrize(
  'lengths',
  [(1,), tuple(range(1, 18)), (25, 64, 30, 71, 99), (1640,)],
  ids=['one frame', 'all residues', 'ragged', '33 s'],
)
def test_speech_every_tap_against_each_utterance_alone(tiny, lengths):
  folder, _, speech = tiny
  rows = speech_rows(lengths)
  found = run(reference.port(folder, seamless.SPEECH), *pad(rows, np.nan, 10))
  sizes = reference.sizes(folder, seamless.SPEECH)
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
  text = reference.sizes(tiny[0], seamless.TEXT)
  speech = reference.sizes(tiny[0], seamless.SPEECH)
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
  'left_max_position_embeddings': 64,
  'right_max_position_embeddings': 8,
}


@pytest.mark.slow
def test_full_width(tmp_path):
  """The released widths with two layers, 1 to 15 s, every tap."""
  made = reference.config(**FULL_WIDTH)
  text, speech = reference.encoders(made, seed=9)
  reference.save(tmp_path, made, text, speech)
  rows = speech_rows((750, 333, 50))
  found = run(reference.port(tmp_path, seamless.SPEECH), *pad(rows, np.nan))
  sizes = reference.sizes(tmp_path, seamless.SPEECH)
  specs = seamless.SPEECH.taps(sizes, fine=True)
  compare(found, rows, speech_states(speech), specs)
  rng = np.random.default_rng(2)
  rows = [rng.integers(1, 4000, n) for n in (60, 17)]
  found = run(reference.port(tmp_path, seamless.TEXT), *pad(rows, 0))
  compare(
    found,
    rows,
    lambda row: reference.states(text, input_ids=torch.tensor(row)[None]),
    nllb.taps(reference.sizes(tmp_path, seamless.TEXT), fine=True),
  )
