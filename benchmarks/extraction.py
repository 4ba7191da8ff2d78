"""Extraction against PyTorch with the same weights.

    python -m benchmarks.extraction --cases='sonar speech,sonar text'

Encoders of full width and 4 layers, random weights, float32. Speech goes from
waveforms in memory to the mean of every stage, text from token ids; lengths as
in FLEURS (log-normal about 12 s, about 35 tokens), sorted and batched alike on
both sides. PyTorch runs transformers' extractor and encoders (sdpa; SONAR's
pooler is PyTorch's own transformer decoder) with a forward hook that pools each
stage. All cases take forty minutes on two CPU cores.
"""

import os
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
from absl import app, flags

from benchmarks import harness
from jaxrep.types import SAMPLE_RATE

_CASES = flags.DEFINE_list('cases', [], 'Which; empty for all.')
_CLIPS = flags.DEFINE_integer('clips', 8, 'Recordings.')
_SENTENCES = flags.DEFINE_integer('sentences', 48, 'Texts.')
_BATCH = flags.DEFINE_integer('batch', 4, 'Recordings at a time; 4x texts.')
_LAYERS = flags.DEFINE_integer('layers', 4, 'Layers of both encoders.')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Timed calls of each side.')
_RESULTS = flags.DEFINE_string(
  'results', str(harness.RESULTS), 'Folder that the rows are appended to.'
)

TOLERANCE = 1e-4


def main(_) -> None:
  from benchmarks import references

  for name in _CASES.value or references.CASES:
    with tempfile.TemporaryDirectory() as folder:
      references.save(references.CASES[name], folder, _LAYERS.value)
      print(harness.summary(measure(folder, name)))


def measure(folder: str, name: str) -> dict:
  modality = name.split()[-1]
  speech = modality == 'speech'
  count = _CLIPS.value if speech else _SENTENCES.value
  size = _BATCH.value if speech else 4 * _BATCH.value
  batches = workload(modality, count, size)
  arguments = (folder, name, _LAYERS.value)
  calls = {kind: side(*arguments, batches) for kind, side in SIDES.items()}
  lengths = [len(item) for part in batches for item in part]
  case = {
    'model': name.split()[0],
    'modality': modality,
    'layers': _LAYERS.value,
    'width': 1024,
    'dtype': 'float32',
    'items': count,
    'batch': size,
    'seconds' if speech else 'tokens': sum(lengths)
    / (SAMPLE_RATE if speech else 1),
  }
  return harness.write(
    'extraction',
    case,
    harness.compare(calls, agree, _ROUNDS.value, warm_up=1),
    {
      kind: harness.peak_memory(run, kind, *arguments, count, size)
      for kind in SIDES
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
    items = [rng.integers(4, 8000, n).astype(np.int32) for n in lengths]
  items.sort(key=len)
  return [items[i : i + size] for i in range(0, count, size)]


def ours(folder: str, name: str, layers: int, batches: list) -> Callable:
  import jax

  from jaxrep import mesh as meshes
  from jaxrep import opened
  from jaxrep.extract import pooling
  from jaxrep.extract.step import groups, pooled_step
  from jaxrep.inputs import pad

  whose, modality = name.split()
  language = 'eng' if whose == 'sonar' and modality == 'speech' else ''
  model = opened.open_model(whose, modality, folder, language=language)
  mesh = meshes.local_mesh()
  state = model.weights('float32', meshes.placement(mesh))
  rule = pooling.parse('mean')
  step = pooled_step(model.program, rule, 'float32', mesh)
  names = groups(model.taps)

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


def theirs(folder: str, name: str, layers: int, batches: list) -> Callable:
  import torch

  from benchmarks import references

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  case = references.CASES[name]
  model = references.load(case, folder, layers)
  stages = case.stages(model)
  speech = case.modality == 'speech'
  prepare = padded_features() if speech else padded_ids
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


def pool_into(rows: list, lengths: list) -> Callable:
  """A forward hook that keeps the mean over each item's valid states."""
  import torch

  def hook(module, inputs, output):
    states = output[0] if isinstance(output, tuple) else output
    counts = lengths[0]
    if states.shape[1] == 1:  # the pooler's vector
      counts = torch.ones_like(counts)
    elif states.shape[1] < counts.max():  # behind the length adaptor
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


def run(
  kind: str, folder: str, name: str, layers: int, count: int, size: int
) -> None:
  """All that one side does from start to vectors, for `peak_memory`."""
  batches = workload(name.split()[-1], count, size)
  SIDES[kind](folder, name, layers, batches)()


if __name__ == '__main__':
  app.run(main)
