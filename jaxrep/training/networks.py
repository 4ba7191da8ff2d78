"""The encoders in training, and what a recipe trains beside them."""

import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jaxrep.data.sentences import BUNDLED
from ports import loading, seamless
from ports.layers import Tap

CONTROL = BUNDLED / 'models' / 'tiny-untrained'
Params = dict[str, Array]


def architecture() -> dict[str, Any]:
  """The config.json of the untrained control, which all trained models have."""
  return json.loads((CONTROL / 'config.json').read_text())


class Networks(nnx.Module):
  """Both encoders, and the recipe's own `head`, which knows `kinds` of phones.

  With seed 0 the encoders begin as the untrained control.
  """

  def __init__(self, head: Callable[..., nnx.Module], kinds: int, seed: int):
    config = architecture()
    sizes = seamless.text_config(config)
    text = seamless.TEXT.abstract(sizes)
    speech = seamless.SPEECH.abstract(seamless.speech_config(config))
    own = nnx.eval_shape(lambda: head(sizes, kinds, rngs=nnx.Rngs(0)))
    self.text = loading.initialise(text, seed)
    self.speech = loading.initialise(speech, seed)
    self.head = loading.initialise(own, seed)

  def read(
    self, ids: Int[Array, 'batch token'], lengths: Int[Array, ' batch']
  ) -> Tap:
    """The text encoder's output."""
    return self.text(ids, valid(lengths, ids.shape[1]))[-1]

  def hear(
    self,
    features: Float[Array, 'batch step 160'],
    lengths: Int[Array, ' batch'],
  ) -> dict[str, Tap]:
    """Every tap of the speech encoder."""
    taps = self.speech(features, valid(lengths, features.shape[1]))
    return {tap.name: tap for tap in taps}


def valid(
  lengths: Int[Array, ' batch'], size: int
) -> Bool[Array, 'batch {size}']:
  return jnp.arange(size) < lengths[:, None]


def mean(tap: Tap) -> Float[Array, 'batch dim']:
  """Over the valid steps, as it is pooled when the model is analysed."""
  mask = tap.mask[..., None]
  return jnp.sum(tap.states * mask, axis=1) / jnp.maximum(mask.sum(axis=1), 1)


def split(
  networks: nnx.Module,
) -> tuple[Params, Callable[[Params], nnx.Module]]:
  """The parameters by name, and what makes networks of such again."""
  graphdef, state = nnx.split(networks)
  variables = {
    '.'.join(map(str, p)): (p, v) for p, v in nnx.to_flat_state(state)
  }

  def merged(params: Params) -> nnx.Module:
    flat = [
      (path, variable.replace(params[name]))
      for name, (path, variable) in variables.items()
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(flat))

  params = {
    name: jax.numpy.asarray(v[...]) for name, (_, v) in variables.items()
  }
  return params, merged
