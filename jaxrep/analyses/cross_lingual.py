"""Similarity of the same sentences between languages, by layer (Finding 3)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jaxrep.analyses import matching
from jaxrep.analyses import run as runs
from jaxrep.analyses.matching import MODALITIES
from jaxrep.report import plots, tables
from jaxrep.report.means import mean_cells

_QUANTITIES = {
  'value': 'raw, with its floor',
  'calibrated': 'calibrated',
}
_BOUNDS = {
  ('text', 'floor'): plots.Key('text floor', 'floor', plots.GREY),
  ('speech', 'floor'): plots.Key('speech floor', 'floor_dotted', plots.GREY),
  ('speech', 'ceiling'): plots.Key(
    'speech ceiling', 'ceiling', plots.MODALITY_STYLE['speech'][0]
  ),
}


def compute(run: runs.Run) -> pa.Table:
  """Means over all pairs of two languages at one tap of one modality.

  Returns:
    One row per model, measure, modality and tap; `position` is that of the tap
    on an axis which both modalities share.
  """
  cells = run.cells(
    (pc.field('modality_a') == pc.field('modality_b'))
    & (pc.field('tap_a') == pc.field('tap_b'))
    & (pc.field('lang_a') != pc.field('lang_b'))
  ).rename_columns({'modality_a': 'modality', 'tap_a': 'tap'})
  positions = {
    (model, tap): position
    for model in run.definition['models']
    for modality in MODALITIES
    for tap, position in matching.positions(
      run.definition, model, modality
    ).items()
  }
  cells = runs.labelled(
    cells, ('model', 'tap'), 'position', positions, pa.int64()
  )
  keys = ('model', 'measure', 'modality', 'position', 'tap')
  means = mean_cells(cells, keys)
  pairs = {
    (model, modality): math.comb(len(run.languages(model, modality)), 2)
    for model in run.definition['models']
    for modality in MODALITIES
  }
  means = runs.with_sizes(means, ('model', 'modality'), pairs)
  orders = run.orders | {'modality': MODALITIES, 'position': None}
  return tables.annotate(tables.in_order(means, orders), run.definition)


def draw(table: pa.Table) -> plots.Figure:
  """Text and speech over one layer axis; raw and calibrated."""
  return plots.Figure(tables.columns(table), tables.views(table, _view))


def headlines(table: pa.Table) -> tuple[tables.Headline, ...]:
  """The last tap of each modality."""
  found: tuple[tables.Headline, ...] = ()
  for modality in MODALITIES:
    last = {
      (row['model'], row['measure']): row
      for row in table.to_pylist()
      if row['modality'] == modality
    }
    found += tables.headlines(
      last.values(),
      f'cross_lingual_{modality}',
      f'{modality.capitalize()} between languages, last layer',
      ('tap',),
    )
  return found


def _view(
  rows: Sequence[tables.Row], measure: str, definition: Mapping[str, Any]
) -> tuple[list[plots.Lines], tuple[plots.Key, ...]]:
  bounds = [
    row[n] for row in rows for kind, n in _BOUNDS if kind == row['modality']
  ]
  spans = {
    'value': plots.limits([row['value'] for row in rows] + bounds),
    'calibrated': plots.limits((row['calibrated'] for row in rows), 0.0),
  }
  panels = []
  for model, own, statistic, title in tables.each_panel(
    rows, _QUANTITIES, definition
  ):
    stages = matching.stages(definition, model)
    places = plots.places(stages)
    panels.append(
      plots.Lines(
        title,
        'layer',
        tables.axis_title(measure, statistic),
        tuple((places[i], name) for i, name in plots.ticks(stages)),
        spans[statistic],
        _lines(own, statistic, places),
      )
    )
  return panels, plots.legend(line for panel in panels for line in panel.lines)


def _lines(
  rows: Sequence[tables.Row], statistic: str, places: Sequence[float]
) -> tuple[plots.Line, ...]:
  def add(rows: Sequence[tables.Row], column: str, key: plots.Key) -> None:
    curve = tables.curve(rows, column, lambda row: row['tap'], key, places)
    lines.append(curve)

  lines: list[plots.Line] = []
  for modality in MODALITIES:
    own = [row for row in rows if row['modality'] == modality]
    style = plots.MODALITY_STYLE[modality]
    key = plots.Key(f'{modality}, mean over language pairs', 'mean', *style)
    add(own, statistic, key)
    for (kind, name), bound in _BOUNDS.items():
      there = any(row[name] is not None for row in own)
      if statistic == 'value' and kind == modality and there:
        add(own, name, bound)
  return tuple(lines)
