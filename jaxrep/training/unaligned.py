"""Unaligned: text and speech are trained apart, each with its own objective.

Text: hidden tokens are told from the rest of the sentence (Devlin et al.,
2019). Speech: the codes of hidden steps are told from what is heard around
them (BEST-RQ, Chiu et al., 2022), a code by each state of the conformer, and
the codes of eight steps by each state behind the length adaptor. No parameter
is shared, and neither modality is told what the other holds.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jaxrep.training import batches
from jaxrep.training.batches import Chosen
from jaxrep.training.losses import cross_entropy
from jaxrep.training.material import Material
from jaxrep.training.networks import Networks, valid
from ports.layers import Linear

CODES = 512
HIDDEN_TOKENS = 0.3
HIDDEN_SPANS = 0.25
_CODE_DIM = 16
_WINDOW = 8
_FIRST_PIECE = 4
_NOISE = 0.1


class Head(nnx.Module):
  """From states to the codes of one step, and of the steps of a window."""

  def __init__(self, sizes: Any, kinds: int, *, rngs: nnx.Rngs):
    self.step = Linear(sizes.hidden_size, CODES, rngs=rngs)
    self.window = Linear(sizes.hidden_size, _WINDOW * CODES, rngs=rngs)


def batch(
  material: Material, chosen: Chosen, generator: np.random.Generator
) -> dict[str, Any]:
  """The text is drawn without regard to the speech."""
  spoken = material.training
  rows = len(chosen.sentence)
  counts = np.array([len(one.tokens) for one in spoken])
  language = generator.choice(len(counts), rows, p=counts / counts.sum())
  sentence = generator.integers(counts[language])
  text = batches.text(spoken, language, sentence)
  draw = generator.random(text['ids'].shape)
  hidden = (draw < HIDDEN_TOKENS) & (text['ids'] >= _FIRST_PIECE)
  hidden[:, 0] = False  # the language
  spans = generator.random((rows, chosen.steps // _WINDOW + 1)) < HIDDEN_SPANS
  spans[:, 1:] |= spans[:, :-1].copy()  # two windows long, 320 ms
  return {
    'speech': batches.speech(spoken, chosen),
    'spans': spans,
    'text': text,
    'hidden': hidden,
  }


def loss(
  networks: Networks,
  batch: dict[str, Any],
  key: jax.Array,
  step: Int[Array, ''],
) -> dict[str, Float[Array, '']]:
  """The terms that are summed."""
  del step
  text = batch['text']
  shown = jnp.where(batch['hidden'], batches.UNKNOWN, text['ids'])
  states = networks.read(shown, text['lengths']).states
  logits = states @ networks.text.embed_tokens.embedding[...].T
  return {
    'text': cross_entropy(logits, text['ids'], batch['hidden']),
    **_speech(networks, batch['speech'], batch['spans'], key),
  }


def _speech(
  networks: Networks,
  speech: dict[str, Array],
  spans: Bool[Array, 'row window'],
  key: jax.Array,
) -> dict[str, Float[Array, '']]:
  features, lengths = speech['features'], speech['lengths']
  steps = features.shape[1]
  # Window w of the adaptor stands for the steps 8w - 4 … 8w + 3.
  hidden = jnp.repeat(spans, _WINDOW, axis=1)[:, _WINDOW // 2 :][:, :steps]
  noise = _NOISE * jax.random.normal(key, features.shape)
  shown = jnp.where(hidden[..., None], noise, features)
  taps = networks.hear(shown, lengths)
  told = codes(features)
  wanted = hidden & valid(lengths, steps)
  step = networks.head.step(taps['speech/norm'].states)
  output = taps['speech/output'].states
  window = networks.head.window(output)
  rows, windows = output.shape[:2]
  window = window.reshape(rows, windows * _WINDOW, CODES)[:, _WINDOW // 2 :]
  return {
    'speech': cross_entropy(step, told, wanted),
    'speech-window': cross_entropy(window[:, :steps], told, wanted),
  }


def codes(
  features: Float[Array, 'row step 160'],
) -> Int[Array, 'row step']:
  """The nearest of random unit vectors to a random projection of each step."""
  generator = np.random.default_rng(0)
  projection = generator.normal(size=(features.shape[-1], _CODE_DIM))
  book = generator.normal(size=(CODES, _CODE_DIM))
  book /= np.linalg.norm(book, axis=1, keepdims=True)
  projected = features @ jnp.asarray(projection, jnp.float32)
  return jnp.argmax(projected @ jnp.asarray(book.T, jnp.float32), axis=-1)
