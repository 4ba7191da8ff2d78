"""Scores of a run of full size, of the rows that figures are made of.

All pairs of 30 languages by three models would be 10⁸ rows; the figures read
those of a language's text with its speech, at any two taps, and of two
languages at one tap.
"""

import itertools

import numpy as np
import pyarrow as pa

from tests.analyses import synthetic

MEASURES = {
  name: f'{name} of centred rows; floor: exact mean.'
  for name in ('svcca', 'svcca_heldout', 'cka', 'cka_debiased', 'retrieval_r1')
}


def definition(languages, layers):
  """Three models, five measures; resource classes in turn."""
  names = [f'l{i:02d}' for i in range(languages)]
  found = synthetic.definition(names, layers, models=('one', 'two', 'three'))
  classes = itertools.cycle(('high', 'medium', 'low'))
  found['resource_classes'] = dict(zip(names, classes, strict=False))
  return found | {'measures': MEASURES}


def scores(definition):
  """A table as `compare` leaves it, every number of a cell there."""
  cells = [
    (definition['corpus']['name'], model, measure, *ends)
    for model in definition['models']
    for measure in definition['measures']
    for ends in _ends(definition, model)
  ]
  names = synthetic.SCHEMA.names[:9]
  arrays = map(pa.array, zip(*cells, strict=True))
  columns = dict(zip(names, arrays, strict=True))
  random = np.random.default_rng(0)
  value = random.uniform(0.2, 0.9, len(cells))
  numbers = dict.fromkeys(synthetic.NUMBERS, value)
  numbers |= {'floor': value / 3, 'ci_low': value - 0.03, 'p': value / 50}
  columns |= {name: pa.array(numbers[name]) for name in synthetic.NUMBERS}
  k = random.integers(20, 90, len(cells))
  for name in ('k', 'k_a', 'k_b'):
    columns[name] = pa.array(k)
  columns['n'] = pa.array(random.integers(180, 350, len(cells)))
  columns['status'] = pa.array(['ok'] * len(cells))
  return pa.table(columns).select(synthetic.SCHEMA.names)


def _ends(definition, model):
  """(tap_a, tap_b, lang_a, lang_b, modality_a, modality_b)."""
  taps = {
    modality: [name for name, _ in own]
    for modality, own in definition['models'][model]['taps'].items()
  }
  languages = definition['languages']
  for one in languages:
    for a, b in itertools.product(taps['text'], taps['speech']):
      yield a, b, one, one, 'text', 'speech'
  for one, other in itertools.combinations(languages, 2):
    for modality, own in taps.items():
      for tap in own:
        yield tap, tap, one, other, modality, modality
