"""SeamlessM4T v1 and v2 encoders against the reference, every tap."""

import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from ports import nllb, seamless
from tests.ports import interpreted, reference
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
    torch.as_tensor(row)[None],
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


@pytest.mark.parametrize('platform', ['cuda', 'tpu'])
@pytest.mark.parametrize('version', ['v1', 'v2'])
def test_bfloat16_is_nearer_to_float32_than_the_reference(
  tmp_path, monkeypatch, version, platform
):
  """On an accelerator, with its kernels and what it rounds."""
  sizes = {'hidden_size': 128, 'speech_encoder_layers': 6}
  made = reference.config(version, **sizes)
  text, speech = reference.encoders(made)
  reference.save(tmp_path, made, text, speech)
  (row,) = rows = speech_rows((120,))
  exact = speech_states(speech)(row)
  theirs = speech_states(speech.bfloat16())(torch.tensor(row).bfloat16())
  calls = interpreted.taken(monkeypatch, platform)
  module = reference.port(
    tmp_path, reference.NETWORKS[version]['speech'], dtype=jnp.bfloat16
  )
  with jax.default_matmul_precision('bfloat16'):
    taps = module(*pad(rows, np.nan, 10))
  assert len(calls['depthwise']) == 6 and calls['flash_attention']
  for tap in taps:
    ours = np.asarray(tap.states)[0][np.asarray(tap.mask)[0]]
    apart, other = (
      np.linalg.norm(x - exact[tap.name]) for x in (ours, theirs[tap.name])
    )
    assert apart < other, tap.name


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


def fairseq2_names(text, speech):
  """Both encoders as fairseq2 names them, with what else its files hold."""
  shared = (
    (r'\.intermediate_dense', '.inner_proj'),
    (r'\.output_dense', '.output_proj'),
    (r'\.linear_([qkv])', r'.\1_proj'),
    (r'\.(linear_out|out_proj)', '.output_proj'),
    (r'\.fc1', '.inner_proj'),
    (r'\.fc2', '.output_proj'),
  )
  renames = {
    'text': (
      (r'^embed_tokens', 'text_encoder_frontend.embed'),
      (r'^(layers|layer_norm)', r'text_encoder.\1'),
    ),
    'speech': (
      (
        r'^feature_projection\.layer_norm',
        'speech_encoder_frontend.post_extract_layer_norm',
      ),
      (
        r'^feature_projection\.projection',
        'speech_encoder_frontend.model_dim_proj',
      ),
      (r'^inner_layer_norm', 'speech_encoder.layer_norm'),
      (r'^encoder\.layer_norm', 'speech_encoder.inner_layer_norm'),
      (r'^encoder\.layers', 'speech_encoder.inner.layers'),
      (r'^intermediate_ffn\.intermediate_dense', 'speech_encoder.proj1'),
      (r'^intermediate_ffn\.output_dense', 'speech_encoder.proj2'),
      (r'^adapter\.layers', 'speech_encoder.adaptor_layers'),
      (r'\.final_layer_norm', '.layer_norm'),
      (r'\.conv_module\.layer_norm', '.conv_layer_norm'),
      (r'\.conv_module\.depthwise_layer_norm', '.conv.layer_norm'),
      (r'\.conv_module', '.conv'),
      (r'\.pos_bias_([uv])', r'.sdpa.\1_bias'),
      (r'\.linear_pos', '.sdpa.r_proj'),
      (r'\.distance_embedding', '.sdpa.rel_k_embed'),
    ),
  }
  tensors = {
    'final_proj.weight': torch.ones(3),
    'text_decoder_frontend.embed.weight': torch.ones(3),
    'text_decoder.layers.0.ffn.inner_proj.bias': torch.ones(3),
    't2u_model.encoder.layer_norm.bias': torch.ones(3),
  }
  for kind, model in (('text', text), ('speech', speech)):
    for key, value in model.state_dict().items():
      for pattern, name in (*renames[kind], *shared):
        key = re.sub(pattern, name, key)
      tensors[key] = value
  return tensors


def test_a_file_of_fairseq2_is_the_same_checkpoint(tiny, tmp_path):
  folder, text, speech, networks = tiny
  tensors = fairseq2_names(text, speech)
  assert 'speech_encoder.adaptor_layers.0.self_attn.q_proj.bias' in tensors
  assert 'text_encoder.layers.1.ffn.output_proj.weight' in tensors
  torch.save({'model': tensors}, tmp_path / 'checkpoint.pt')
  shutil.copy(folder / 'config.json', tmp_path)
  for network in networks.values():
    ours, theirs = (reference.port(f, network) for f in (tmp_path, folder))
    pairs = zip(
      *(nnx.to_flat_state(nnx.state(m)) for m in (ours, theirs)), strict=True
    )
    for (path, a), (other, b) in pairs:
      assert path == other
      np.testing.assert_array_equal(a[...], b[...])


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
