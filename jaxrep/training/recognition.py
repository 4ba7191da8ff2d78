"""Phones, recognised half-way up the speech encoder.

CTC (Graves et al., 2006) on the states of an inner layer, as an auxiliary to an
objective on the encoder's output (Sanabria and Metze, 2018). Without it,
contrast had not begun to tell speech apart after 140 steps.
"""

import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from jaxrep.training.networks import valid
from ports.layers import Linear, Tap

TAP = 'speech/layer_02'


class Recogniser(nnx.Module):
  def __init__(self, dim: int, kinds: int, *, rngs: nnx.Rngs):
    self.phone = Linear(dim, kinds + 1, rngs=rngs)

  def __call__(
    self, taps: dict[str, Tap], phones: dict[str, Array]
  ) -> Float[Array, '']:
    """The loss in nats a phone; class 0 is the blank."""
    states, mask = taps[TAP].states, taps[TAP].mask
    ids, lengths = phones['ids'], phones['lengths']
    losses = optax.ctc_loss(
      self.phone(states),
      1.0 - mask,
      ids,
      1.0 - valid(lengths, ids.shape[1]),
    )
    return jnp.mean(losses / jnp.maximum(lengths, 1))
