"""Aligned: a sentence's text, translation and speech are drawn together.

The means of the encoders' outputs are compared by InfoNCE (van den Oord et al.,
2018) in both directions: text with its translation, speech with its text, and
speech with the translation. Each is told from the batch's other sentences.
Beside it phones are recognised.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxrep.training import batches
from jaxrep.training.batches import Chosen
from jaxrep.training.losses import info_nce
from jaxrep.training.material import Material
from jaxrep.training.networks import Networks, mean
from jaxrep.training.recognition import Recogniser

_PHONES_FIRST = 150
"""Steps before speech is compared, and again until that counts in full."""


class Head(nnx.Module):
  def __init__(self, sizes: Any, kinds: int, *, rngs: nnx.Rngs):
    self.recogniser = Recogniser(sizes.hidden_size, kinds, rngs=rngs)


def batch(
  material: Material, chosen: Chosen, generator: np.random.Generator
) -> dict[str, Any]:
  return {
    **batches.parallel(material, chosen, generator),
    'sentence': chosen.sentence,
  }


def loss(
  networks: Networks,
  batch: dict[str, Any],
  key: jax.Array,
  step: Int[Array, ''],
) -> dict[str, Float[Array, '']]:
  """The terms that are summed."""
  del key  # nothing is random but the batch
  taps = networks.hear(**batch['speech'])
  text, translation = (
    _direction(mean(networks.read(**batch[name])))
    for name in ('text', 'translation')
  )
  heard = _direction(mean(taps['speech/output']))
  sentence = batch['sentence']
  listening = jnp.clip((step - _PHONES_FIRST) / _PHONES_FIRST, 0, 1)
  return {
    'text-translation': info_nce(text, translation, sentence),
    'speech-text': listening * info_nce(heard, text, sentence),
    'speech-translation': listening * info_nce(heard, translation, sentence),
    'phones': networks.head.recogniser(taps, batch['phones']),
  }


def _direction(x: Float[Array, 'row dim']) -> Float[Array, 'row dim']:
  """Rows from the mean of the batch, at length 1 unless they are short."""
  centred = x - x.mean(axis=0)
  square = jnp.sum(centred * centred, axis=1, keepdims=True)
  return centred * jax.lax.rsqrt(square + 1.0)
