"""From the states of an utterance to one vector, in float32."""

import dataclasses
from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrep.types import InputError

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


POOLINGS: Mapping[str, Callable[[States, Mask], Pooled]] = {
  'mean': mean,
  'last': last,
  'first': first,
  'max': maximum,
}


@dataclasses.dataclass(frozen=True)
class Pooling:
  """One rule for all taps, and others for the taps that are named."""

  default: str
  by_tap: tuple[tuple[str, str], ...] = ()

  def of(self, tap: str) -> Callable[[States, Mask], Pooled]:
    """The rule of a tap; NaN where a row has no valid step."""
    pool = POOLINGS[dict(self.by_tap).get(tap, self.default)]

    def pooled(states: States, mask: Mask) -> Pooled:
      vectors = pool(states.astype(jnp.float32), mask)
      return jnp.where(mask.any(axis=1)[:, None], vectors, jnp.nan)

    return pooled


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
