"""Length adaptors with other parameters than were loaded."""

import jax
import numpy as np
import pytest
from flax import nnx

from ports import loading, salmonn, seamless, sonar, variants
from tests.ports import reference
from tests.ports.batches import pad, run, speech_rows

LENGTHS = (1, 9, 40)
VERSIONS = {'v1': seamless.SPEECH_V1, 'v2': seamless.SPEECH}


@pytest.fixture(scope='module', params=VERSIONS)
def module(request, tmp_path_factory):
  """Two adaptor layers, no parameter of which is 0 or 1."""
  made = reference.config(request.param, num_adapter_layers=2)
  folder = tmp_path_factory.mktemp(request.param)
  reference.save(folder, made, *reference.encoders(made))
  return reference.port(folder, VERSIONS[request.param])


def leaves(module):
  return {
    '.'.join(map(str, path)): np.asarray(variable[...])
    for path, variable in nnx.to_flat_state(nnx.state(module))
  }


def changed(before, after):
  first, second = leaves(before), leaves(after)
  assert first.keys() == second.keys()
  return {key for key, x in first.items() if (x != second[key]).any()}


def test_redrawn_is_the_adaptor_and_nothing_else(module):
  edited = variants.redrawn(seamless.SPEECH.adaptor).apply(module)
  own = {key for key in leaves(module) if key.startswith('adapter.')}
  assert changed(module, edited) == own
  assert len(own) > 40
  batch = pad(speech_rows(LENGTHS), np.nan, 10)
  before, after = run(module, *batch), run(edited, *batch)
  behind = False
  for tap, (states, mask) in before.items():
    behind |= tap.startswith('speech/adaptor')
    same = np.array_equal(states[mask], after[tap][0][mask])
    assert same != behind, tap
  assert behind


def test_redrawn_is_another_draw_than_that_of_random_weights():
  sizes = seamless.speech_config(reference.config().to_dict())
  module = loading.initialise(seamless.SPEECH.abstract(sizes), 0)
  edited = variants.redrawn(seamless.SPEECH.adaptor).apply(module)
  kernels = {key for key in leaves(module) if key.endswith('.kernel')}
  own = {key for key in kernels if key.startswith('adapter.')}
  assert changed(module, edited) == own
  for key in own:
    old, new = leaves(module)[key], leaves(edited)[key]
    assert abs(np.corrcoef(old.ravel(), new.ravel())[0, 1]) < 0.2, key


def numpy_residual(layer, x):
  """LayerNorm, a convolution of stride 8 with 4 zeros at the ends, GLU."""
  norm, conv = layer.residual_layer_norm, layer.residual_conv
  x = np.asarray(x, np.float64)
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1) + 1e-5)[:, None]
  x = x * np.asarray(norm.scale[...]) + np.asarray(norm.bias[...])
  x = np.pad(x, ((4, 4), (0, 0)))
  kernel = np.asarray(conv.kernel[...], np.float64)
  kernel = kernel.reshape(8, x.shape[1], -1)
  windows = [x[i : i + 8] for i in range(0, len(x) - 7, 8)]
  y = np.einsum('wtd,tdo->wo', windows, kernel) + np.asarray(conv.bias[...])
  a, b = np.split(y, 2, axis=1)
  return a / (1 + np.exp(-b))


def test_residual_is_a_gated_convolution_alone(module):
  edited = variants.residual(seamless.SPEECH.adaptor).apply(module)
  assert changed(module, edited) == {
    f'adapter.layers.{i}.{part}.{leaf}'
    for i in (0, 1)
    for part in ('self_attn.linear_out', 'ffn.output_dense')
    for leaf in ('kernel', 'bias')
  }
  found = run(edited, *pad(speech_rows(LENGTHS), np.nan, 10))
  for row in range(len(LENGTHS)):
    states, mask = found['speech/pre_adaptor']
    x = states[row][mask[row]]
    for i, stage in enumerate(('speech/adaptor/1', 'speech/adaptor')):
      x = numpy_residual(module.adapter.layers[i], x)
      states, mask = found[stage]
      ours = states[row][mask[row]]
      assert reference.relative(ours, x) < 1e-5, stage


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_new_values_are_of_the_old_kind_and_in_the_old_place(dtype):
  sizes = seamless.speech_config(reference.config().to_dict())
  abstract = seamless.SPEECH.abstract(sizes)
  mesh = jax.make_mesh((8,), ('data',))
  spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  module = loading.initialise(abstract, 0, dtype, lambda split: spread)
  for edit in (variants.redrawn, variants.residual):
    edited = edit(seamless.SPEECH.adaptor).apply(module)
    for old, new in zip(
      *(jax.tree.leaves(nnx.state(one)) for one in (module, edited)),
      strict=True,
    ):
      assert (old.dtype, old.shape) == (new.dtype, new.shape)
      assert new.sharding == old.sharding


def test_sonars_adaptor_is_its_pooler():
  sizes = sonar.speech_config(
    {
      'conformer': {'model_dim': 32, 'num_layers': 1, 'ffn_inner_dim': 48},
      'pooler': {'num_layers': 1, 'ffn_inner_dim': 48, 'num_embeddings': 9},
    }
  )
  module = loading.initialise(sonar.SPEECH.abstract(sizes), 0)
  edited = variants.redrawn(sonar.SPEECH.adaptor).apply(module)
  tops = {key.partition('.')[0] for key in changed(module, edited)}
  assert tops == {'pooler'}
  kept = {key.partition('.')[0] for key in leaves(module)} - tops
  assert kept == {'feature_projection', 'encoder'}


@pytest.mark.parametrize('network', [sonar.SPEECH, salmonn.SPEECH])
def test_a_query_carries_nothing_of_the_audio(network):
  with pytest.raises(variants.VariantError, match='same for every utterance'):
    variants.residual(network.adaptor)
