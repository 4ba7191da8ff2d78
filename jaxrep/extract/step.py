"""The jitted step: a padded batch in, one pooled vector a tap out."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrep import mesh as meshes
from jaxrep.extract.pooling import Pooling
from jaxrep.opened import Program
from jaxrep.precision import PRECISIONS
from jaxrep.types import Modality
from ports.layers import Tap, TapSpec

# What a CPU reads at a time: more, and what one operation writes has left the
# cache before the next one reads it.
STEPS_A_TURN = 1500
_SAMPLES_A_STEP = 320  # of all speech encoders, about
_WIDEST = 2048  # beyond, reading the weights again costs more than that gives


def groups(taps: Sequence[TapSpec]) -> dict[int, list[str]]:
  """Width → the taps of that width, in layer order."""
  found: dict[int, list[str]] = {}
  for name, dim in taps:
    found.setdefault(dim, []).append(name)
  return found


@functools.lru_cache(maxsize=16)
def pooled_step(
  program: Program,
  pooling: Pooling,
  precision: str,
  mesh: Mesh,
  specials: bool = True,
  turns: bool = True,
) -> Callable[..., dict[int, jax.Array]]:
  """step(state, batch, lengths) → width → float32 [batch, tap, width].

  Frames never leave the device. The batch is dealt over all devices of the
  mesh, so its rows are a multiple of them. `specials=False` leaves the first
  and last token of a text (its language and `</s>`) out of the pooling, but for
  a vector that the model itself makes of all of them; a language model's taps
  are of the text's own tokens in any case. A single CPU takes a few rows after
  the others; `turns=False` makes one program of it, whose operations XLA can
  count. The same arguments give the same step, so encoders that differ in their
  weights alone are compiled once.
  """

  def step(state, batch, lengths):
    pooled = {}
    for tap in _taps(program, precision, state, batch, lengths):
      by_token = program.modality == 'text' and tap.mask.shape == batch.shape
      if by_token and not specials and tap.whole is None:
        tap = tap._replace(mask=tap.mask & inner(tap.mask))
      with jax.named_scope('pooling'):
        pooled[tap.name] = pooling.vector(tap)
    return {
      width: jnp.stack([pooled[name] for name in names], axis=1)
      for width, names in groups(program.taps).items()
    }

  return _jitted(step, program, precision, mesh, turns)


def _taps(
  program: Program,
  precision: str,
  state: Any,
  batch: jax.Array,
  lengths: jax.Array,
) -> tuple[Tap, ...]:
  with jax.default_matmul_precision(PRECISIONS[precision].matmul):
    return program.forward(state, batch, lengths)


def _jitted(
  step: Callable[..., Any],
  program: Program,
  precision: str,
  mesh: Mesh,
  turns: bool = True,
) -> Callable[..., Any]:
  placement, rows = meshes.placement(mesh), meshes.by_row(mesh)
  shapes = program.shapes(precision, placement)
  state = jax.tree.map(lambda leaf: leaf.sharding, shapes)
  widest = max(dim for _, dim in program.taps)
  one_cpu = mesh.size == 1 and mesh.devices.flat[0].platform == 'cpu'
  step = _on(mesh, step)
  if turns and one_cpu and widest <= _WIDEST:
    step = functools.partial(_in_turns, step, program.modality)
  return jax.jit(
    step,
    in_shardings=(state, rows, rows),
    out_shardings=rows,
    compiler_options=options_of(mesh),
  )


def options_of(mesh: Mesh) -> dict[str, bool] | None:
  """What XLA is told beyond its defaults.

  For a GPU it would write dozens of its own products for each of the network's,
  in Triton, compile and try them all: that takes longer than all else, and of
  SeamlessM4T v2's it took cuBLAS' but for one.
  """
  if mesh.devices.flat[0].platform == 'gpu':
    return {'xla_gpu_enable_triton_gemm': False}
  return None


def _on(mesh: Mesh, step: Callable[..., Any]) -> Callable[..., Any]:
  """The step, which may ask what devices its rows are dealt over."""

  @functools.wraps(step)
  def placed(*operands):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return step(*operands)

  return placed


def _in_turns(
  step: Callable[..., Any],
  modality: Modality,
  state: Any,
  batch: jax.Array,
  lengths: jax.Array,
) -> Any:
  """`step` of some rows after the others, as many each time."""
  rows, length = batch.shape
  steps = length if modality == 'text' else length // _SAMPLES_A_STEP
  shares = [n for n in range(1, rows + 1) if rows % n == 0]
  some = max(n for n in shares if n == 1 or n * steps <= STEPS_A_TURN)
  if some == rows:
    return step(state, batch, lengths)
  turns = tuple(x.reshape(-1, some, *x.shape[1:]) for x in (batch, lengths))
  found = jax.lax.map(lambda turn: step(state, *turn), turns)
  return jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), found)


def inner(mask):
  """Valid steps but for the first and the last one of each row."""
  following = jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
  return following.at[:, 0].set(False)


@functools.lru_cache(maxsize=16)
def frames_step(
  program: Program, precision: str, mesh: Mesh
) -> Callable[..., list[tuple[jax.Array, jax.Array]]]:
  """step(state, batch, lengths) → each tap's states and mask, unpooled."""

  def step(state: Any, batch: jax.Array, lengths: jax.Array):
    taps = _taps(program, precision, state, batch, lengths)
    return [(tap.states, tap.mask) for tap in taps]

  return _jitted(step, program, precision, mesh)
