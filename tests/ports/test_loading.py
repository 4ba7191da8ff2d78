"""The loader is total, lazy in memory, and places what it reads."""

import collections
import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from safetensors.torch import load_file, save_file

from jaxrep import models
from ports import configs, loading, nllb, seamless, sonar, w2vbert
from ports.checkpoints import CheckpointError, open_checkpoint
from tests.ports import reference


@pytest.fixture
def folder(tmp_path):
  made = reference.config()
  reference.save(tmp_path, made, *reference.encoders(made), shards=1)
  return tmp_path


def edit(folder, change):
  """Rewrites the checkpoint's one shard."""
  path = folder / 'model-00001-of-00001.safetensors'
  tensors = load_file(path)
  change(tensors)
  save_file(tensors, path)
  weight_map = dict.fromkeys(tensors, path.name)
  index = folder / 'model.safetensors.index.json'
  index.write_text(json.dumps({'weight_map': weight_map}))


def test_a_missing_key_an_extra_key_and_a_wrong_shape(folder):
  prefix = 'speech_encoder.encoder.layers.1'

  def change(tensors):
    del tensors[f'{prefix}.ffn1.output_dense.bias']
    tensors[f'{prefix}.ffn1.output_dense.extra'] = torch.ones(3)
    key = f'{prefix}.conv_module.pointwise_conv1.weight'
    tensors[key] = tensors[key][:, :-1].contiguous()

  edit(folder, change)
  with pytest.raises(CheckpointError) as error:
    reference.port(folder, seamless.SPEECH)
  message = str(error.value)
  assert '3 places' in message
  assert 'encoder.layers.1.ffn1.output_dense.bias: not in' in message
  assert 'ffn1.output_dense.extra: no parameter takes it' in message
  assert 'pointwise_conv1.weight: shape (64, 31, 1) does not fill' in message


def test_an_unknown_part_of_the_checkpoint_is_refused(folder):
  edit(folder, lambda t: t.update({'prosody_encoder.weight': torch.ones(2)}))
  with pytest.raises(CheckpointError, match=r'prosody_encoder\.weight: no'):
    reference.port(folder, seamless.TEXT)


def test_a_tensor_that_cannot_be_read_is_named(folder):
  text = seamless.TEXT
  sizes = text.config(json.loads((folder / 'config.json').read_text()))
  checkpoint = open_checkpoint(folder)
  path = folder / 'model-00001-of-00001.safetensors'
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(CheckpointError, match=rf'^\S+weight: .*{path.name}: has'):
    loading.load(text.abstract(sizes), checkpoint, text.layouts)


def test_config_values_that_are_not_handled_are_listed():
  with pytest.raises(configs.ConfigError) as error:
    seamless.speech_config(
      {'position_embeddings_type': 'rotary', 'new_field': 1, 'dropout': 0.3}
    )
  assert 'position_embeddings_type' in str(error.value)
  assert 'new_field=1: unknown' in str(error.value)
  assert 'dropout' not in str(error.value)
  with pytest.raises(configs.ConfigError, match='adaptor_kernel_size=8'):
    seamless.speech_config({'adaptor_stride': 4})


@pytest.mark.parametrize('version', ['v1', 'v2'])
def test_bfloat16_keeps_norms_in_float32(tmp_path, version):
  made = reference.config(version)
  reference.save(tmp_path, made, *reference.encoders(made))
  network = reference.NETWORKS[version]['speech']
  model = reference.port(tmp_path, network, dtype=jnp.bfloat16)
  kinds = collections.defaultdict(set)
  for path, variable in nnx.to_flat_state(nnx.state(model)):
    kinds[path[-1]].add(str(variable.dtype))
  assert kinds['kernel'] == {'bfloat16'}
  assert kinds['bias'] == {'bfloat16', 'float32'}
  for name in ('scale', 'mean', 'var') if version == 'v1' else ('scale',):
    assert kinds[name] == {'float32'}


def test_parameters_go_to_their_sharding(folder):
  assert jax.device_count() == 8
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  replicated = NamedSharding(mesh, PartitionSpec())
  model = reference.port(
    folder, seamless.TEXT, placement=lambda split: replicated
  )
  kernel = model.layers[0].ffn.fc1.kernel[...]
  assert kernel.sharding == replicated
  alone = reference.port(folder, seamless.TEXT).layers[0].ffn.fc1.kernel[...]
  np.testing.assert_array_equal(kernel, alone)


