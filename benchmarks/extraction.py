"""Extraction against PyTorch with the same weights.

    python -m benchmarks.extraction

SeamlessM4T v2 encoders of full width and 4 layers, random weights, float32.
Speech goes from waveforms in memory to the mean of every stage, text from token
ids; lengths as in FLEURS (log-normal about 12 s, about 35 tokens), sorted and
batched alike on both sides. PyTorch runs transformers' extractor and encoders
(sdpa) with a forward hook that pools each stage. Ten minutes on two CPU cores.
"""

import json
import os
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
from absl import app, flags

from benchmarks import harness
from jaxrep.types import SAMPLE_RATE

_CLIPS = flags.DEFINE_integer('clips', 8, 'Recordings.')
_SENTENCES = flags.DEFINE_integer('sentences', 48, 'Texts.')
_BATCH = flags.DEFINE_integer('batch', 4, 'Recordings at a time; 4x texts.')
_LAYERS = flags.DEFINE_integer('layers', 4, 'Layers of both encoders.')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Timed calls of each side.')
_RESULTS = flags.DEFINE_string(
  'results', str(harness.RESULTS), 'Folder that the rows are appended to.'
)

VOCABULARY = 8000  # the size of the embedding table costs no arithmetic
TOLERANCE = 1e-4


def main(_) -> None:
  with tempfile.TemporaryDirectory() as folder:
    save(folder, _LAYERS.value)
    for modality, count in (
      ('speech', _CLIPS.value),
      ('text', _SENTENCES.value),
    ):
      row = measure(folder, modality, count, _BATCH.value)
      print(harness.summary(row))


def measure(folder: str, modality: str, count: int, batch: int) -> dict:
  size = batch if modality == 'speech' else 4 * batch
  batches = workload(modality, count, size)
  calls = {
    name: side(folder, modality, batches) for name, side in SIDES.items()
  }
  lengths = [len(item) for part in batches for item in part]
  unit = SAMPLE_RATE if modality == 'speech' else 1
  case = {
    'modality': modality,
    'layers': _LAYERS.value,
    'width': 1024,
    'dtype': 'float32',
    'items': count,
    'batch': size,
    'seconds' if modality == 'speech' else 'tokens': sum(lengths) / unit,
  }
  return harness.write(
    'extraction',
    case,
    harness.compare(calls, agree, _ROUNDS.value, warm_up=1),
    {
      name: harness.peak_memory(run, name, folder, modality, count, size)
      for name in SIDES
    },
    pathlib.Path(_RESULTS.value),
  )


def workload(modality: str, count: int, size: int) -> list[list[np.ndarray]]:
  """Items sorted by length, in batches."""
  rng = np.random.default_rng(0)
  spread = np.exp(0.4 * rng.standard_normal(count))
  if modality == 'speech':
    lengths = (np.clip(12 * spread, 2, 40) * SAMPLE_RATE).astype(int)
    items = [0.1 * rng.standard_normal(n) for n in lengths]
    items = [item.astype(np.float32) for item in items]
  else:
    lengths = np.clip(35 * spread, 5, 200).astype(int)
    items = [rng.integers(4, VOCABULARY, n).astype(np.int32) for n in lengths]
  items.sort(key=len)
  return [items[i : i + size] for i in range(0, count, size)]


def config_of(layers: int) -> dict:
  return {
    'model_type': 'seamless_m4t_v2',
    'vocab_size': VOCABULARY,
    'encoder_layers': layers,
    'speech_encoder_layers': layers,
  }


def save(folder: str, layers: int) -> None:
  """A checkpoint of random weights, in the hub's layout, without torch."""
  import jax
  from flax import nnx
  from safetensors.numpy import save_file

  from ports import loading, seamless

  config = config_of(layers)
  path = pathlib.Path(folder)
  (path / 'config.json').write_text(json.dumps(config))
  tensors = {}
  for network, prefix in (
    (seamless.TEXT, 'text_encoder.'),
    (seamless.SPEECH, 'speech_encoder.'),
  ):
    module = loading.initialise(network.abstract(network.config(config)), 0)
    for leaf, (_, value) in zip(
      loading.leaves(module), nnx.to_flat_state(nnx.state(module)), strict=True
    ):
      name = prefix + leaf.key
      if leaf.key.startswith('embed_tokens'):
        name = 'shared.weight'
      tensors[name] = torch_layout(np.asarray(jax.device_get(value[...])), leaf)
  save_file(tensors, path / 'model.safetensors')


def torch_layout(value: np.ndarray, leaf) -> np.ndarray:
  """What the checkpoint holds of a parameter: `Rule.read` undone."""
  if leaf.rule.axes is not None:
    value = value.transpose(np.argsort(leaf.rule.axes))
  if leaf.rule.squeeze is not None:
    value = np.expand_dims(value, leaf.rule.squeeze)
  return np.ascontiguousarray(value)


