"""Every text layer against every speech layer, mean over languages."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from jaxrep.analyses import run as runs
from jaxrep.report import plots, tables
from jaxrep.report.means import mean_cells

_QUANTITIES = {
  'value': 'raw',
  'floor': 'floor',
  'calibrated': 'calibrated',
}


def compute(run: runs.Run) -> pa.Table:
  """One row per model, measure and pair of taps (`tap_text`, `tap_speech`)."""
  keys = ('model', 'measure', 'tap_text', 'tap_speech')
  means = mean_cells(run.text_speech_cells(), keys)
  sizes = {
    (model,): len(run.languages(model, 'text', 'speech'))
    for model in run.definition['models']
  }
  means = runs.with_sizes(means, ('model',), sizes)
  orders = run.orders | {
    f'tap_{modality}': list(
      dict.fromkeys(
        tap
        for model in run.definition['models'].values()
        for tap, _ in model['taps'][modality]
      )
    )
    for modality in ('text', 'speech')
  }
  return tables.annotate(tables.in_order(means, orders), run.definition)


def draw(table: pa.Table) -> plots.Figure:
  """Three maps per model: raw, floor (on raw's scale), calibrated."""
  return plots.Figure(3, tables.views(table, _view))


def _view(
  rows: Sequence[tables.Row], measure: str, definition: Mapping[str, Any]
) -> tuple[list[plots.Heatmap], list[plots.Key]]:
  raw = plots.limits(row[n] for row in rows for n in ('value', 'floor'))
  calibrated = plots.limits((row['calibrated'] for row in rows), 0.0)
  reach = max(abs(end) for end in calibrated)
  panels = []
  for model, own in tables.by_model(rows, definition):
    cells = {(row['tap_text'], row['tap_speech']): row for row in own}
    taps = definition['models'][model]['taps']
    for statistic, quantity in tables.quantities(rows, _QUANTITIES).items():
      centred = statistic == 'calibrated'
      panels.append(
        _map(
          cells,
          statistic,
          [tap for tap, _ in taps['text']],
          [tap for tap, _ in taps['speech']],
          title=tables.panel_title(model, quantity, definition),
          scale='diverging' if centred else 'sequential',
          limits=(-reach, reach) if centred else raw,
        )
      )
  gaps = any(value is None for p in panels for line in p.z for value in line)
  return panels, [plots.UNDEFINED] if gaps else []


def _map(
  cells: Mapping[tuple[str, str], tables.Row],
  statistic: str,
  text: Sequence[str],
  speech: Sequence[str],
  **style: Any,
) -> plots.Heatmap:
  def hover(tap_text: str, tap_speech: str) -> str:
    head = f'{tap_text} with {tap_speech}'
    row = cells.get((tap_text, tap_speech))
    return head if row is None else tables.hover(head, row)

  return plots.Heatmap(
    xlabel='speech layer',
    ylabel='text layer',
    xticks=_ticks(speech),
    yticks=_ticks(text),
    z=tuple(
      tuple(cells[t, s][statistic] if (t, s) in cells else None for s in speech)
      for t in text
    ),
    hover=tuple(tuple(hover(t, s) for s in speech) for t in text),
    **style,
  )


def _ticks(taps: Sequence[str]) -> plots.Ticks:
  stages = [plots.stage(tap) for tap in taps]
  return plots.ticks(stages, apart=math.ceil(len(stages) / 14))