def test_a_leaf_is_split_over_devices():
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec('data'))
  source = np.arange(64, dtype=np.float32).reshape(4, 16)
  tensor = loading.Tensor((4, 16), source.dtype, lambda: source)
  rule = loading.Rule('weight', (1, 0))
  value = loading.place(tensor, rule, jnp.float32, split)
  assert value.sharding == split
  np.testing.assert_array_equal(value, source.T)


MEDIUM = models.MEDIUM
SHALLOW = {'pooler': {'num_layers': 3}}
# Published, or counted on the reference's class at its released sizes.
RELEASED = {
  'v2 text': (seamless.TEXT, {}, 765_984_768),
  'v2 speech': (seamless.SPEECH, {}, 635_046_720),
  'v1 large text': (seamless.TEXT_V1, {}, 765_984_768),
  'v1 large speech': (seamless.SPEECH_V1, {}, 660_149_568),
  'v1 medium text': (seamless.TEXT_V1, MEDIUM, 413_511_680),
  'v1 medium speech': (seamless.SPEECH_V1, MEDIUM, 357_434_688),
  'sonar text': (sonar.TEXT, {}, 766_091_264),
  'sonar english speech': (sonar.SPEECH, SHALLOW, 658_084_160),
  'sonar other speech': (sonar.SPEECH, {}, 708_474_176),
  # Without masked_spec_embed, a vector for masking in training.
  'w2v-bert-2.0': (w2vbert.SPEECH, {}, 580_493_120 - 1024),
}


@functools.cache
def released(name):
  """The encoder at its released sizes, by shape."""
  network, config, _ = RELEASED[name]
  return network.abstract(network.config(config))


def counted(module):
  """Parameters; the running statistics of batch norms are none."""
  flat = nnx.to_flat_state(nnx.state(module))
  return sum(
    int(np.prod(v.shape)) for p, v in flat if p[-1] not in ('mean', 'var')
  )


@pytest.mark.parametrize('name', RELEASED)
def test_released_sizes_have_the_published_parameter_count(name):
  assert counted(released(name)) == RELEASED[name][2]


NLLB_SIZES = {
  '600M': {},
  '1.3B': {'encoder_layers': 24, 'encoder_ffn_dim': 8192},
  '3.3B': {'d_model': 2048, 'encoder_layers': 24, 'encoder_ffn_dim': 8192},
}


@pytest.mark.parametrize('name', NLLB_SIZES)
def test_every_size_of_nllb_follows_from_its_config(name):
  changes = NLLB_SIZES[name]
  made = transformers.M2M100Config(vocab_size=256_206, **changes)
  with torch.device('meta'):
    encoder = transformers.M2M100Model(made).encoder
  module = nllb.TEXT.abstract(
    nllb.text_config(json.loads(made.to_json_string()))
  )
  assert counted(module) == sum(p.numel() for p in encoder.parameters())


def hub_state(model):
  """The shapes of a checkpoint that the reference's class would save."""
  return {
    key: loading.Tensor(tuple(value.shape), np.dtype(np.float32), None)
    for key, value in model.state_dict().items()
  }


def used(checkpoint, name):
  network = RELEASED[name][0]
  layout = loading.layout_of(checkpoint, network.layouts)
  return loading.match(list(loading.leaves(released(name))), checkpoint, layout)


TIED = ('text_encoder.embed_tokens', 'text_decoder.embed_tokens', 'lm_head')
COUNTER = 'num_batches_tracked'


@pytest.mark.parametrize('version', ['v2', 'v1 large', 'v1 medium'])
def test_released_seamless_keys_fill_the_released_sizes(version):
  """The reference's own names and shapes at full size, by shape alone."""
  changes = MEDIUM if version == 'v1 medium' else {}
  with torch.device('meta'):
    if version == 'v2':
      model = reference.hf.SeamlessM4Tv2Model(reference.SeamlessM4Tv2Config())
    else:
      made = reference.SeamlessM4TConfig(**changes)
      model = reference.hf_v1.SeamlessM4TModel(made)
  checkpoint = {
    key: tensor
    for key, tensor in hub_state(model).items()
    if not key.startswith((*TIED, 't2u_model.lm_head'))
  }
  found = [
    key
    for kind in ('text', 'speech')
    for key in used(checkpoint, f'{version} {kind}').values()
  ]
  encoders = ('shared.', 'text_encoder.', 'speech_encoder.')
  assert sorted(found) == sorted(
    key
    for key in checkpoint
    if key.startswith(encoders) and not key.endswith(COUNTER)
  )


