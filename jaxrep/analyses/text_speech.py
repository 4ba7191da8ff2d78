"""Text–speech similarity of the same sentences, by layer (Finding 1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from jaxrep.analyses import matching
from jaxrep.analyses import run as runs
from jaxrep.report import plots, tables

KEYS = ('model', 'measure', 'position', 'tap_text', 'tap_speech')
_RAW = ('value', 'floor', 'ceiling')
_QUANTITIES = {
  'value': 'raw, with its floor',
  'calibrated': 'calibrated',
}


def compute(run: runs.Run) -> pa.Table:
  """Means at each speech tap against the text tap it is compared with.

  Returns:
    One row per model, measure, `level` and `name` (all languages, a resource
    class, one language) and `position` of the speech tap, in layer order.
  """
  orders = run.orders | runs.level_orders(run) | {'position': None}
  means = runs.by_level(run, matching.within(run), KEYS)
  means = tables.in_order(means, orders)
  return tables.annotate(means, run.definition)


def draw(table: pa.Table) -> plots.Figure:
  """A thin line per language, a thick one per class; raw and calibrated."""
  return plots.Figure(tables.columns(table), tables.views(table, _view))


def headlines(table: pa.Table) -> tuple[tables.Headline, ...]:
  """The last speech tap of each model and measure, over all languages."""
  last = {
    (row['model'], row['measure']): row
    for row in table.to_pylist()
    if row['level'] == 'all'
  }
  return tables.headlines(
    last.values(),
    'text_speech',
    'Text against speech, last layer',
    ('tap_text', 'tap_speech'),
  )


def _view(
  rows: Sequence[tables.Row], measure: str, definition: Mapping[str, Any]
) -> tuple[list[plots.Lines], list[plots.Key]]:
  spans = {
    'value': plots.limits(row[n] for row in rows for n in _RAW),
    'calibrated': plots.limits((row['calibrated'] for row in rows), 0.0),
  }
  panels = []
  for model, own, statistic, title in tables.each_panel(
    rows, _QUANTITIES, definition
  ):
    pairs = matching.counterparts(definition, model)
    stages = [plots.stage(tap) for tap, _ in pairs]
    places = plots.places(stages)
    panels.append(
      plots.Lines(
        title,
        'speech layer',
        tables.axis_title(measure, statistic),
        tuple((places[i], name) for i, name in plots.ticks(stages)),
        spans[statistic],
        _lines(own, statistic, definition, places),
        _floor_band(own, places) if statistic == 'value' else (),
      )
    )
  legend = plots.legend(line for panel in panels for line in panel.lines)
  band = [plots.FLOOR_BAND] if any(panel.band for panel in panels) else []
  return panels, [*legend, *band]


def _lines(
  rows: Sequence[tables.Row],
  statistic: str,
  definition: Mapping[str, Any],
  places: Sequence[float],
) -> tuple[plots.Line, ...]:
  """The languages' thin lines, the classes' means over them, floor, ceiling."""

  def line(own: Sequence[tables.Row], column: str, head: str, key: plots.Key):
    def title(row: tables.Row) -> str:
      return f'{head} · {row["tap_speech"]} with {row["tap_text"]}'

    return tables.curve(own, column, title, key, places)

  groups: dict[tuple[str, str], list[tables.Row]] = {}
  for row in rows:
    groups.setdefault((row['level'], row['name']), []).append(row)
  languages, classes = [], []
  for (level, name), own in groups.items():
    if level == 'language':
      group = definition['resource_classes'].get(name, 'unclassified')
      key = plots.Key('single languages', 'member', *plots.CLASS_STYLE[group])
      head = definition['language_names'][name]
      languages.append(line(own, statistic, head, key))
    elif level == 'class':
      head = tables.class_title(name)
      key = plots.Key(head, 'mean', *plots.CLASS_STYLE[name])
      classes.append(line(own, statistic, head, key))
  bounds = [
    line(groups['all', 'all'], name, 'all languages', key)
    for name, key in (('floor', plots.FLOOR), ('ceiling', plots.CEILING))
    if statistic == 'value' and any(row[name] is not None for row in rows)
  ]
  return (*languages, *classes, *bounds)


def _floor_band(
  rows: Sequence[tables.Row], places: Sequence[float]
) -> tuple[plots.Band, ...]:
  """From the lowest to the highest floor of any language."""
  floors: dict[int, list[float]] = {}
  for row in rows:
    if row['level'] == 'language':
      here = floors.setdefault(row['position'], [])
      here.extend([] if row['floor'] is None else [row['floor']])
  return tuple(
    (places[p], min(some, default=None), max(some, default=None))
    for p, some in sorted(floors.items())
  )
