"""BEATs against PyTorch's own modules, and against stored answers."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxrep.audio import frontends
from ports import beats, configs, loading
from ports.checkpoints import open_checkpoint
from ports.checkpoints.torchfile import open_torch
from tests.ports import batches, beats_reference, interpreted, reference

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden/beats'
STAGES = {
  'fbank': 'embed/fbank',
  'patch': 'embed/patch',
  'patch_ln': 'embed/norm',
  'proj': 'embed/proj',
  'pos_ln': 'embed',
}


def port(path, dtype=jnp.float32):
  sizes = beats.read(open_torch(path)['cfg'])
  abstract = beats.SPEECH.abstract(sizes)
  layouts = beats.SPEECH.layouts
  return loading.load(abstract, open_checkpoint(path), layouts, dtype), sizes


def fbanks(lengths, seed=0):
  rng = np.random.default_rng(seed)
  return [rng.standard_normal((n, 128)).astype(np.float32) for n in lengths]


@pytest.mark.parametrize(
  'changes', [{}, {'max_distance': 1280, 'conv_pos': 16, 'conv_pos_groups': 1}]
)
def test_every_tap_against_each_utterance_alone(tmp_path, changes):
  """One row of patches, ragged, and tokens more than 800 apart."""
  model = beats_reference.save(tmp_path / 'beats.pt', **changes)
  module, sizes = port(tmp_path / 'beats.pt')
  rows = fbanks((16, 31, 163, 250, 1661))
  found = batches.run(module, *batches.pad(rows, np.nan, 40))
  specs = beats.taps(sizes, fine=True)
  assert found['speech/layer_01'][1].sum(axis=1).max() > 801
  batches.compare(
    found, rows, lambda row: beats_reference.states(model, row), specs
  )


@pytest.mark.parametrize('platform', ['cuda', 'tpu'])
def test_bfloat16_is_nearer_to_float32_than_the_reference(
  tmp_path, monkeypatch, platform
):
  """On an accelerator, with its kernel and what it rounds."""
  sizes = {'encoder_embed_dim': 128, 'encoder_attention_heads': 2}
  model = beats_reference.save(tmp_path / 'beats.pt', **sizes)
  (row,) = rows = fbanks((320,))
  exact = beats_reference.states(model, row)
  theirs = beats_reference.states(
    model.bfloat16(), torch.tensor(row).bfloat16()
  )
  calls = interpreted.taken(monkeypatch, platform)
  module, config = port(tmp_path / 'beats.pt', jnp.bfloat16)
  with jax.default_matmul_precision('bfloat16'):
    taps = module(*batches.pad(rows, np.nan, 40))
  assert len(calls['flash_attention']) == config.encoder_layers
  for tap in taps:
    ours = np.asarray(tap.states)[0][np.asarray(tap.mask)[0]]
    apart, other = (
      np.linalg.norm(x - exact[tap.name])
      for x in (ours, torch.as_tensor(theirs[tap.name]).float().numpy())
    )
    assert apart < other, tap.name


def stored(owner):
  """Our tap → what is stored of one utterance: theirs count from 0."""
  expected = np.load(GOLDEN / 'expected.npz')
  found = {}
  for key in expected.files:
    whose, stage = key.split('/')
    if whose != owner:
      continue
    if layer := re.fullmatch(r'layer(\d)(\.attn)?', stage):
      name = f'layer_{int(layer[1]) + 1:02}' + ('/attn' if layer[2] else '')
    else:
      name = STAGES[stage]
    found[f'speech/{name}'] = expected[key]
  return found


def assert_close(found, expected, tolerance):
  for name, theirs in expected.items():
    assert found[name].shape == theirs.shape, name
    error = reference.relative(found[name], theirs)
    assert error <= tolerance, (name, error)


def test_every_stored_stage_from_the_stored_fbank():
  """Of the published implementation; our reference agrees with it as well."""
  module, sizes = port(GOLDEN / 'checkpoint.pt')
  model = beats_reference.read(GOLDEN / 'checkpoint.pt')
  expected = [stored(f'utt{i}') for i in range(3)]
  rows = [one['speech/embed/fbank'] for one in expected]
  found = batches.run(module, *batches.pad(rows, np.nan))
  for i, theirs in enumerate(expected):
    ours = {name: x[i][mask[i]] for name, (x, mask) in found.items()}
    assert_close(ours, theirs, 1e-5)
    assert_close(beats_reference.states(model, rows[i]), theirs, 1e-5)
  assert set(expected[0]) == {s.name for s in beats.taps(sizes, fine=True)}


def test_every_stored_stage_from_the_waveform():
  module, _ = port(GOLDEN / 'checkpoint.pt')
  inputs = np.load(GOLDEN / 'inputs.npz')
  waveforms, heard = batches.pad([inputs[f'utt{i}'] for i in range(4)], np.nan)
  features = jax.jit(frontends.BEATS.features)(waveforms, heard.sum(axis=1))
  found = batches.run(module, *features)
  for i in range(4):
    ours = {name: x[i][mask[i]] for name, (x, mask) in found.items()}
    assert_close(ours, stored(f'utt{i}'), 2e-4)


def sizes_of(**changes):
  return beats.read(beats_reference.TINY | changes)


@pytest.mark.parametrize('distance', [800, 1280])
def test_buckets(distance):
  """80 near ones a side, then steps of one 80th of log(distance / 80)."""
  found = beats.buckets(2001, sizes_of(max_distance=distance))
  assert found.shape == (4001,)
  assert found.dtype.kind == 'i'
  at = dict(zip(range(-2000, 2001), found.tolist(), strict=True))
  near = {0: 0, -1: 1, 1: 161, -79: 79, 79: 239, -80: 80, 80: 240}
  # 80 (10 ^ (1/80)) is 82.34, and 80 (16 ^ (1/80)) is 82.82.
  near |= {-82: 80, -83: 81, 82: 240, 83: 241, -2000: 159, 2000: 319}
  far = {
    800: {-160: 104, 160: 264, -400: 135, 400: 295, -777: 158, -778: 159},
    1280: {-160: 100, 160: 260, -400: 126, 400: 286, -777: 145, -1240: 159},
  }
  for key, bucket in (near | far[distance]).items():
    assert at[key] == bucket, key


@pytest.mark.parametrize('distance', [800, 1280])
def test_buckets_equal_those_of_pytorch(distance):
  cfg = beats_reference.TINY | {'max_distance': distance}
  theirs = beats_reference.buckets(torch.arange(-1499, 1500), cfg)
  ours = beats.buckets(1500, sizes_of(max_distance=distance))
  np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize('size', [16, 128])
@pytest.mark.parametrize('time', [1, 7, 200])
def test_positional_conv(size, time):
  changes = {'conv_pos': size, 'conv_pos_groups': 3, 'encoder_embed_dim': 12}
  theirs = beats_reference.model(**changes).encoder.pos_conv
  tensors = {
    'weight_g': theirs[0].parametrizations.weight.original0,
    'weight_v': theirs[0].parametrizations.weight.original1,
    'bias': theirs[0].bias,
  }
  ours = beats.PositionalConv(12, size, 3, rngs=nnx.Rngs(0))
  for name, tensor in tensors.items():
    getattr(ours, name)[...] = jnp.asarray(tensor.detach().numpy())
  x = np.random.default_rng(0).standard_normal((2, time, 12), np.float32)
  with torch.no_grad():
    expected = theirs(torch.tensor(x).transpose(1, 2)).transpose(1, 2)
  expected = expected[:, :time].numpy()
  assert reference.relative(np.asarray(ours(jnp.asarray(x))), expected) <= 1e-5


@pytest.mark.parametrize(
  'name',
  [
    'encoder_layers',
    'encoder_embed_dim',
    'conv_pos',
    'conv_pos_groups',
    'max_distance',
    'deep_norm',
    'gru_rel_pos',
    'input_patch_size',
  ],
)
def test_a_cfg_has_to_say_all_of_it(name):
  cfg = {k: v for k, v in beats_reference.TINY.items() if k != name}
  with pytest.raises(configs.ConfigError, match=rf'leaves out {name}\.'):
    beats.read(cfg)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'layer_norm_first': True}, 'layer_norm_first=True: only False'),
    ({'deep_norm': False}, 'deep_norm=False: only True'),
    ({'gru_rel_pos': False}, 'gru_rel_pos=False: only True'),
    ({'activation_fn': 'relu'}, "activation_fn='relu': only 'gelu'"),
    ({'input_patch_size': 8}, 'input_patch_size=8: only 16'),
    ({'conv_bias': True}, 'conv_bias=True: only False'),
    ({'rotary': True}, 'rotary=True: unknown'),
  ],
)
def test_a_cfg_that_asks_for_another_network_is_refused(change, message):
  with pytest.raises(configs.ConfigError, match=message):
    sizes_of(**change)
