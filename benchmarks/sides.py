"""Who extracts: jaxrep, PyTorch at its best, PyTorch as people run it.

| | batches | layers | stages |
|---|---|---|---|
| jaxrep | sorted, a few lengths | one program | pooled in it |
| best | the same shapes | sdpa, `torch.compile`, a graph each | by hooks |
| eager | as they come | as they are | `output_hidden_states`, pooled after |

Each side is a function of `Work` that gets ready and returns a call: items in
memory → stage → float32 [item, width]. Each imports its own libraries, so that
these count in its memory alone.
"""

import functools
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jaxrep.types import SAMPLE_RATE

Vectors = dict[str, np.ndarray]

# Padded lengths are multiples of it; what reads 30 s always pads to that.
GRID = {'speech': 2 * SAMPLE_RATE, 'text': 16}


class Work(NamedTuple):
  """An encoder of `references.CASES`, saved in `folder`, and what it reads."""

  name: str
  folder: str
  layers: int
  dtype: str
  count: int
  size: int

  @property
  def model(self) -> str:
    return self.name.split()[0]

  @property
  def modality(self) -> str:
    return self.name.split()[-1]

  def batches(self, by_length: bool) -> list[list[int]]:
    """Which items go together."""
    items = items_of(self)
    order = list(range(len(items)))
    if by_length:
      order.sort(key=lambda i: len(items[i]))
    return [order[i : i + self.size] for i in range(0, len(order), self.size)]

  def padded_length(self, batch: list[int]) -> int:
    longest = max(len(items_of(self)[i]) for i in batch)
    grid = GRID[self.modality]
    return -(-longest // grid) * grid


@functools.lru_cache(maxsize=2)
def items_of(work: Work) -> list[np.ndarray]:
  """Waveforms or token ids of lengths as in FLEURS, in random order.

  BEATs' clips are as long as Whisper reads: its reference has no mask.
  """
  rng = np.random.default_rng(0)
  spread = np.exp(0.4 * rng.standard_normal(work.count))
  if work.modality == 'text':
    lengths = np.clip(35 * spread, 5, 200).astype(int)
    return [rng.integers(4, 8000, n).astype(np.int32) for n in lengths]
  seconds = np.clip(12 * spread, 2, 40)
  if work.model.startswith(('beats', 'salmonn')):
    seconds = np.full(work.count, 30)
  lengths = (seconds * SAMPLE_RATE).astype(int)
  return [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in lengths]


def jaxrep(work: Work) -> Callable[[], Vectors]:
  import jax

  from jaxrep.extract.step import groups

  model, state, step = engine(work)
  names = groups(model.taps)
  batches = work.batches(by_length=True)

  def call() -> Vectors:
    found = [step(state, *padded) for padded in padding(work, model.inputs)]
    found = jax.device_get(found)
    return {
      name: in_order(batches, [part[width][:, i] for part in found])
      for width, members in names.items()
      for i, name in enumerate(members)
    }

  return call


def engine(work: Work, turns: bool = True):
  """The model, its weights and the jitted step on this process' devices."""
  from jaxrep import mesh as meshes
  from jaxrep import opened
  from jaxrep.extract import pooling
  from jaxrep.extract.step import pooled_step

  language = 'eng' if work.name == 'sonar speech' else ''
  model = opened.open_model(
    work.model, work.modality, work.folder, language=language
  )
  mesh = meshes.local_mesh()
  state = model.weights(work.dtype, meshes.placement(mesh))
  step = pooled_step(
    *(model.program, pooling.parse('mean'), work.dtype, mesh), turns=turns
  )
  return model, state, step


def padding(work: Work, inputs) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Sorted batches, padded."""
  from jaxrep.inputs import pad

  items = items_of(work)
  for batch in work.batches(by_length=True):
    length = -(-work.padded_length(batch) // inputs.grid) * inputs.grid
    part = [items[i] for i in batch]
    yield pad(part, len(batch), length, inputs.dtype)


def operations(work: Work) -> float:
  """GFLOP of all items, as XLA counts them in the form for accelerators."""
  model, state, step = engine(work, turns=False)
  total = 0.0
  for padded in padding(work, model.inputs):
    lowered = step.trace(state, *padded).lower(lowering_platforms=('cuda',))
    total += lowered.cost_analysis()['flops']
  return total / 1e9


def best(work: Work) -> Callable[[], Vectors]:
  import torch
  import torch._inductor.config

  model, prepare, case = reference(work)
  masks: dict = {}
  stages = case.stages(model)
  found: dict[str, list] = {name: [] for name in stages}
  os.environ['TORCHINDUCTOR_CACHE_DIR'] = f'{work.folder}/{work.dtype}'
  torch._dynamo.config.recompile_limit = 64  # a graph a shape
  torch._dynamo.config.fail_on_recompile_limit_hit = True
  torch._inductor.config.compile_threads = 1  # leaves no processes behind
  for name, module in stages.items():
    if isinstance(module, tuple(type(x) for x in layers_of(stages))):
      module.forward = torch.compile(module.forward, dynamic=False)
    module.register_forward_hook(pool_into(found[name], masks))
  batches = work.batches(by_length=True)

  def call() -> Vectors:
    for rows in found.values():
      rows.clear()
    for arguments in prepared(work, prepare, batches, masks, bucketed=True):
      with torch.inference_mode():
        model(**arguments)
    return {name: in_order(batches, rows) for name, rows in found.items()}

  return call


def eager(work: Work) -> Callable[[], Vectors]:
  """All states of a batch are held, then pooled.

  Modules that have no `output_hidden_states` keep them by hooks.
  """
  import torch

  model, prepare, case = reference(work)
  masks: dict = {}
  held: dict[str, torch.Tensor] = {}
  if not case.lists_states:
    for name, module in case.stages(model).items():
      module.register_forward_hook(hold_in(held, name))
  batches = work.batches(by_length=False)

  def call() -> Vectors:
    found: dict[str, list] = {}
    for arguments in prepared(work, prepare, batches, masks):
      held.clear()
      with torch.inference_mode():
        if case.lists_states:
          output = model(**arguments, output_hidden_states=True)
          states = enumerate(output.hidden_states)
          held.update({f'hidden_{i:02}': x for i, x in states})
        else:
          model(**arguments)
        for name, states in held.items():
          found.setdefault(name, []).append(pooled(states, masks))
    return {name: in_order(batches, rows) for name, rows in found.items()}

  return call


SIDES = {'jaxrep': jaxrep, 'best': best, 'eager': eager}


def run(kind: str, work: Work) -> None:
  """All that one side does from start to vectors, for `peak_memory`."""
  SIDES[kind](work)()


def reference(work: Work):
  """The module with its weights, what prepares its inputs, and its case."""
  import torch

  from benchmarks import references

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  case = references.CASES[work.name]
  model = references.load(case, work.folder, work.layers, work.dtype)
  return model, case.inputs(), case


def prepared(
  work: Work,
  prepare: Callable,
  batches: list[list[int]],
  masks: dict,
  bucketed: bool = False,
) -> Iterator[dict]:
  """Each batch's arguments; its masks are in `masks` by then."""
  import torch

  dtype, items = getattr(torch, work.dtype), items_of(work)
  for batch in batches:
    length = work.padded_length(batch) if bucketed else None
    arguments, steps = prepare([items[i] for i in batch], length)
    masks.clear()
    masks.update(steps)
    yield {
      name: x.to(dtype) if x.is_floating_point() else x
      for name, x in arguments.items()
    }


def layers_of(stages: dict) -> list:
  return [module for name, module in stages.items() if 'layer_' in name]


def pool_into(rows: list, masks: dict) -> Callable:
  """A forward hook that keeps the mean over each item's valid states."""

  def hook(module, inputs, output):
    rows.append(pooled(first(output), masks))

  return hook


def hold_in(held: dict, name: str) -> Callable:
  def hook(module, inputs, output):
    held[name] = first(output)

  return hook


def first(output):
  return output[0] if isinstance(output, tuple) else output


def pooled(states, masks: dict) -> np.ndarray:
  """`masks` are by the number of steps; of one or without a mask all count."""
  mask = masks.get(states.shape[1])
  states = states.float()
  if mask is None or states.shape[1] == 1:
    return states.mean(1).numpy()
  total = (states * mask[..., None]).sum(1)
  return (total / mask.sum(1)[:, None]).numpy()


def in_order(batches: list[list[int]], rows: list[np.ndarray]) -> np.ndarray:
  """The batches' rows, as the items come."""
  return np.concatenate(rows)[np.argsort(np.concatenate(batches))]
