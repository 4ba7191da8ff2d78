"""A store beside the scores of `synthetic`, with states and tokens to order."""

import zlib

import numpy as np

from jaxrep import store

SENTENCES = tuple(f's{i:03d}' for i in range(40))


def write(workdir, definition, states=None, tokens=None, ids=SENTENCES):
  """Writes an entry per model, modality and language that it covers.

  Args:
    workdir: the run's folder.
    definition: the run's; its taps say how wide the states are.
    states: (model, modality, language, tap, ids) → [sentence, width]; by
      default sentences, languages and modalities each have their place.
    tokens: (language, id) → token ids; by default they share a few.
    ids: of the sentences, or language → its own ones.
  """
  for model, row in definition['models'].items():
    for modality in ('text', 'speech'):
      for language in row['languages'][modality]:
        own = ids[language] if isinstance(ids, dict) else ids
        taps = {
          tap: (states or placed)(model, modality, language, tap, own)
          for tap, _ in row['taps'][modality]
        }
        text = (tokens or spelt) if modality == 'text' else None
        _write(workdir, (model, modality, language), own, taps, text)


def random(*names):
  return np.random.default_rng(zlib.crc32(repr(names).encode()))


def placed(model, modality, language, tap, ids):
  """Noise, with an offset a language that depth takes away."""
  width = 8
  depth = zlib.crc32(tap.encode()) % 3
  offset = random(model, language).standard_normal(width)
  place = random(model, modality).standard_normal(width)
  noise = random(model, modality, language, tap)
  x = noise.standard_normal((len(ids), width))
  return x + depth * offset + 2 * place


def spelt(language, sentence):
  """<language> … </s>, with tokens that some languages share."""
  own = 1000 + 50 * (zlib.crc32(language.encode()) % 7)
  number = int(sentence[1:])
  return (zlib.crc32(language.encode()) % 900 + 3000, number, own, own + 1, 2)


def _write(workdir, name, ids, taps, tokens):
  language = name[2]
  rows = [
    store.Row(
      id=one,
      language=language,
      text=f'{language} {one}',
      token_ids=tokens(language, one) if tokens else None,
    )
    for one in ids
  ]
  writer = store.create_or_open(
    *(str(workdir), *name),
    definition={},
    rows=rows,
    taps=[(tap, x.shape[1]) for tap, x in taps.items()],
    unit_size=len(rows),
    dtype='float32',
  )
  writer.write_unit(0, {tap: np.float32(x) for tap, x in taps.items()}, {})
  writer.finish()
