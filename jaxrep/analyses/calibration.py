"""What a raw score is made of: floor, ceiling, and the k that moves them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from jaxrep.analyses import matching
from jaxrep.analyses import run as runs
from jaxrep.report import plots, tables
from jaxrep.report.means import mean_cells

CELL = (
  *('model', 'measure', 'language', 'position', 'tap_text', 'tap_speech'),
  *('value', 'floor', 'floor_sd', 'ceiling', 'calibrated'),
  *('k', 'k_a', 'k_b', 'n', 'ci_low', 'ci_high', 'p', 'q', 'status'),
)
_KEYS = ('model', 'measure', 'position', 'tap_text', 'tap_speech')
_QUANTITIES = {
  'value': 'raw, over its floor',
  'calibrated': 'calibrated',
}
_MEAN = plots.Key(
  'text with speech, mean over languages', 'mean', '#004488', 'circle'
)
_KEPT = {
  f'k_{side}': plots.Key(
    f'kept of {modality}, mean', 'mean', *plots.MODALITY_STYLE[modality]
  )
  for side, modality in zip('ab', matching.MODALITIES, strict=True)
}
_SHOWN = {  # quantity → the columns that its panels hold
  'value': ('value', 'floor', 'ceiling'),
  'calibrated': ('calibrated',),
  'k': ('k_min', 'k_max', *_KEPT),
}
_RANGE = plots.Key('k of a cell, over languages', 'band', plots.BAND)


def compute(run: runs.Run) -> pa.Table:
  """The single cells, text with speech of each language at matching layers.

  Returns:
    One row per model, measure, `position` of the speech tap and language.
  """
  cells = matching.within(run).select(CELL)
  languages = run.definition['languages']
  orders = run.orders | {'position': None, 'language': languages}
  return tables.annotate(tables.in_order(cells, orders), run.definition)


def draw(table: pa.Table) -> plots.Figure:
  """Raw upon its floor, calibrated, and k: one below the other per model."""
  definition = tables.definition_of(table)
  means = mean_cells(table, _KEYS)
  kept = table.group_by(list(_KEYS), use_threads=False).aggregate(
    [(name, 'mean') for name in _KEPT]
  )
  for name in _KEPT:
    means = means.append_column(name, kept[f'{name}_mean'])
  sizes = {
    (model,): len(runs.languages(definition, model, *matching.MODALITIES))
    for model in definition['models']
  }
  means = runs.with_sizes(means, ('model',), sizes)
  models = len(set(table['model'].to_pylist()))
  columns = models if 1 < models <= tables.SIDE_BY_SIDE else 3
  return plots.Figure(
    columns, tables.views(tables.annotate(means, definition), _view)
  )


def _view(
  rows: Sequence[tables.Row], measure: str, definition: Mapping[str, Any]
) -> tuple[list[plots.Lines], list[plots.Key]]:
  quantities = tables.quantities(rows, _QUANTITIES)
  if any(row['k_min'] is not None for row in rows):
    quantities['k'] = 'components kept'
  models = tables.by_model(rows, definition)
  panels = []
  for name, title in quantities.items():
    limits = plots.limits((row[n] for row in rows for n in _SHOWN[name]), 0.0)
    for model, own in models:
      pairs = matching.counterparts(definition, model)
      stages = [plots.stage(tap) for tap, _ in pairs]
      places = plots.places(stages)
      panels.append(
        plots.Lines(
          tables.panel_title(model, title, definition),
          'speech layer',
          'k' if name == 'k' else tables.axis_title(measure, name),
          tuple((places[i], label) for i, label in plots.ticks(stages)),
          limits,
          _lines(own, name, places),
          _band(own, name, places, limits[0]),
        )
      )
  if len(models) > tables.SIDE_BY_SIDE:
    panels = [p for at in range(len(models)) for p in panels[at :: len(models)]]
  legend = list(plots.legend(line for panel in panels for line in panel.lines))
  return panels, [*legend, *([_RANGE] if 'k' in quantities else [])]


def _lines(
  rows: Sequence[tables.Row], quantity: str, places: Sequence[float]
) -> tuple[plots.Line, ...]:
  keys = {quantity: _MEAN}
  if quantity == 'value':
    keys |= {'floor': plots.FLOOR, 'ceiling': plots.CEILING}
  return tuple(
    tables.curve(rows, name, _head, key, places)
    for name, key in (_KEPT if quantity == 'k' else keys).items()
    if any(row[name] is not None for row in rows)
  )


def _band(
  rows: Sequence[tables.Row],
  quantity: str,
  places: Sequence[float],
  bottom: float,
) -> tuple[plots.Band, ...]:
  """Of raw, all that is below the floor; of k, the range over the cells."""
  ends = {'value': (None, 'floor'), 'k': ('k_min', 'k_max')}.get(quantity)
  if ends is None:
    return ()

  def end(row: tables.Row, name: str | None) -> plots.Value:
    value = bottom if name is None else row[name]
    return None if value is None else float(value)

  return tuple(
    (places[row['position']], *(end(row, name) for name in ends))
    for row in rows
  )


def _head(row: tables.Row) -> str:
  return f'{row["tap_speech"]} with {row["tap_text"]}'