def test_released_nllb_and_w2vbert_keys_fill_the_released_sizes():
  made = transformers.M2M100Config(vocab_size=256_206)
  with torch.device('meta'):
    text = transformers.M2M100ForConditionalGeneration(made)
    speech = transformers.Wav2Vec2BertModel(transformers.Wav2Vec2BertConfig())
  checkpoint = hub_state(text)
  module = nllb.TEXT.abstract(nllb.text_config({'model_type': 'm2m_100'}))
  wanted = list(loading.leaves(module))
  found = loading.match(wanted, checkpoint, nllb.M2M100)
  copy = 'model.encoder.embed_tokens.weight'
  assert set(found.values()) == {
    key
    for key in checkpoint
    if key.startswith(('model.shared', 'model.encoder')) and key != copy
  }
  checkpoint = hub_state(speech)
  found = used(checkpoint, 'w2v-bert-2.0')
  assert set(checkpoint) - set(found.values()) == {'masked_spec_embed'}


@pytest.mark.parametrize(
  'name, tensors',
  [
    ('sonar text', 387),
    ('sonar english speech', 974),
    ('sonar other speech', 1052),
  ],
)
def test_released_sonar_files_have_as_many_tensors(name, tensors):
  """In fairseq2's names; each of 24 batch norms counts training steps."""
  counters = 0 if name == 'sonar text' else 24
  assert len(list(loading.leaves(released(name)))) + counters == tensors


def test_random_weights_depend_on_the_seed_alone():
  sizes = seamless.text_config({**reference.TINY})

  def kernel(seed):
    model = loading.initialise(seamless.TEXT.abstract(sizes), seed)
    return np.asarray(model.layers[2].ffn.fc2.kernel[...])

  np.testing.assert_array_equal(kernel(3), kernel(3))
  assert not np.allclose(kernel(3), kernel(4))
  assert abs(kernel(3).std() * 48**0.5 - 1) < 0.1


MEMORY = """
import sys
import jax, jax.numpy as jnp
from jaxrep import models
from ports import loading, nllb, seamless, sonar, w2vbert
from ports.checkpoints import open_checkpoint
jnp.ones(8).block_until_ready()
sizes = nllb.TextConfig(vocab_size=2000, hidden_size=512, encoder_layers=12,
  encoder_attention_heads=4, encoder_ffn_dim=4096)
abstract = seamless.TEXT.abstract(sizes)
def peak():
  for line in open('/proc/self/status'):
    if line.startswith('VmHWM'):
      return int(line.split()[1]) * 1024
before = peak()
model = loading.load(abstract, open_checkpoint(sys.argv[1]))
print(peak() - before)
"""


def test_loading_takes_the_model_and_one_tensor(tmp_path):
  """Peak host memory of a fresh process that loads a 260 MB checkpoint."""
  sizes = nllb.TextConfig(
    vocab_size=2000,
    hidden_size=512,
    encoder_layers=12,
    encoder_attention_heads=4,
    encoder_ffn_dim=4096,
  )
  abstract = seamless.TEXT.abstract(sizes)
  tensors, total, largest = {}, 0, 0
  for leaf in loading.leaves(abstract):
    shape = leaf.shape[::-1] if leaf.rule.axes else leaf.shape
    tensors[leaf.key] = torch.ones(*shape)
    size = 4 * int(np.prod(shape))
    total, largest = total + size, max(largest, size)
  save_file(tensors, tmp_path / 'model.safetensors')
  del tensors
  result = subprocess.run(
    [sys.executable, '-c', MEMORY, str(tmp_path)],
    capture_output=True,
    text=True,
    check=True,
  )
  used = int(result.stdout)
  # 24 MB for the runtime's own allocations (threads, compiled casts).
  assert used < total + 2 * largest + 24e6, (used, total, largest)
