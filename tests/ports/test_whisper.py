"""Whisper's encoder against transformers, every tap."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperForConditionalGeneration

from ports import configs, loading, whisper
from ports.checkpoints import CheckpointError, open_checkpoint
from tests.ports import batches, reference

TINY = {
  'd_model': 16,
  'encoder_layers': 3,
  'encoder_attention_heads': 4,
  'encoder_ffn_dim': 40,
  'decoder_layers': 1,
  'decoder_attention_heads': 2,
  'decoder_ffn_dim': 24,
  'vocab_size': 60,
  'max_target_positions': 12,
  'pad_token_id': 0,
  'bos_token_id': 1,
  'eos_token_id': 2,
  'decoder_start_token_id': 1,
}


def model(**changes):
  made = WhisperConfig(**TINY | changes)
  return reference.redraw(WhisperForConditionalGeneration(made), 5)


def save(folder, strip='', **changes):
  """The whole model as the hub has it; its names without `strip`."""
  made = model(**changes)
  folder.mkdir(parents=True, exist_ok=True)
  tensors = {
    key.removeprefix(strip): value.clone()
    for key, value in made.state_dict().items()
  }
  save_file(tensors, folder / 'model.safetensors')
  config = made.config.to_json_string(use_diff=False)
  (folder / 'config.json').write_text(config)
  return made.model.encoder


def port(folder):
  config = json.loads((folder / 'config.json').read_text())
  sizes = whisper.read(config)
  module = loading.load(
    whisper.SPEECH.abstract(sizes),
    open_checkpoint(folder),
    whisper.SPEECH.layouts,
  )
  return module, sizes


def states(encoder, mel):
  """Our tap → [time, dim] of log-mel frames [3000, mel]."""
  hooks = {
    'speech/embed/conv1': (encoder.conv1, 'output'),
    'speech/embed/conv2': (encoder.conv2, 'output'),
    'speech/embed': (encoder.layers[0], 'input'),
    'speech/output': (encoder.layer_norm, 'output'),
  }
  for i, layer in enumerate(encoder.layers, 1):
    hooks[f'speech/layer_{i:02}/attn'] = (layer.final_layer_norm, 'input')
    hooks[f'speech/layer_{i:02}'] = (layer, 'output')
  found = reference.hooked(hooks, encoder, torch.tensor(mel.T)[None])
  for name in ('speech/embed/conv1', 'speech/embed/conv2'):
    found[name] = torch.nn.functional.gelu(torch.tensor(found[name])).T.numpy()
  return {'speech/embed/mel': mel, **found}


def mels_of(rows, bins, seed=0):
  rng = np.random.default_rng(seed)
  return rng.standard_normal((rows, 3000, bins)).astype(np.float32)


@pytest.mark.parametrize(
  ('bins', 'strip'), [(80, ''), (80, 'model.'), (128, '')]
)
def test_every_tap(tmp_path, bins, strip):
  """Of either form of the hub's names, with a decoder behind it."""
  theirs = save(tmp_path, strip, num_mel_bins=bins)
  module, sizes = port(tmp_path)
  rows = mels_of(2, bins)
  heard = np.arange(3000) < np.array([[3000], [701]])
  found = batches.run(module, jnp.asarray(rows), jnp.asarray(heard))
  specs = whisper.taps(sizes, fine=True)
  batches.compare(found, rows, lambda row: states(theirs, row), specs)


def test_all_of_30_s_is_valid_and_audio_is_heard(tmp_path):
  """Nothing is valid of a row without audio."""
  save(tmp_path)
  module, sizes = port(tmp_path)
  lengths = np.array([3000, 701, 1, 0])
  heard = np.arange(3000) < lengths[:, None]
  taps = module(jnp.asarray(mels_of(4, 80)), jnp.asarray(heard))
  assert [t.name for t in taps] == [s.name for s in whisper.specs_of(sizes)]
  for tap in taps:
    steps = (
      3000 if tap.name in ('speech/embed/mel', 'speech/embed/conv1') else 1500
    )
    assert tap.mask.sum(axis=1).tolist() == [steps, steps, steps, 0]
    held = lengths if steps == 3000 else -(-lengths // 2)
    np.testing.assert_array_equal(tap.heard, np.arange(steps) < held[:, None])
    assert tap.whole is None


def test_heard_changes_no_state(tmp_path):
  save(tmp_path)
  module, _ = port(tmp_path)
  rows = jnp.asarray(mels_of(1, 80))
  all_of_it = batches.run(module, rows, jnp.ones((1, 3000), bool))
  some = batches.run(module, rows, jnp.arange(3000)[None] < 9)
  for name, (x, _) in all_of_it.items():
    np.testing.assert_array_equal(x, some[name][0])


def test_a_decoder_alone_is_no_encoder(tmp_path):
  save(tmp_path)
  tensors = {
    k: v for k, v in open_checkpoint(tmp_path).items() if '.encoder.' not in k
  }
  layouts = whisper.SPEECH.layouts
  _, sizes = port(tmp_path)
  with pytest.raises(CheckpointError, match='none of the known layouts'):
    loading.load(whisper.SPEECH.abstract(sizes), tensors, layouts)


def test_a_config_that_asks_for_another_network_is_refused():
  config = json.loads(WhisperConfig(**TINY).to_json_string(use_diff=False))
  assert whisper.read(config).d_model == 16
  for change, message in (
    ({'model_type': 'wav2vec2'}, "model_type='wav2vec2'"),
    ({'activation_function': 'gelu_new'}, "activation_function='gelu_new'"),
    ({'scale_embedding': True}, 'scale_embedding=True'),
    ({'max_source_positions': 750}, 'max_source_positions=750'),
    ({'rotary': True}, 'rotary=True: unknown'),
  ):
    with pytest.raises(configs.ConfigError, match=message):
      whisper.read(config | change)


# Width, layers, heads, bins; the feed-forward is four times as wide.
RELEASED = {
  'tiny': (384, 4, 6, 80),
  'base': (512, 6, 8, 80),
  'small': (768, 12, 12, 80),
  'medium': (1024, 24, 16, 80),
  'large-v2': (1280, 32, 20, 80),
  'large-v3': (1280, 32, 20, 128),
}


@pytest.mark.parametrize('name', RELEASED)
def test_released_sizes_by_shape(name):
  """As many parameters as transformers counts, and each has its key."""
  dim, layers, heads, bins = RELEASED[name]
  config = WhisperConfig(
    d_model=dim,
    encoder_layers=layers,
    encoder_attention_heads=heads,
    decoder_attention_heads=heads,
    encoder_ffn_dim=4 * dim,
    num_mel_bins=bins,
  )
  with torch.device('meta'):
    made = WhisperForConditionalGeneration(config).model.encoder
  sizes = whisper.read(config.to_dict())
  leaves = list(loading.leaves(whisper.SPEECH.abstract(sizes)))
  theirs = {key: x.numel() for key, x in made.state_dict().items()}
  assert {leaf.key: int(np.prod(leaf.shape)) for leaf in leaves} == theirs
