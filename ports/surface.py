"""What inputs show without any network: controls that run like the encoders.

No parameters, and one stage. Speech is the front end's own frames; text is
counted in n-grams or by its length.

| tap | what it is | compared with |
|---|---|---|
| text/surface | one indicator an n-gram: their mean is a relative frequency | |
| | or one step: how many tokens the text has | |
| speech/surface | a frame as the front end gives it | text/surface |
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ports.configs import read_config
from ports.layers import Tap, TapSpec, one_step
from ports.loading import Network

FIELDS = ('features', 'buckets', 'orders')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Sizes of a frame, and of the table that n-grams of all orders share."""

  features: int
  buckets: int
  orders: tuple[int, ...]
  max_tokens: None = None


def config(given: Mapping[str, Any]) -> Config:
  """From a table of all `FIELDS`; `orders` are the reader's."""
  values = read_config(given, dict.fromkeys(FIELDS), {}, ())
  return Config(**values | {'orders': tuple(values['orders'])})


class Frames(nnx.Module):
  """The front end's frames, as they are."""

  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    pass

  def __call__(
    self,
    features: Float[Array, 'batch time p'],
    mask: Bool[Array, 'batch time'],
  ) -> tuple[Tap, ...]:
    return (Tap('speech/surface', features, mask),)


class Counts(nnx.Module):
  """Token ids as indicators, so that their mean is how often each is there."""

  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    self.buckets = config.buckets

  def __call__(
    self, ids: Int[Array, 'batch time'], mask: Bool[Array, 'batch time']
  ) -> tuple[Tap, ...]:
    """All steps are the text's own: it has no specials to leave out."""
    counts = jax.nn.one_hot(ids, self.buckets)
    return (Tap('text/surface', counts, mask, whole=mask),)


class Length(nnx.Module):
  """How many tokens a text has: one step of one number."""

  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    pass

  def __call__(
    self, ids: Int[Array, 'batch time'], mask: Bool[Array, 'batch time']
  ) -> tuple[Tap, ...]:
    length = mask.sum(axis=1).astype(jnp.float32)
    return (one_step('text/surface', length[:, None, None], mask),)


def frame_taps(sizes: Config, fine: bool = False) -> tuple[TapSpec, ...]:
  return (TapSpec('speech/surface', sizes.features),)


def count_taps(sizes: Config, fine: bool = False) -> tuple[TapSpec, ...]:
  return (TapSpec('text/surface', sizes.buckets),)


def length_taps(sizes: Config, fine: bool = False) -> tuple[TapSpec, ...]:
  return (TapSpec('text/surface', 1),)


def counterparts(text: Config, speech: Config) -> dict[str, str]:
  """Speech stage → the text stage that it is compared with."""
  return {'speech/surface': 'text/surface'}


SPEECH = Network(config, Frames, frame_taps, ())
COUNTS = Network(config, Counts, count_taps, ())
LENGTH = Network(config, Length, length_taps, ())
