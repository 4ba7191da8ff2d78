"""Who extracts: jaxrep, PyTorch at its best, PyTorch as people run it.

| | batches | layers | stages |
|---|---|---|---|
| jaxrep | sorted, a few lengths | one program | pooled in it |
| best | the same shapes | sdpa, `torch.compile`, a graph each | by hooks |
| eager | as they come | as they are | `output_hidden_states`, pooled after |

Each side is a function of `Work` that gets ready and returns a call: items in
memory → stage → float32 [item, width]. Each imports its own libraries, so that
these count in its memory alone. PyTorch runs on a GPU where it finds one.
"""

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxrep.types import SAMPLE_RATE

Vectors = dict[str, np.ndarray]

# Padded lengths are multiples of it; what reads 30 s always pads to that.
GRID = {'speech': 2 * SAMPLE_RATE, 'text': 16}


class Work(NamedTuple):
  """An encoder of `references.CASES`, saved in `folder`, and what it reads.

  Where features are `given`, PyTorch has them on its device from before: it
  makes none itself, and no call waits for them.
  """

  name: str
  folder: str
  layers: int
  dtype: str
  count: int
  size: int
  given: bool = False

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
      name: in_order(
        batches, np.concatenate([part[width][:, i] for part in found])
      )
      for width, members in names.items()
      for i, name in enumerate(members)
    }

  return call


def opened(work: Work):
  """The model, without weights."""
  from jaxrep.opened import open_model

  language = 'eng' if work.name == 'sonar speech' else ''
  return open_model(work.model, work.modality, work.folder, language=language)


def engine(work: Work):
  """The model, its weights and the jitted step on this process' devices."""
  from jaxrep import mesh as meshes
  from jaxrep.extract import pooling
  from jaxrep.extract.step import pooled_step

  model, mesh = opened(work), meshes.local_mesh()
  state = model.weights(work.dtype, meshes.placement(mesh))
  rule = pooling.parse('mean')
  return model, state, pooled_step(model.program, rule, work.dtype, mesh)


def padding(work: Work, inputs) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Sorted batches, padded."""
  from jaxrep.inputs import pad

  items = items_of(work)
  for batch in work.batches(by_length=True):
    part = [items[i] for i in batch]
    yield pad(part, len(batch), length_of(work, inputs, batch), inputs.dtype)


def length_of(work: Work, inputs, batch: list[int]) -> int:
  return -(-work.padded_length(batch) // inputs.grid) * inputs.grid


def operations(work: Work) -> float:
  """GFLOP of all items, as XLA counts them in the form for accelerators."""
  from jaxrep.extract.cost import flops_of
  from jaxrep.extract.plan import Options

  model = opened(work)
  shapes = (
    (len(batch), length_of(work, model.inputs, batch))
    for batch in work.batches(by_length=True)
  )
  return sum(flops_of(model, Options(), *shape) for shape in shapes) / 1e9


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
  if where() == 'cpu':
    torch._inductor.config.compile_threads = 1  # leaves no processes behind
  pool = torch.compile(pooled, dynamic=False)
  for name, module in stages.items():
    if isinstance(module, tuple(type(x) for x in layers_of(stages))):
      module.forward = torch.compile(module.forward, dynamic=False)
    module.register_forward_hook(pool_into(found[name], masks, pool))
  batches = work.batches(by_length=True)
  feed = prepared(work, prepare, batches, masks, bucketed=True)

  def call() -> Vectors:
    for rows in found.values():
      rows.clear()
    with torch.inference_mode():
      for arguments in feed():
        model(**arguments)
      return {
        name: in_order(batches, fetched(rows)) for name, rows in found.items()
      }

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
  feed = prepared(work, prepare, batches, masks)

  def call() -> Vectors:
    found: dict[str, list] = {}
    with torch.inference_mode():
      for arguments in feed():
        held.clear()
        if case.lists_states:
          output = model(**arguments, output_hidden_states=True)
          states = enumerate(output.hidden_states)
          held.update({f'hidden_{i:02}': x for i, x in states})
        else:
          model(**arguments)
        for name, states in held.items():
          mask = masks.get(states.shape[1])
          found.setdefault(name, []).append(pooled(states, mask))
      return {
        name: in_order(batches, fetched(rows)) for name, rows in found.items()
      }

  return call


SIDES = {'jaxrep': jaxrep, 'best': best, 'eager': eager}


def run(kind: str, work: Work) -> None:
  """All that one side does from start to vectors, for `peak_memory`."""
  SIDES[kind](work)()


def where() -> str:
  """The device that PyTorch runs on, of the kind that JAX has.

  Raises:
    RuntimeError: Only PyTorch has a GPU.
  """
  import torch

  if not torch.cuda.is_available():
    return 'cpu'
  import jax

  if jax.default_backend() != 'gpu':
    raise RuntimeError(
      "PyTorch has a GPU and JAX has none: they can't compare."
    )
  return 'cuda'


def held() -> int:
  """Bytes of PyTorch's tensors on the GPU."""
  import torch

  return torch.cuda.memory_allocated()


