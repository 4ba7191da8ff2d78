"""A working folder as `compare` leaves it, with scores of known shape.

No corpus and no model stand behind the numbers: they are smooth functions of
the taps and languages, so that any test can say what a cell holds.
"""

import itertools
import json
import math

import pyarrow as pa
import pyarrow.parquet as pq

LANGUAGES = ('eng', 'deu', 'hin', 'swh', 'tam', 'khm')
NAMES = {
  'eng': 'English',
  'deu': 'German',
  'hin': 'Hindi',
  'swh': 'Swahili',
  'tam': 'Tamil',
  'khm': 'Khmer',
}
CLASSES = {
  'eng': 'high',
  'deu': 'high',
  'hin': 'medium',
  'swh': 'medium',
  'tam': 'low',
  'khm': 'low',
}
MEASURES = {
  'cka': 'Linear CKA of centred rows.',
  'svcca': 'Mean canonical correlation of the components that keep 99 % of the '
  'squared singular values.',
  'cka_debiased': 'Linear CKA by unbiased estimates of HSIC.',
}
RETRIEVAL = {
  'retrieval_r1': "Retrieval R@1: share of a's sentences found first in b.",
  'retrieval_r1_back': "Retrieval R@1: share of b's sentences found first.",
}
GAP = {
  'centroid_distance': 'Centroid distance: between the mean rows.',
  'norm_ratio': 'Norm ratio: the smaller mean length over the larger.',
  'cosine_gap': 'Cosine gap: of counterparts less of the others.',
}
NUMBERS = (
  *('value', 'floor', 'floor_sd', 'calibrated', 'z', 'p', 'p_map', 'q'),
  *('ceiling', 'ci_low', 'ci_high'),
)
FLOORS = {
  **dict.fromkeys(('cka_debiased', 'cosine_gap'), 0.0),
  **dict.fromkeys(RETRIEVAL, 1 / 118),
}
SCHEMA = pa.schema(
  [
    *(
      (name, pa.string())
      for name in (
        *('corpus', 'model', 'measure', 'tap_a', 'tap_b'),
        *('lang_a', 'lang_b', 'modality_a', 'modality_b'),
      )
    ),
    *((name, pa.float64()) for name in NUMBERS),
    *((name, pa.int64()) for name in ('n', 'k', 'k_a', 'k_b')),
    ('status', pa.string()),
  ]
)


def taps(layers, widths):
  numbered = [f'layer_{i:02d}' for i in range(1, layers + 1)]
  text = ['embed', *numbered, 'output']
  speech = ['embed', *numbered, 'norm', 'pre_adaptor', 'adaptor', 'output']
  return {
    'text': [[f'text/{name}', widths[0]] for name in text],
    'speech': [[f'speech/{name}', widths[1]] for name in speech],
  }


def model(title, layers, languages, trained, widths):
  found = taps(layers, widths)
  text = {name for name, _ in found['text']}
  same = {tap: tap.replace('speech/', 'text/') for tap, _ in found['speech']}
  return {
    'title': title,
    'modalities': ['text', 'speech'],
    'trained': trained,
    'note': 'A small encoder.',
    'demonstration': '',
    'control': '' if trained else 'untrained control: random weights',
    'checkpoints': [
      {
        'modality': modality,
        'languages': [],
        'source': 'seed 0',
        'fingerprint': 'c0ffee12',
        'licence': 'Apache-2.0',
      }
      for modality in ('text', 'speech')
    ],
    'dtype': 'float32',
    'pooling': 'mean',
    'taps': found,
    'counterparts': {
      tap: other if other in text else 'text/output'
      for tap, other in same.items()
    },
    'adaptor': {'before': 'speech/pre_adaptor', 'after': 'speech/adaptor'},
    'languages': {'text': list(languages), 'speech': list(languages)},
  }


