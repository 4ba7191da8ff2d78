"""SALMONN against transformers', peft's and PyTorch's parts, every tap.

`test_salmonn_golden.py` compares with what SALMONN itself computes.
"""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from transformers import WhisperFeatureExtractor

from jaxrep.audio import frontends
from ports import configs, loading, salmonn
from ports.checkpoints import CheckpointError, open_checkpoint
from ports.checkpoints.torchfile import open_torch
from ports.layers import Tap
from tests.ports import (
  batches,
  beats_reference,
  salmonn_reference,
  test_llama,
)

FILES = {
  'whisper': 'whisper',
  'beats': 'beats.pt',
  'llm': 'llama',
  'connector': 'salmonn_v1.pth',
}
BEFORE, AFTER = (307, 375, 298), (352, 290, 274, 377)


def tables(folder):
  """What the files of a folder say of their sizes."""
  config = json.loads((folder / 'config.json').read_text())
  found = {
    part: json.loads((folder / name / 'config.json').read_text())
    for part, name in (('whisper', 'whisper'), ('llm', 'llama'))
  }
  beats = open_torch(folder / 'beats.pt')['cfg']
  return found | {'beats': beats, 'connector': config}


def tensors(folder, parts=FILES):
  return {
    f'{part}.{key}': tensor
    for part in parts
    for key, tensor in open_checkpoint(folder / FILES[part]).items()
  }


def port(folder, before=BEFORE, after=AFTER):
  """The speech encoder between a prompt, and its sizes."""
  found = tables(folder)
  found['llm'] |= {'before': before, 'after': after}
  sizes = salmonn.speech_config(found)
  abstract = salmonn.SPEECH.abstract(sizes)
  layouts = salmonn.SPEECH.layouts
  return loading.load(abstract, tensors(folder), layouts), sizes


def text_port(folder):
  sizes = salmonn.text_config(tables(folder))
  abstract = salmonn.TEXT.abstract(sizes)
  found = tensors(folder, ('llm', 'connector'))
  return loading.load(abstract, found, salmonn.TEXT.layouts), sizes


def run(module, features, masks):
  """Tap name → Tap of a batch."""
  graphdef, state = nnx.split(module)
  names = []

  @jax.jit
  def step(state, features, masks):
    taps = nnx.merge(graphdef, state)(features, masks)
    names[:] = [tap.name for tap in taps]
    return [tap[1:] for tap in taps]

  found = jax.tree.map(np.asarray, step(state, features, masks))
  return {n: Tap(n, *x) for n, x in zip(names, found, strict=True)}


def sequences(taps):
  """Tap name → states, and the mask of all that the network read."""
  return {
    name: (tap.states, tap.mask if tap.whole is None else tap.whole)
    for name, tap in taps.items()
  }


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  folder = tmp_path_factory.mktemp('salmonn')
  return folder, salmonn_reference.save(folder)


class Batch(NamedTuple):
  """Recordings in one batch: features of both makes, and the answers."""

  module: nnx.Module
  sizes: salmonn.SpeechConfig
  masks: tuple
  ours: tuple
  theirs: tuple
  expected: list[dict[str, np.ndarray]]


@pytest.fixture(scope='module')
def batch(files):
  return batch_of(*files, (9600, 48_000, 512_000))


def batch_of(folder, model, lengths):
  """Noise of so many samples, in one batch."""
  module, sizes = port(folder)
  rng = np.random.default_rng(0)
  clips = [(rng.standard_normal(n) / 10).astype(np.float32) for n in lengths]
  waveforms, held = batches.pad(clips, np.nan)
  front = frontends.salmonn(sizes)
  ours, masks = jax.jit(front.features)(waveforms, held.sum(axis=1))
  extract = WhisperFeatureExtractor(feature_size=sizes.num_mel_bins)
  mels = extract(clips, sampling_rate=16_000, return_tensors='np')
  mels = mels['input_features'].swapaxes(1, 2)
  expected = [
    salmonn_reference.speech_states(
      model, mel, np.asarray(fbank)[mask], BEFORE, AFTER
    )
    for mel, fbank, mask in zip(mels, ours[1], masks[1], strict=True)
  ]
  theirs = jnp.asarray(mels), ours[1]
  return Batch(module, sizes, masks, ours, theirs, expected)


@pytest.fixture(scope='module')
def found(batch):
  return run(batch.module, batch.theirs, batch.masks)