def gpu_peaks(
  calls: Mapping[str, Callable[[], Any]], weights: Mapping[str, int]
) -> dict[str, float]:
  """MB that each side takes of the GPU, with its weights and what it is given.

  jaxrep's is the most since the process began, as XLA reports it, the search
  for the best kernels included; PyTorch's that of a call when all is compiled.

  Args:
    weights: bytes that PyTorch's sides hold between calls.
  """
  import jax
  import torch

  stats = jax.local_devices()[0].memory_stats()
  peaks = {'jaxrep': stats['peak_bytes_in_use'] / 1e6}
  for kind, bytes_held in weights.items():
    torch.cuda.reset_peak_memory_stats()
    before = held()
    calls[kind]()
    more = torch.cuda.max_memory_allocated() - before
    peaks[kind] = (bytes_held + more) / 1e6
  return peaks


def reference(work: Work):
  """The module with its weights, what prepares its inputs, and its case."""
  import torch

  from benchmarks import references

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  case = references.CASES[work.name]
  model = references.load(case, work.folder, work.layers, work.dtype)
  return model.to(where()), case.inputs(), case


def prepared(
  work: Work,
  prepare: Callable,
  batches: list[list[int]],
  masks: dict,
  bucketed: bool = False,
) -> Callable[[], Iterator[dict]]:
  """Yields each batch's arguments; its masks are in `masks` by then."""
  items = items_of(work)

  def made(batch: list[int]) -> tuple[dict, dict]:
    length = work.padded_length(batch) if bucketed else None
    arguments, steps = prepare([items[i] for i in batch], length)
    return placed(arguments, work.dtype), placed(steps)

  before = [made(batch) for batch in batches] if work.given else None

  def feed() -> Iterator[dict]:
    for arguments, steps in before or map(made, batches):
      masks.clear()
      masks.update(steps)
      yield arguments

  return feed


def placed(tensors: dict, dtype: str | None = None) -> dict:
  """On PyTorch's device; real numbers in this dtype."""
  import torch

  def put(x):
    real = dtype and x.is_floating_point()
    return x.to(where(), getattr(torch, dtype) if real else None)

  return {name: put(x) for name, x in tensors.items()}


def layers_of(stages: dict) -> list:
  return [module for name, module in stages.items() if 'layer_' in name]


def pool_into(rows: list, masks: dict, pool: Callable) -> Callable:
  """A forward hook that keeps the mean over each item's valid states."""

  def hook(module, inputs, output):
    states = first(output)
    rows.append(pool(states, masks.get(states.shape[1])))

  return hook


def hold_in(held: dict, name: str) -> Callable:
  def hook(module, inputs, output):
    held[name] = first(output)

  return hook


def first(output):
  return output[0] if isinstance(output, tuple) else output


def pooled(states, mask):
  """`mask` is of the steps that count; without one, or of one step, all do."""
  states = states.float()
  if mask is None or states.shape[1] == 1:
    return states.mean(1)
  total = (states * mask[..., None]).sum(1)
  return total / mask.sum(1)[:, None]


def fetched(rows: list) -> np.ndarray:
  """The batches' rows under each other, in the host's memory."""
  import torch

  return torch.cat(rows).cpu().numpy()


def in_order(batches: list[list[int]], rows: np.ndarray) -> np.ndarray:
  """The batches' rows, as the items come."""
  return rows[np.argsort(np.concatenate(batches))]