def definition(
  languages=LANGUAGES,
  layers=4,
  trained=False,
  models=('tiny',),
  synthetic=True,
  measures=MEASURES,
  widths=(64, 96),
):
  return {
    'jaxrep': '0.1.0',
    'created': '2026-01-02T03:04:05+00:00',
    'corpus': {
      'name': 'made',
      'title': 'Made-up corpus',
      'licence': 'CC0-1.0',
      'synthetic': synthetic,
      'note': 'Sentences of a test.',
      'splits': ['test'],
    },
    'languages': list(languages),
    'compared_languages': list(languages),
    'language_names': {one: NAMES.get(one, one) for one in languages},
    'resource_classes': {one: CLASSES.get(one, 'low') for one in languages},
    'resource_source': 'Classes are our proxy.',
    'models': {
      name: model(f'The {name} encoder', layers, languages, trained, widths)
      for name in models
    },
    'sentences': {one: {'text': 120, 'speech': 118} for one in languages},
    'dropped': [
      {
        'language': languages[0],
        'modality': 'speech',
        'id': f's{i}',
        'reason': 'the recording is silent',
      }
      for i in range(2)
    ],
    'recordings': 'first',
    'common_ids': 'pair',
    'ceiling': False,
    'unrepeated': [],
    'measures': dict(measures),
    'versions': {'jax': '0.10.2', 'numpy': '2.4.6'},
    'warnings': ['Fewer than 250 sentences per language.'],
  }


def sides(definition, name):
  """(modality, language, tap, depth in [0, 1]): text first, run's order."""
  found = definition['models'][name]
  for modality in ('text', 'speech'):
    names = [tap for tap, _ in found['taps'][modality]]
    for language in definition['languages']:
      if language in found['languages'][modality]:
        for i, tap in enumerate(names):
          yield modality, language, tap, i / (len(names) - 1)


def cell(measure, a, b, number):
  """value, floor, k of a pair: a dip, then a rise, less for later languages."""
  depth, gap = (a[3] + b[3]) / 2, abs(a[3] - b[3])
  between = (a[0] != b[0]) + 0.6 * (a[1] != b[1]) + 0.05 * number
  true = math.exp(-between) * (0.55 - 0.9 * depth + 1.3 * depth**2) - 0.3 * gap
  if measure in ('centroid_distance', 'norm_ratio'):
    away = 0.3 * between + gap
    return (
      away if measure == 'centroid_distance' else 1 / (1 + away),
      None,
      None,
    )
  if measure != 'svcca':
    floor = FLOORS.get(measure, 0.12)
    return floor + (1 - floor) * max(true, -0.01), floor, None
  k = 30 - int(12 * depth)
  floor = math.sqrt(k / 120) + 0.004 * number
  return floor + (1 - floor) * max(true, -0.01), floor, k


def judged(value, floor, interval):
  """What a score is judged by: an exact floor's spread, 0.02, and the rest."""
  if floor is None:
    return dict.fromkeys(NUMBERS[2:])
  z = (value - floor) / 0.02
  return {
    **{'calibrated': (value - floor) / (1 - floor), 'floor_sd': 0.02, 'z': z},
    **{'p': math.erfc(z / math.sqrt(2)) / 2, 'p_map': None, 'ceiling': None},
    'q': math.erfc(z / math.sqrt(2)),
    'ci_low': value - 0.03 if interval else None,
    'ci_high': value + 0.04 if interval else None,
  }


def rows(definition, measures=MEASURES, undefined=lambda row: False):
  """One score row per unordered pair; `undefined` rows lose their values."""
  order = {name: i for i, name in enumerate(definition['languages'])}
  found = []
  for name in definition['models']:
    pairs = itertools.combinations(list(sides(definition, name)), 2)
    for (a, b), measure in itertools.product(pairs, measures):
      number = order[a[1]] + order[b[1]]
      value, floor, k = cell(measure, a, b, number)
      row = {
        'corpus': definition['corpus']['name'],
        'model': name,
        'measure': measure,
        **{'modality_a': a[0], 'lang_a': a[1], 'tap_a': a[2]},
        **{'modality_b': b[0], 'lang_b': b[1], 'tap_b': b[2]},
        'value': value,
        'floor': floor,
        **judged(value, floor, measure != 'svcca'),
        **{'n': 118, 'k': k, 'k_a': k, 'k_b': k, 'status': 'ok'},
      }
      if undefined(row):
        row |= dict.fromkeys((*NUMBERS, 'k'))
        row['status'] = 'too few common sentences'
      found.append(row)
  return found


def write(workdir, definition, score_rows):
  """Writes plan.json and scores.parquet; returns the folder."""
  workdir.mkdir(parents=True, exist_ok=True)
  (workdir / 'plan.json').write_text(json.dumps(definition))
  table = pa.Table.from_pylist(score_rows, schema=SCHEMA)
  pq.write_table(table, workdir / 'scores.parquet')
  return workdir
