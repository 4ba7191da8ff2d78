"""A run of given states: what extraction leaves, without a model."""

import json

import numpy as np

from jaxrep import similarity, store
from jaxrep.jobs import scoring


def write(workdir, sides, model='made', counterparts=None, **more):
  """Writes plan.json and the store.

  Args:
    workdir: its folder.
    sides: (language, modality) → a list of recordings, each a dict of sentence
      id → {tap: vector}; text has one.
    model: their name.
    counterparts: speech tap → text tap.
    **more: of the definition.
  """
  languages = {
    kind: [one for one, other in sides if other == kind]
    for kind in ('text', 'speech')
  }
  for (language, modality), recordings in sides.items():
    _write_entry(workdir, model, language, modality, recordings)
  definition = {
    'corpus': {'name': 'made'},
    'languages': list(dict.fromkeys(language for language, _ in sides)),
    'models': {
      model: {
        'modalities': [kind for kind, own in languages.items() if own],
        'languages': languages,
        'counterparts': counterparts or {'speech/output': 'text/output'},
      }
    },
    'recordings': 'first',
    'dropped': [],
    **more,
  }
  rewrite(workdir, definition)
  return definition


def rewrite(workdir, definition):
  (workdir / 'plan.json').write_text(json.dumps(definition))


def _write_entry(workdir, model, language, modality, recordings):
  made = [
    (store.Row(id=one, language=language, text=one, recording=number), states)
    for number, sentences in enumerate(recordings)
    for one, states in sentences.items()
  ]
  taps = made[0][1]
  writer = store.create_or_open(
    *(str(workdir), model, modality, language),
    definition={},
    rows=[row for row, _ in made],
    taps=[(tap, len(vector)) for tap, vector in taps.items()],
    unit_size=len(made),
    dtype='float32',
  )
  stacked = {
    tap: np.float32([states[tap] for _, states in made]) for tap in taps
  }
  writer.write_unit(0, stacked, {})
  writer.finish()


def recording(x, tap):
  """One tap's states [n, p] as a recording of `write`."""
  return {f's{i:04}': {tap: row} for i, row in enumerate(x)}


def choice(workdir, **changes):
  """What `compare` takes where nothing is asked for."""
  plain = {
    'measures': ('cka_debiased',),
    'parameters': similarity.Parameters(),
    'calibration': similarity.Calibration(intervals=False, permutations=2),
    'layer_pairs': 'all',
    'common_ids': 'pair',
    'language_set': 'own',
    'minimum_ids': 10,
    'ceiling': False,
  }
  return scoring.Choice(workdir=str(workdir), **(plain | changes))