def ours(folder: str, modality: str, batches: list) -> Callable:
  import jax

  from jaxrep import mesh as meshes
  from jaxrep import models
  from jaxrep.extract import pooling
  from jaxrep.extract.step import groups, pooled_step
  from jaxrep.inputs import pad

  model = models.open_model('seamless-m4t-v2-large', modality, folder)
  mesh = meshes.local_mesh()
  state = model.weights('float32', meshes.replicated(mesh))
  step = pooled_step(model, pooling.parse('mean'), 'float32', mesh)
  names = groups(model)

  def call() -> dict[str, np.ndarray]:
    found = []
    for batch in batches:
      length = -(-len(batch[-1]) // model.inputs.grid) * model.inputs.grid
      padded = pad(batch, len(batch), length, model.inputs.dtype)
      found.append(step(state, *padded))
    found = jax.device_get(found)
    return {
      name: np.concatenate([part[width][:, i] for part in found])
      for width, members in names.items()
      for i, name in enumerate(members)
    }

  return call


def theirs(folder: str, modality: str, batches: list) -> Callable:
  import torch

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  model, stages = reference(folder, modality)
  prepare = padded_features() if modality == 'speech' else padded_ids
  lengths: list = []
  found: dict[str, list] = {name: [] for name in stages}
  for name, module in stages.items():
    module.register_forward_hook(pool_into(found[name], lengths))

  def call() -> dict[str, np.ndarray]:
    for rows in found.values():
      rows.clear()
    with torch.inference_mode():
      for batch in batches:
        inputs, mask = prepare(batch)
        lengths[:] = [mask.sum(1)]
        model(inputs, attention_mask=mask)
    return {name: np.concatenate(rows) for name, rows in found.items()}

  return call


def reference(folder: str, modality: str) -> tuple:
  """The encoder of transformers, and our tap name → its module."""
  from safetensors.torch import load_file
  from transformers import SeamlessM4Tv2Config
  from transformers.models.seamless_m4t_v2 import modeling_seamless_m4t_v2 as hf

  path = pathlib.Path(folder)
  sizes = json.loads((path / 'config.json').read_text())
  config = SeamlessM4Tv2Config(
    **{k: sizes[k] for k in sizes if k != 'model_type'}
  )
  config._attn_implementation = 'sdpa'
  tensors = load_file(path / 'model.safetensors')
  prefix = f'{modality}_encoder.'
  tensors = {
    k.removeprefix(prefix): v for k, v in tensors.items() if prefix in k
  }
  if modality == 'speech':
    model = hf.SeamlessM4Tv2SpeechEncoder(config)
    stages = {
      'speech/embed': model.feature_projection,
      'speech/norm': model.encoder.layer_norm,
      'speech/adaptor': model.adapter,
      'speech/output': model.inner_layer_norm,
    }
    layers = model.encoder.layers
  else:
    model = hf.SeamlessM4Tv2Encoder(config)
    shared = load_file(path / 'model.safetensors')['shared.weight']
    tensors['embed_tokens.weight'] = shared
    stages = {'text/output': model.layer_norm}
    layers = model.layers
  stages |= {f'{modality}/layer_{i:02}': x for i, x in enumerate(layers, 1)}
  model.load_state_dict(tensors)
  return model.eval(), stages


def pool_into(rows: list, lengths: list) -> Callable:
  """A forward hook that keeps the mean over each item's valid states."""
  import torch

  def hook(module, inputs, output):
    states = output[0] if isinstance(output, tuple) else output
    counts = lengths[0]
    if states.shape[1] < counts.max():  # behind the length adaptor
      counts = counts // 8 + 1
    mask = torch.arange(states.shape[1])[None] < counts[:, None]
    total = (states * mask[..., None]).sum(1)
    rows.append((total / counts[:, None]).numpy())

  return hook


def padded_features() -> Callable:
  from transformers import SeamlessM4TFeatureExtractor

  extractor = SeamlessM4TFeatureExtractor()

  def prepare(batch):
    found = extractor(batch, sampling_rate=SAMPLE_RATE, return_tensors='pt')
    return found['input_features'], found['attention_mask']

  return prepare


def padded_ids(batch):
  import torch

  ids = torch.zeros(len(batch), len(batch[-1]), dtype=torch.long)
  for row, item in zip(ids, batch, strict=True):
    row[: len(item)] = torch.tensor(item)
  return ids, (ids != 0).long()


SIDES = {'jaxrep': ours, 'pytorch': theirs}


def agree(ours: dict, theirs: dict) -> dict[str, float]:
  """The worst tap's relative difference; refuses what is not the same.

  Taps behind the adaptor are not compared: the reference's convolutions read
  padded frames there, ours do not.
  """
  errors = {
    name: float(np.abs(ours[name] - x).max() / np.abs(x).max())
    for name, x in theirs.items()
    if name not in ('speech/adaptor', 'speech/output')
  }
  worst = max(errors, key=errors.get)
  if errors[worst] > TOLERANCE:
    raise AssertionError(f'{worst} differs by {errors[worst]:.1e}.')
  return {'worst_tap': errors[worst], 'taps': len(errors)}


def run(name: str, folder: str, modality: str, count: int, size: int) -> None:
  """All that one side does from start to vectors, for `peak_memory`."""
  SIDES[name](folder, modality, workload(modality, count, size))()


if __name__ == '__main__':
  app.run(main)