def compare(found, batch, tolerance):
  batches.compare(
    sequences(found),
    range(len(batch.expected)),
    batch.expected.__getitem__,
    salmonn.speech_taps(batch.sizes, fine=True),
    tolerance,
  )


def test_every_tap_in_one_batch(batch, found):
  """Padded to 1 s, shorter than 30 s, and cut to it."""
  compare(found, batch, 1e-5)
  tokens = found['speech/beats_layer_02'].mask.sum(axis=1)
  assert tokens.tolist() == [48, 144, 1496]
  silent = found['speech/fused/audio'].states[0, 48:]
  np.testing.assert_array_equal(silent, 0)


def test_every_tap_from_the_waveform(batch):
  compare(run(batch.module, batch.ours, batch.masks), batch, 2e-4)


def test_which_steps_are_valid_and_heard(found):
  first, slots = 1 + len(BEFORE), salmonn_reference.WINDOWS
  audio = np.arange(first + slots + len(AFTER)) - first
  own = np.tile((audio >= 0) & (audio < slots), (3, 1))
  # Of 50 steps a second, 17 a window: 30 steps, 150 steps, and all of them.
  heard = {
    'speech/whisper_embed/mel': (60, 300, 3000),
    'speech/whisper_output': (30, 150, 1500),
    'speech/fused': (30, 150, 1500),
    'speech/qformer_02': (2, 9, 88),
    'speech/audio_tokens': (2, 9, 88),
    'speech/output': (2, 9, 88),
  }
  for name, counts in heard.items():
    assert found[name].heard.sum(axis=1).tolist() == list(counts), name
  for name in ('speech/layer_01/attn', 'speech/layer_02', 'speech/output'):
    tap = found[name]
    np.testing.assert_array_equal(tap.mask, own)
    assert tap.whole.all() and tap.whole.shape == own.shape
    assert not (tap.heard & ~own).any()
    assert tap.heard[:, first].all()
  for name in (
    'speech/fused',
    'speech/qformer_01/cross',
    'speech/audio_tokens',
  ):
    assert found[name].mask.all() and found[name].whole is None
  assert found['speech/qformer/embed'].states.shape[1] == 1


def test_a_row_without_audio_has_no_valid_step(batch):
  features, masks = frontends.salmonn(batch.sizes).features(
    jnp.full((1, 16_000), jnp.nan), jnp.array([0])
  )
  for tap in run(batch.module, features, masks).values():
    assert not tap.mask.any(), tap.name
    assert np.isfinite(tap.states).all(), tap.name


def test_text_every_tap(files):
  folder, model = files
  module, sizes = text_port(folder)
  rows = test_llama.rows_of((2, 9, 40))
  taps = module(*batches.pad(rows, 0, 16))
  batches.compare(
    {t.name: (np.asarray(t.states), np.asarray(t.whole)) for t in taps},
    rows,
    lambda row: test_llama.text_states(model.llm, row),
    salmonn.text_taps(sizes, fine=True),
  )


WIDE = {
  'whisper': {
    'd_model': 1280,
    'encoder_layers': 2,
    'encoder_attention_heads': 20,
    'encoder_ffn_dim': 5120,
  },
  'beats': {
    'encoder_layers': 2,
    'encoder_embed_dim': 768,
    'encoder_ffn_embed_dim': 3072,
    'encoder_attention_heads': 12,
    'embed_dim': 512,
    'conv_pos_groups': 16,
  },
  'qformer': {'hidden_size': 768, 'heads': 12, 'intermediate_size': 3072},
  'llama': {
    'hidden_size': 4096,
    'intermediate_size': 11008,
    'num_hidden_layers': 2,
    'num_attention_heads': 32,
    'vocab_size': 420,
  },
}


@pytest.mark.slow
def test_full_width(tmp_path):
  """The released widths of 7B with two layers each, 3 s and 20 s."""
  model = salmonn_reference.save(tmp_path, **WIDE)
  batch = batch_of(tmp_path, model, (48_000, 320_000))
  compare(run(batch.module, batch.theirs, batch.masks), batch, 1e-5)
  module, sizes = text_port(tmp_path)
  rows = test_llama.rows_of((2, 40))
  taps = module(*batches.pad(rows, 0, 16))
  batches.compare(
    {t.name: (np.asarray(t.states), np.asarray(t.whole)) for t in taps},
    rows,
    lambda row: test_llama.text_states(model.llm, row),
    salmonn.text_taps(sizes, fine=True),
  )


