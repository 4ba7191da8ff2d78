"""From the states of an utterance to one vector, in float32."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import layout
from jaxtyping import Array, Bool, Float

from jaxrep.types import InputError
from ports import parallel
from ports.layers import Tap

States = Float[Array, 'batch time dim']
Mask = Bool[Array, 'batch time']
Pooled = Float[Array, 'batch dim']


def mean(states: States, mask: Mask) -> Pooled:
  """The mean over valid steps (the study's), NaN where none is."""
  total = jnp.where(mask[..., None], states, 0).sum(axis=1)
  return total / mask.sum(axis=1)[:, None]


def maximum(states: States, mask: Mask) -> Pooled:
  return jnp.where(mask[..., None], states, -jnp.inf).max(axis=1)


def first(states: States, mask: Mask) -> Pooled:
  return _at(states, jnp.argmax(mask, axis=1))


def last(states: States, mask: Mask) -> Pooled:
  return _at(states, mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1))


def _at(states, index):
  return jnp.take_along_axis(states, index[:, None, None], axis=1)[:, 0]


def _by_row(states: States) -> States:
  """The same, and that its rows are contiguous.

  For a sum over time the compiler for NVIDIA's GPUs would lay time out last,
  and every state of the network with it, whose norms then are of columns.
  """
  rows = layout.Layout(major_to_minor=tuple(range(states.ndim)))
  lie = functools.partial(layout.with_layout_constraint, layouts=rows)
  lie = parallel.over_devices(lie, (parallel.rows(),), parallel.rows())
  return jax.lax.platform_dependent(states, cuda=lie, default=lambda x: x)


class Rule(NamedTuple):
  """What is made of the steps of which of a tap's masks."""

  pool: Callable[[States, Mask], Pooled]
  steps: Literal['mask', 'whole', 'heard']


POOLINGS: Mapping[str, Rule] = {
  'mean': Rule(mean, 'mask'),
  'last': Rule(last, 'mask'),
  'first': Rule(first, 'mask'),
  'max': Rule(maximum, 'mask'),
  'heard': Rule(mean, 'heard'),
  'sequence': Rule(mean, 'whole'),
  'sequence_last': Rule(last, 'whole'),
}


@dataclasses.dataclass(frozen=True)
class Pooling:
  """One rule for all taps, and others for the taps that are named.

  'heard' leaves out steps of silence that audio was filled up with; 'sequence'
  and 'sequence_last' read all of a sequence that the item is a part of. Where a
  tap knows of neither, they read its own steps.
  """

  default: str
  by_tap: tuple[tuple[str, str], ...] = ()

  def check(self, taps: Iterable[str]) -> None:
    """Raises InputError for an exception of a tap that is not among these."""
    known = dict.fromkeys(taps)
    for name, _ in self.by_tap:
      if name not in known:
        raise InputError(
          f'--pooling: there is no tap {name!r}; there are {", ".join(known)}.'
        )

  def vector(self, tap: Tap) -> Pooled:
    """The tap's vectors in float32; NaN where a row has no valid step."""
    rule = POOLINGS[dict(self.by_tap).get(tap.name, self.default)]
    chosen = getattr(tap, rule.steps)
    mask = tap.mask if chosen is None else chosen
    vectors = rule.pool(_by_row(tap.states.astype(jnp.float32)), mask)
    return jnp.where(mask.any(axis=1)[:, None], vectors, jnp.nan)


def parse(text: str) -> Pooling:
  """'mean', or 'mean,speech/adaptor=last': a rule, then exceptions by tap."""
  default, *exceptions = text.split(',')
  by_tap = tuple(tuple(part.split('=', 1)) for part in exceptions)
  rules = [default, *(rule for *_, rule in by_tap)]
  unknown = [rule for rule in rules if rule not in POOLINGS]
  if unknown or any(len(part) != 2 for part in by_tap):
    raise InputError(
      f'--pooling={text}: write a rule, then exceptions as tap=rule; rules are '
      f'{", ".join(POOLINGS)}.'
    )
  return Pooling(default, by_tap)
