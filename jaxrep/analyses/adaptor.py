"""Text–speech similarity before and after the length adaptor (Finding 2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jaxrep.analyses import run as runs
from jaxrep.report import plots, tables

STAGES = ('before', 'after', 'change')
_RAW = ('value', 'floor', 'ci_low', 'ci_high')
_QUANTITIES = {
  'value': 'raw, with its floor',
  'calibrated': 'calibrated',
}
_LABELS = {
  'before': 'Before the length adaptor',
  'after': 'After the length adaptor',
  'change': 'Change over the length adaptor',
}


def compute(run: runs.Run) -> pa.Table:
  """Each side of the adaptor against its text counterpart, and the change.

  A change is after − before, of the raw value, of the floor and of the
  calibrated value. Means over several languages hold only those that have the
  same statistics defined on both sides, so that the change of the means is
  the mean of the changes.

  Returns:
    One row per model, measure, `level`, `name` and `stage`.
  """
  cells = runs.labelled(
    run.text_speech_cells(),
    ('model', 'tap_text', 'tap_speech'),
    'stage',
    _sides(run.definition),
    pa.string(),
  )
  keys = ('model', 'measure', 'stage', 'tap_text', 'tap_speech')
  parts = [
    runs.by_level(run, _paired(cells), keys, ('all', 'class')),
    runs.by_level(run, cells, keys, ('language',)),
  ]
  means = pa.concat_tables(parts)
  changes = pa.Table.from_pylist(_changes(means), schema=means.schema)
  orders = run.orders | runs.level_orders(run) | {'stage': STAGES}
  means = tables.in_order(pa.concat_tables([means, changes]), orders)
  return tables.annotate(means, run.definition)


def draw(table: pa.Table) -> plots.Figure:
  """A row per class and language: from before to after, with the floors."""
  return plots.Figure(2, tables.views(table, _view))


def headlines(table: pa.Table) -> tuple[tables.Headline, ...]:
  """Before, after and change over all languages."""
  found: tuple[tables.Headline, ...] = ()
  for stage, label in _LABELS.items():
    rows = [
      row
      for row in table.to_pylist()
      if row['level'] == 'all' and row['stage'] == stage
    ]
    taps = ('tap_text', 'tap_speech')
    found += tables.headlines(rows, f'adaptor_{stage}', label, taps)
  return found


def _sides(definition: Mapping[str, Any]) -> dict[tuple[str, str, str], str]:
  """(model, text tap, speech tap) → which side of the adaptor that is."""
  return {
    (name, model['counterparts'][tap], tap): stage
    for name, model in definition['models'].items()
    for stage, tap in (model['adaptor'] or {}).items()
    if tap in model['counterparts']
  }


def _paired(cells: pa.Table) -> pa.Table:
  """The cells, undefined where the other side lacks what this one has."""
  rows = cells.to_pylist()
  defined: dict[tuple[str, ...], list[list[bool]]] = {}
  languages = [
    tuple(row[name] for name in ('model', 'measure', 'language'))
    for row in rows
  ]
  for language, row in zip(languages, rows, strict=True):
    has = [row[name] is not None for name in tables.STATISTICS]
    defined.setdefault(language, []).append(has)
  both = [len(d := defined[one]) == 2 and d[0] == d[1] for one in languages]
  mask, null = pa.array(both, pa.bool_()), pa.scalar(None, pa.float64())
  for name in tables.STATISTICS:
    column = pc.if_else(mask, cells[name], null)
    index = cells.schema.get_field_index(name)
    cells = cells.set_column(index, name, column)
  return cells


def _changes(means: pa.Table) -> list[dict[str, Any]]:
  sides: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
  for row in means.to_pylist():
    key = tuple(row[n] for n in ('model', 'measure', 'level', 'name'))
    sides.setdefault(key, {})[row['stage']] = row
  return [
    _change(pair['before'], pair['after'])
    for pair in sides.values()
    if len(pair) == 2
  ]


def _change(
  before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, Any]:
  def both(name: str) -> list[Any]:
    pair = [before[name], after[name]]
    return [value for value in pair if value is not None]

  change = dict(after, stage='change')
  change['tap_speech'] = f'{before["tap_speech"]} → {after["tap_speech"]}'
  for name in tables.STATISTICS:
    ends = both(name)
    change[name] = ends[1] - ends[0] if len(ends) == 2 else None
  change |= dict.fromkeys(('ceiling', *tables.OF_ONE_CELL))
  for name in ('used', 'used_calibrated', 'n_min', 'k_min'):
    change[name] = min(both(name), default=None)
  for name in ('n_max', 'k_max'):
    change[name] = max(both(name), default=None)
  return change


def _view(
  rows: Sequence[tables.Row], measure: str, definition: Mapping[str, Any]
) -> tuple[list[plots.Dots], list[plots.Key]]:
  sides = [row for row in rows if row['stage'] != 'change']
  spans = {
    'value': plots.limits(row[n] for row in sides for n in _RAW),
    'calibrated': plots.limits((row['calibrated'] for row in sides), 0.0),
  }
  panels = [
    plots.Dots(
      tables.panel_title(model, quantity, definition),
      tables.axis_title(measure, statistic),
      _dots(own, statistic, definition),
      spans[statistic],
    )
    for model, own in tables.by_model(sides, definition)
    for statistic, quantity in tables.quantities(sides, _QUANTITIES).items()
  ]
  legend = [
    plots.Key('before the adaptor', 'hollow', plots.INK),
    plots.Key('after', 'filled', plots.INK),
  ]
  if any(row['floor'] is not None for row in sides):
    legend.append(plots.Key('their floors', 'tick', plots.GREY))
  if any(row['ci_low'] is not None for row in sides):
    label = '95 % interval of a language: before above, after below'
    legend.append(plots.Key(label, 'bar', plots.GREY))
  return panels, legend


def _dots(
  rows: Sequence[tables.Row], statistic: str, definition: Mapping[str, Any]
) -> tuple[plots.Dot, ...]:
  """Each class's mean, then its languages."""
  classes = definition['resource_classes']
  sides: dict[tuple[str, str], dict[str, tables.Row]] = {}
  for row in rows:
    sides.setdefault((row['level'], row['name']), {})[row['stage']] = row
  pairs = {
    key: (pair['before'], pair['after'])
    for key, pair in sides.items()
    if len(pair) == 2
  }
  dots = []
  for group in tables.CLASSES:
    for (level, name), pair in pairs.items():
      if level == 'class' and name == group:
        label = tables.class_title(group)
      elif level == 'language' and classes.get(name, 'unclassified') == group:
        label = definition['language_names'][name]
      else:
        continue
      dots.append(_dot(label, group, pair, statistic))
  return tuple(dots)


def _dot(
  label: str,
  group: str,
  pair: tuple[tables.Row, tables.Row],
  statistic: str,
) -> plots.Dot:
  before, after = pair
  colour, symbol = plots.CLASS_STYLE[group]
  raw = statistic == 'value'
  return plots.Dot(
    label,
    colour,
    symbol,
    before['level'] == 'class',
    before[statistic],
    after[statistic],
    tuple(row['floor'] if raw else None for row in pair),
    (
      tables.hover(f'{label}, before: {before["tap_speech"]}', before),
      tables.hover(f'{label}, after: {after["tap_speech"]}', after),
    ),
    tuple((row['ci_low'], row['ci_high']) for row in pair) if raw else (),
  )
