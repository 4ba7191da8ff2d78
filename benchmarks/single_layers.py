"""One layer of each network against PyTorch's, with the same weights and input.

    python -m benchmarks.single_layers --dtypes=float32,bfloat16

The input is what the reference's first layer gets of items of equal length, so
that nothing is padding. `best` is the layer under `torch.compile`.
"""

import tempfile
from collections.abc import Callable

import numpy as np
from absl import app, flags

from benchmarks import harness
from benchmarks.sides import Work, engine, first, placed, reference
from jaxrep import memory
from jaxrep.types import SAMPLE_RATE

_DTYPES = flags.DEFINE_list('dtypes', ['float32'], 'Of weights and states.')
_CASES = flags.DEFINE_list('cases', [], 'Which; empty for all.')
_BATCH = flags.DEFINE_integer('batch', 4, 'Clips at a time; 4x texts.')
_SECONDS = flags.DEFINE_integer('seconds', 12, 'Length of a clip.')
_TOKENS = flags.DEFINE_integer('tokens', 40, 'Length of a text.')
_ROUNDS = flags.DEFINE_integer('rounds', 9, 'Timed calls of each side.')

TOLERANCE = {'float32': 1e-4, 'bfloat16': 3e-2}


def conformer_layer(module, x, mask):
  from ports import conformer
  from ports.layers import relative_sinusoid

  own = module.encoder
  positions = None
  if own.config.batch_norm:
    positions = relative_sinusoid(*x.shape[1:]).astype(x.dtype)
  allowed = conformer.allowed_keys(own.config, mask)
  return own.layers[0](x, mask, allowed, positions)[-1][1]


CALLS: dict[str, Callable] = {
  'seamless-m4t-v2-large speech': conformer_layer,
  'seamless-m4t-v1-large speech': conformer_layer,
  'nllb-200-600m text': lambda module, x, mask: module.layers[0](x, mask)[1],
  'whisper-large-v2 speech': lambda module, x, mask: module.layers[0](x)[1],
  'beats speech': lambda module, x, mask: module.encoder.layers[0](
    x, mask, module.encoder.bias(x.shape[1])
  )[1],
  'vicuna-7b-v1.5 text': lambda module, x, mask: module.layers[0](x, mask)[1],
}


def main(_) -> None:
  from benchmarks import references

  for name in harness.chosen(_CASES.value, CALLS):
    with tempfile.TemporaryDirectory() as folder:
      references.save(references.CASES[name], folder, 1, _DTYPES.value)
      for dtype in _DTYPES.value:
        print(harness.summary(measure(Work(name, folder, 1, dtype, 0, 0))))


def measure(work: Work) -> dict:
  import torch

  layer, arguments, named = captured(work)
  x = arguments[0] if arguments else named['hidden_states']
  shape = dict(zip(('batch', 'time', 'width'), x.shape, strict=True))

  def eager():
    with torch.inference_mode():
      return done(first(layer(*arguments, **named)))

  compiled = torch.compile(layer.forward, dynamic=False)

  def best():
    with torch.inference_mode():
      return done(first(compiled(*arguments, **named)))

  return harness.write(
    'single_layers',
    {'network': work.name, 'dtype': work.dtype, **shape},
    harness.compare(
      {'jaxrep': ours(work, x), 'best': best, 'eager': eager},
      agreement(TOLERANCE[work.dtype]),
      _ROUNDS.value,
    ),
    {},
  )


def done(states):
  """The same, when the device has made them."""
  import torch

  if states.is_cuda:
    torch.cuda.synchronize()
  return states


def captured(work: Work):
  """The reference's first layer, and the arguments that it is called with."""
  import torch

  torch._inductor.config.compile_threads = 1  # leaves no processes behind
  model, prepare, case = reference(work)
  (layer,) = (x for n, x in case.stages(model).items() if 'layer_01' in n)
  seen = []
  hook = layer.register_forward_pre_hook(
    lambda module, arguments, named: seen.append((arguments, named)),
    with_kwargs=True,
  )
  given, _ = prepare(items(work), None)
  with torch.inference_mode():
    model(**placed(given, work.dtype))
  hook.remove()
  return layer, *seen[0]


def items(work: Work) -> list[np.ndarray]:
  rng = np.random.default_rng(0)
  if work.modality == 'text':
    ids = rng.integers(4, 8000, (4 * _BATCH.value, _TOKENS.value))
    return list(ids.astype(np.int32))
  clips = rng.standard_normal((_BATCH.value, _SECONDS.value * SAMPLE_RATE))
  return list((0.1 * clips).astype(np.float32))


def ours(work: Work, x) -> Callable:
  import jax
  import jax.numpy as jnp
  from flax import nnx

  from jaxrep.precision import PRECISIONS

  model, state, _ = engine(work)
  graphdef = nnx.graphdef(model.program.abstract)
  states = jnp.asarray(x.float().cpu().numpy(), work.dtype)
  mask = jnp.ones(states.shape[:2], bool)

  @jax.jit
  def run(state, states, mask):
    with jax.default_matmul_precision(PRECISIONS[work.dtype].matmul):
      return CALLS[work.name](nnx.merge(graphdef, state), states, mask)

  return lambda: run(state, states, mask).block_until_ready()


def agreement(tolerance: float) -> Callable[..., dict[str, float]]:
  def agree(ours, best, eager) -> dict[str, float]:
    ours = np.asarray(ours, np.float32)
    found = {}
    for name, theirs in {'best': best, 'eager': eager}.items():
      theirs = theirs.float().cpu().numpy()
      found[name] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
      if found[name] > tolerance:
        raise AssertionError(f'{name} differs by {found[name]:.1e}.')
    return found

  return agree


if __name__ == '__main__':
  memory.take_large_pages()
  app.run(main)
