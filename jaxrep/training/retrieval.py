"""How well sentences are found by the encoders' mean outputs."""

import functools
import itertools
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32

from jaxrep.training import batches
from jaxrep.training.batches import Chosen
from jaxrep.training.material import Spoken
from jaxrep.training.networks import Networks, mean

Vectors = dict[tuple[str, str], Float32[np.ndarray, 'sentence dim']]


def judge(networks: Networks, spoken: tuple[Spoken, ...]) -> dict[str, float]:
  """Mean R@1 over all pairs of sides, in both directions.

  `text-speech` is within a language, `text` and `speech` between two.
  """
  vectors = embed(networks, spoken)
  found: dict[str, list[float]] = {'text-speech': [], 'text': [], 'speech': []}
  for a, b in itertools.permutations(vectors, 2):
    if a[0] == b[0]:
      found['text-speech'].append(recall(vectors[a], vectors[b]))
    elif a[1] == b[1]:
      found[a[1]].append(recall(vectors[a], vectors[b]))
  return {name: float(np.mean(values)) for name, values in found.items()}


def recall(
  x: Float32[np.ndarray, 'sentence dim'], y: Float32[np.ndarray, 'sentence dim']
) -> float:
  """The share of rows of x whose counterpart in y is nearest.

  By cosine of rows centred on their own side, as `retrieval_r1`.
  """
  x, y = (side - side.mean(axis=0) for side in (x, y))
  x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
  nearest = np.argmax(x @ y.T, axis=1)
  return float(np.mean(nearest == np.arange(len(x))))


def embed(networks: Networks, spoken: tuple[Spoken, ...]) -> Vectors:
  """The mean output of either encoder, by language and modality."""
  graphdef, state = nnx.split(networks)
  longest = max(int(one.steps.max()) for one in spoken)
  vectors: Vectors = {}
  for number, one in enumerate(spoken):
    sentence = np.arange(len(one.steps), dtype=np.int32)
    language = np.full_like(sentence, number)
    chosen = Chosen(language, sentence, longest)
    heard, read = _encode(
      graphdef,
      state,
      batches.speech(spoken, chosen),
      batches.text(spoken, language, sentence),
    )
    vectors[one.language, 'text'] = np.asarray(read)
    vectors[one.language, 'speech'] = np.asarray(heard)
  return vectors


@functools.partial(jax.jit, static_argnums=0)
def _encode(
  graphdef: Any, state: Any, speech: Any, text: Any
) -> tuple[jax.Array, jax.Array]:
  networks = nnx.merge(graphdef, state)
  heard = networks.hear(**speech)['speech/output']
  return mean(heard), mean(networks.read(**text))
