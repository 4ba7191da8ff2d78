"""The modality gap against the language gap, by model (Finding 4).

A sentence's text against its own speech, and against its translations, at the
last layer: which of the two is it nearer to?
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jaxrep.analyses import matching
from jaxrep.analyses import run as runs
from jaxrep.report import plots, tables
from jaxrep.report.means import mean_cells

KINDS = ('speech', 'translations')
_RAW = ('value', 'floor')
_QUANTITIES = {
  'value': 'raw, with its floor',
  'calibrated': 'calibrated',
}
_ALL = 'mean over languages'


def compute(run: runs.Run) -> pa.Table:
  """A language's text against its own speech and against its translations.

  Returns:
    One row per model, measure, `name` (a language, or 'all') and `kind`; of
    'translations' the mean over all other languages, and of all languages over
    all pairs of them.
  """
  last = {
    model: pairs[-1]
    for model in run.definition['models']
    if (pairs := matching.counterparts(run.definition, model))
  }
  spoken = _labelled(run.text_speech_cells(), last)
  translated = _translations(run, last)
  ends = (translated[end].chunks for end in ('lang_a', 'lang_b'))
  names = pa.chunked_array(itertools.chain(*ends), pa.string())
  each = pa.concat_tables([translated, translated])
  parts = [
    _means(run, spoken, spoken['language'], 'speech'),
    _means(run, each, names, 'translations'),
    _means(run, spoken, _constant(spoken), 'speech'),
    _means(run, translated, _constant(translated), 'translations'),
  ]
  orders = run.orders | {
    'name': ('all', *run.definition['languages']),
    'kind': KINDS,
  }
  means = tables.in_order(pa.concat_tables(parts), orders)
  return tables.annotate(means, run.definition)


def draw(table: pa.Table) -> plots.Figure:
  """A row per language: from its translations to its own speech."""
  if 'translations' not in table['kind'].to_pylist():
    return plots.Figure(2, {})
  return plots.Figure(2, tables.views(table, _view))


def _labelled(cells: pa.Table, last: Mapping[str, tuple[str, str]]) -> pa.Table:
  """Those of the last layer of each model."""
  places = {(model, text, tap): 0 for model, (tap, text) in last.items()}
  keys = ('model', 'tap_text', 'tap_speech')
  return runs.labelled(cells, keys, 'position', places, pa.int64())


def _translations(
  run: runs.Run, last: Mapping[str, tuple[str, str]]
) -> pa.Table:
  cells = run.cells(
    (pc.field('modality_a') == 'text')
    & (pc.field('modality_b') == 'text')
    & (pc.field('lang_a') != pc.field('lang_b'))
  )
  places = {(model, text, text): 0 for model, (_, text) in last.items()}
  keys = ('model', 'tap_a', 'tap_b')
  return runs.labelled(cells, keys, 'position', places, pa.int64())


def _constant(cells: pa.Table) -> pa.Array:
  return pa.array(['all'] * len(cells), pa.string())


def _means(
  run: runs.Run, cells: pa.Table, names: pa.ChunkedArray | pa.Array, kind: str
) -> pa.Table:
  named = cells.append_column('name', names)
  means = mean_cells(named, ('model', 'measure', 'name'))
  constant = pa.array([kind] * len(means), pa.string())
  sizes = {}
  for model in run.definition['models']:
    count = len(run.languages(model, 'text'))
    both = len(run.languages(model, 'text', 'speech'))
    whole = both if kind == 'speech' else math.comb(count, 2)
    single = 1 if kind == 'speech' else count - 1
    sizes[model, 'all'] = whole
    sizes |= {(model, one): single for one in run.definition['languages']}
  return runs.with_sizes(
    means.append_column('kind', constant), ('model', 'name'), sizes
  )


def _view(
  rows: Sequence[tables.Row], measure: str, definition: Mapping[str, Any]
) -> tuple[list[plots.Dots], list[plots.Key]]:
  spans = {
    'value': plots.limits(row[n] for row in rows for n in _RAW),
    'calibrated': plots.limits((row['calibrated'] for row in rows), 0.0),
  }
  panels = [
    plots.Dots(
      tables.panel_title(model, quantity, definition),
      tables.axis_title(measure, statistic),
      _dots(own, statistic, definition),
      spans[statistic],
    )
    for model, own in tables.by_model(rows, definition)
    for statistic, quantity in tables.quantities(rows, _QUANTITIES).items()
  ]
  legend = [
    plots.Key('with its translations', 'hollow', plots.INK),
    plots.Key('with its own speech', 'filled', plots.INK),
  ]
  if any(row['floor'] is not None for row in rows):
    legend.append(plots.Key('their floors', 'tick', plots.GREY))
  return panels, legend


def _dots(
  rows: Sequence[tables.Row], statistic: str, definition: Mapping[str, Any]
) -> tuple[plots.Dot, ...]:
  pairs: dict[str, dict[str, tables.Row]] = {}
  for row in rows:
    pairs.setdefault(row['name'], {})[row['kind']] = row
  return tuple(
    _dot(name, pair['translations'], pair['speech'], statistic, definition)
    for name, pair in pairs.items()
    if len(pair) == 2
  )


def _dot(
  name: str,
  translations: tables.Row,
  speech: tables.Row,
  statistic: str,
  definition: Mapping[str, Any],
) -> plots.Dot:
  group = definition['resource_classes'].get(name, 'unclassified')
  colour, symbol = plots.CLASS_STYLE[group]
  if name == 'all':
    colour, symbol = plots.INK, 'circle'
  label = _ALL if name == 'all' else definition['language_names'][name]
  both = translations, speech
  raw = statistic == 'value'
  return plots.Dot(
    label,
    colour,
    symbol,
    name == 'all',
    translations[statistic],
    speech[statistic],
    tuple(row['floor'] if raw else None for row in both),
    (
      tables.hover(f'{label}, text with its translations', translations),
      tables.hover(f'{label}, text with its own speech', speech),
    ),
  )
