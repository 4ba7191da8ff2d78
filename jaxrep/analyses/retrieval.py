"""How often a sentence finds its counterpart first, by layer."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from jaxrep.analyses import matching
from jaxrep.analyses import run as runs
from jaxrep.report import measures, plots, tables
from jaxrep.report.means import mean_cells

MEASURES = ('retrieval_r1', 'retrieval_r1_back')
# Of a language pair it is arbitrary which side is a: both ways are averaged.
_DIRECTIONS = {
  ('within', 'retrieval_r1'): 'text → speech',
  ('within', 'retrieval_r1_back'): 'speech → text',
  **{('text', measure): 'text → text' for measure in MEASURES},
  **{('speech', measure): 'speech → speech' for measure in MEASURES},
}
_KEYS = {
  'text → speech': plots.Key(
    'text → speech, same language', 'mean', '#004488', 'diamond'
  ),
  'speech → text': plots.Key(
    'speech → text, same language', 'mean', '#D95F02', 'cross'
  ),
  **{
    f'{one} → {one}': plots.Key(
      f'{one} → {one}, other language', 'mean', *plots.MODALITY_STYLE[one]
    )
    for one in matching.MODALITIES
  },
}
_CHANCE = plots.Key('chance: 1/n', 'floor', plots.GREY)


def compute(run: runs.Run) -> pa.Table:
  """Mean R@1 of each direction at matching layers.

  Within languages the mean is over languages; between them over their pairs
  and, where both were compared, both ways of a pair.

  Returns:
    One row per model, direction and `position` on the layer axis that both
    modalities share; `floor` is 1/n.
  """
  cells = matching.cells(run, MEASURES)
  ways = zip(
    cells['kind'].to_pylist(), cells['measure'].to_pylist(), strict=True
  )
  directions = [_DIRECTIONS[way] for way in ways]
  cells = cells.append_column('direction', pa.array(directions, pa.string()))
  keys = ('model', 'direction', 'position', 'tap_a', 'tap_b')
  means = mean_cells(cells, keys)
  compared = [name for name in MEASURES if name in run.definition['measures']]
  sizes = {
    (model, direction): count * (1 if kind == 'within' else len(compared))
    for (model, kind), count in matching.sizes(run).items()
    for (of, _), direction in _DIRECTIONS.items()
    if of == kind
  }
  means = runs.with_sizes(means, ('model', 'direction'), sizes)
  orders = {
    'model': run.orders['model'],
    'direction': tuple(_KEYS),
    'position': None,
  }
  return tables.annotate(tables.in_order(means, orders), run.definition)


def draw(table: pa.Table) -> plots.Figure:
  """A panel per model, whatever measure is looked at."""
  rows, definition = table.to_pylist(), tables.definition_of(table)
  if not rows:
    return plots.Figure(2, {})
  measure = next(name for name in MEASURES if name in definition['measures'])
  limits = plots.limits((row['value'] for row in rows), 0.0)
  panels = tuple(
    _panel(own, model, limits, definition)
    for model, own in tables.by_model(rows, definition)
  )
  view = plots.View(
    tables.subtitle(measure, definition),
    panels,
    plots.legend(line for panel in panels for line in panel.lines),
    tables.notes(rows, measure, definition),
  )
  return plots.Figure(tables.columns(table), {plots.EVERY_MEASURE: view})


def _panel(
  rows: Sequence[tables.Row],
  model: str,
  limits: tuple[float, float],
  definition: Mapping[str, Any],
) -> plots.Lines:
  stages = matching.stages(definition, model)
  places = plots.places(stages)
  lines = []
  for direction, key in _KEYS.items():
    own = [row for row in rows if row['direction'] == direction]
    if any(row['value'] is not None for row in own):
      lines.append(tables.curve(own, 'value', _head, key, places))
  floors = [row['floor'] for row in rows if row['floor'] is not None]
  if floors:
    chance = statistics.fmean(floors)
    text = f'chance {tables.number(chance)}'
    ends = (places[0], places[-1])
    lines.append(plots.Line(ends, (chance,) * 2, (text,) * 2, _CHANCE))
  return plots.Lines(
    tables.panel_title(model, 'found first', definition),
    'layer',
    measures.title(MEASURES[0]),
    tuple((places[i], name) for i, name in plots.ticks(stages)),
    limits,
    tuple(lines),
  )


def _head(row: tables.Row) -> str:
  return f'{row["direction"]} · {row["tap_a"]} with {row["tap_b"]}'
