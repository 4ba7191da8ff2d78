"""What centring hides: distance, length and direction of the clouds, by layer.

Similarity of centred features cannot see that text and speech, or two
languages, lie in different places (`jaxrep.similarity.gap`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from jaxrep.analyses import matching
from jaxrep.analyses import run as runs
from jaxrep.report import measures, plots, tables
from jaxrep.report.means import mean_cells

MEASURES = ('centroid_distance', 'norm_ratio', 'cosine_gap')
_REFERENCE = {'centroid_distance': 0.0, 'norm_ratio': 1.0, 'cosine_gap': 0.0}
_NONE = plots.Key('no gap; of the cosine, chance', 'floor', plots.GREY)
_KEYS = {
  'within': plots.Key(
    'text with speech, same language', 'mean', '#004488', 'diamond'
  ),
  **{
    one: plots.Key(f'{one}, two languages', 'mean', *plots.MODALITY_STYLE[one])
    for one in matching.MODALITIES
  },
}


def compute(run: runs.Run) -> pa.Table:
  """Means over languages, or pairs of them, at matching layers.

  Returns:
    One row per model, measure, `kind` (`matching.KINDS`) and `position` on the
    layer axis that both modalities share.
  """
  keys = ('model', 'measure', 'kind', 'position', 'tap_a', 'tap_b')
  means = mean_cells(matching.cells(run, MEASURES), keys)
  means = runs.with_sizes(means, ('model', 'kind'), matching.sizes(run))
  orders = run.orders | {'kind': matching.KINDS, 'position': None}
  return tables.annotate(tables.in_order(means, orders), run.definition)


def draw(table: pa.Table) -> plots.Figure:
  """A line of panels per number, a column per model, under every measure."""
  rows, definition = table.to_pylist(), tables.definition_of(table)
  there = {
    measure: own
    for measure in MEASURES
    if (own := [row for row in rows if row['measure'] == measure])
  }
  if not there:
    return plots.Figure(3, {})
  models = tables.by_model(rows, definition)
  panels = [
    (model, measure, panel)
    for measure, own in there.items()
    for model, panel in _panels(own, measure, definition)
  ]
  columns = len(models)
  if not 1 < columns <= tables.SIDE_BY_SIDE:
    columns = len(there)
    order = [model for model, _ in models]
    panels.sort(key=lambda panel: order.index(panel[0]))
  drawn = tuple(panel for *_, panel in panels)
  first = next(iter(there))
  view = plots.View(
    tables.subtitle(', '.join(there), definition),
    drawn,
    plots.legend(line for panel in drawn for line in panel.lines),
    (
      *(tables.notes(own, one, definition)[0] for one, own in there.items()),
      *tables.notes(rows, first, definition)[1:],
    ),
  )
  return plots.Figure(columns, {plots.EVERY_MEASURE: view})


def _panels(
  rows: Sequence[tables.Row], measure: str, definition: Mapping[str, Any]
) -> list[tuple[str, plots.Lines]]:
  """Each model's panel of one measure, all on one scale."""
  reference = _REFERENCE[measure]
  low, high = plots.limits((row['value'] for row in rows), reference)
  if measure == 'norm_ratio':
    low = max(low, 0.0)  # where it begins, and no line of zero is drawn
  title = measures.title(measure)
  found = []
  for model, own in tables.by_model(rows, definition):
    stages = matching.stages(definition, model)
    places = plots.places(stages)
    lines = _lines(own, places)
    ends = (places[0], places[-1])
    lines += (plots.Line(ends, (reference,) * 2, (_NONE.label,) * 2, _NONE),)
    panel = plots.Lines(
      tables.panel_title(model, title, definition),
      'layer',
      title,
      tuple((places[i], name) for i, name in plots.ticks(stages)),
      (low, high),
      lines,
    )
    found.append((model, panel))
  return found


def _lines(
  rows: Sequence[tables.Row], places: Sequence[float]
) -> tuple[plots.Line, ...]:
  """One per kind; none where the widths differ, which leaves it undefined."""
  found = []
  for kind, key in _KEYS.items():
    own = [row for row in rows if row['kind'] == kind]
    if any(row['value'] is not None for row in own):
      found.append(tables.curve(own, 'value', _head, key, places))
  return tuple(found)


def _head(row: tables.Row) -> str:
  return f'{_KEYS[row["kind"]].label} · {row["tap_a"]} with {row["tap_b"]}'