def test_one_error_lists_what_is_wrong_in_each_file(files):
  folder, _ = files
  _, sizes = port(folder)
  found = tensors(folder)
  del found['whisper.model.encoder.layers.1.fc1.bias']
  del found['llm.model.norm.weight']
  bias = found['connector.ln_audio.bias']
  found['beats.encoder.layers.0.gate'] = bias
  found['connector.speech_llama_proj.weight'] = bias
  with pytest.raises(CheckpointError, match='4 places') as error:
    loading.load(salmonn.SPEECH.abstract(sizes), found, salmonn.SPEECH.layouts)
  for part in (
    'whisper.layers.1.fc1.bias: not in the checkpoint',
    'llm.norm.weight: not in the checkpoint',
    'beats.encoder.layers.0.gate: no parameter takes it',
    'connector.speech_llama_proj.weight: shape (24,) does not fill (20, 64)',
  ):
    assert part in str(error.value)


def test_an_adapter_that_is_missing_is_told(files):
  folder, _ = files
  found = tensors(folder, ('llm', 'connector'))
  layer = 'llama_model.base_model.model.model.layers.1.self_attn'
  del found[f'connector.{layer}.v_proj.lora_B.default.weight']
  sizes = salmonn.text_config(tables(folder))
  with pytest.raises(CheckpointError, match='1 places') as error:
    loading.load(salmonn.TEXT.abstract(sizes), found, salmonn.TEXT.layouts)
  key = 'llm.layers.1.self_attn.v_proj.lora_B.default.weight'
  assert f'{key}: not in the checkpoint' in str(error.value)


def test_a_config_that_asks_for_another_network_is_refused(files):
  found = tables(files[0])
  for part, name, change, message in (
    ('connector', 'window', {'frames': 16}, 'frames=16: only 17'),
    ('connector', 'window', {'windows': 90}, 'windows=90: only 88'),
    ('connector', 'lora', {'targets': ['q_proj']}, 'targets='),
    ('connector', 'qformer', {'encoder_width': 9}, 'encoder_width=9'),
    ('connector', 'qformer', {'num_query_tokens': 2}, 'num_query_tokens=2'),
    ('connector', 'other', {}, 'other={}: unknown'),
  ):
    table = found[part].get(name, {}) | change
    changed = found | {part: found[part] | {name: table}}
    with pytest.raises(configs.ConfigError, match=message):
      salmonn.speech_config(changed)
  with pytest.raises(configs.ConfigError, match='lora=3: a table'):
    salmonn.text_config(found | {'connector': {'lora': 3}})


def test_without_a_config_the_released_geometry_is_meant():
  """SALMONN's own file has none: bert-base, LoRA of rank 8 and scale 4."""
  beats = beats_reference.TINY
  sizes = salmonn.speech_config(
    {
      'whisper': {'model_type': 'whisper'},
      'beats': beats | {'encoder_embed_dim': 768},
      'llm': {'model_type': 'llama'},
      'connector': {},
    }
  )
  assert sizes.qformer.encoder_width == 1280 + 768
  assert (sizes.qformer.hidden_size, sizes.qformer.layers) == (768, 2)
  assert sizes.qformer.layer_norm_eps == 1e-12
  assert (sizes.llm.lora.rank, sizes.llm.lora.scale) == (8, 4.0)


def test_the_windows_of_30_s():
  """17 of 1,500 steps each, as SALMONN rounds a third of a second."""
  step = round(1500 * 0.333333 / 30)
  assert step == salmonn.FRAMES == 17
  assert (1500 - step) // step + 1 == salmonn.WINDOWS == 88


def test_stages_are_compared_with_those_of_text(files):
  found = tables(files[0])
  text, speech = salmonn.text_config(found), salmonn.speech_config(found)
  pairs = salmonn.counterparts(text, speech)
  assert pairs == {
    'speech/fused': 'text/embed',
    'speech/qformer_01': 'text/embed',
    'speech/qformer_02': 'text/embed',
    'speech/audio_tokens': 'text/embed',
    'speech/layer_01': 'text/layer_01',
    'speech/layer_02': 'text/layer_02',
    'speech/output': 'text/output',
  }
  coarse = {spec.name for spec in salmonn.speech_taps(speech)}
  assert pairs.keys() <= coarse
  assert set(pairs.values()) <= {s.name for s in salmonn.text_taps(text)}
