"""Models whose states are made of known parts.

A state is common · meaning of the sentence (all languages, both modalities) +
own · what the sentence has in one language + kind · what it has in one
modality + noise. A part lies in the same directions wherever it is.
"""

import dataclasses

import numpy as np

from jaxrep.findings.cells import AGAIN, Layout
from jaxrep.findings.evaluate import Model
from jaxrep.findings.scores import Held

LANGUAGES = ('eng', 'deu', 'hin', 'ind', 'swh', 'amh')
CLASSES = dict(
  zip(
    LANGUAGES, ('high', 'high', 'medium', 'medium', 'low', 'low'), strict=True
  )
)
LAYERS = 5
MODALITIES = ('text', 'speech')
DIMS = 3  # of each part


@dataclasses.dataclass(frozen=True)
class Parts:
  """How strong each part is; noise has strength 1."""

  common: float = 0.0
  own: float = 0.0
  kind: float = 0.0


def layout(adaptor=False):
  layers = tuple((f'text/{i}', f'speech/{i}') for i in range(LAYERS))
  pair = (('text/4', 'speech/3'), ('text/4', 'speech/4')) if adaptor else None
  return Layout(LANGUAGES, CLASSES, layers, pair)


def model(
  parts, n=96, width=24, seed=0, adaptor=False, shape=None, again=False
):
  """A model with `parts(language, modality, layer)`.

  `shape(rows, modality, layer, generator)` changes states when they are made.
  With `again` speech has second recordings, which differ by their noise.
  """
  generator = np.random.default_rng(seed)
  ids = tuple(f's{i:03}' for i in range(n))

  def part():
    turn = np.linalg.qr(generator.normal(size=(width, DIMS)))[0]
    return generator.normal(size=(n, DIMS)) @ turn.T * width**0.5

  common = part()
  own = {language: part() for language in LANGUAGES}
  kind = {modality: part() for modality in MODALITIES}
  sides = {}
  for language in LANGUAGES:
    for side in (*MODALITIES, *([AGAIN] if again else [])):
      modality = 'speech' if side == AGAIN else side
      states = {}
      for layer in range(LAYERS):
        strength = parts(language, modality, layer)
        x = generator.normal(size=(n, width))
        x += strength.common * common
        x += strength.own * own[language] + strength.kind * kind[modality]
        if shape:
          x = shape(x, modality, layer, generator)
        states[f'{modality}/{layer}'] = x.astype(np.float32)
      sides[language, side] = Held(ids, states)
  return Model('planted', layout(adaptor), sides)
