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
  from benchmarks import references

  modality = name.split()[-1]
  speech = modality == 'speech'
  count = _CLIPS.value if speech else _SENTENCES.value
  size = _BATCH.value if speech else 4 * _BATCH.value
  batches = workload(name, count, size)
  arguments = (folder, name, _LAYERS.value)
  calls = {kind: side(*arguments, batches) for kind, side in SIDES.items()}
  lengths = [len(item) for part in batches for item in part]
  case = {
    'model': name.split()[0],
    'modality': modality,
    'layers': _LAYERS.value,
    'width': references.CASES[name].width,
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


def workload(name: str, count: int, size: int) -> list[list[np.ndarray]]:
  """Items sorted by length, in batches.

  BEATs' clips are as long as Whisper reads: its reference has no mask.
  """
  rng = np.random.default_rng(0)
  spread = np.exp(0.4 * rng.standard_normal(count))
  model, modality = name.split()
  if modality == 'speech' and model.startswith(('beats', 'salmonn')):
    clips = 0.1 * rng.standard_normal((count, 30 * SAMPLE_RATE))
    items = list(clips.astype(np.float32))
  elif modality == 'speech':
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
  prepare = case.inputs()
  masks: dict = {}
  found: dict[str, list] = {name: [] for name in stages}
  for name, module in stages.items():
    module.register_forward_hook(pool_into(found[name], masks))

  def call() -> dict[str, np.ndarray]:
    for rows in found.values():
      rows.clear()
    with torch.inference_mode():
      for batch in batches:
        arguments, steps = prepare(batch)
        masks.clear()
        masks.update(steps)
        model(**arguments)
    return {name: np.concatenate(rows) for name, rows in found.items()}

  return call


def pool_into(rows: list, masks: dict) -> Callable:
  """A forward hook that keeps the mean over each item's valid states.

  `masks` are by the number of steps; of one step or with no mask all count.
  """

  def hook(module, inputs, output):
    states = output[0] if isinstance(output, tuple) else output
    mask = masks.get(states.shape[1])
    if mask is None or states.shape[1] == 1:
      pooled = states.mean(1)
    else:
      total = (states * mask[..., None]).sum(1)
      pooled = total / mask.sum(1)[:, None]
    rows.append(pooled.numpy())

  return hook


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
  batches = workload(name, count, size)
  SIDES[kind](folder, name, layers, batches)()


if __name__ == '__main__':
  app.run(main)
