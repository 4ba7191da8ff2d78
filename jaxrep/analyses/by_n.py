"""Every finding against the number of sentences that it is computed on."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from jaxrep.analyses import run as runs
from jaxrep.analyses import verdicts
from jaxrep.findings import FINDINGS
from jaxrep.report import measures, plots, tables

# Of models, in the run's order; apart under the common kinds of colour
# blindness. Markers repeat what colours say.
_STYLES = (
  *(('#004488', 'circle'), ('#D95F02', 'square'), ('#1B9E9E', 'diamond')),
  *(('#75757d', 'cross'), ('#AA4499', 'circle'), ('#1b1b1f', 'square')),
)
_NAMES = ('model', 'measure', 'finding', 'verdict')
_NUMBERS = (
  *('value', 'ci_low', 'ci_high', 'p', 'calibrated', 'calibrated_low'),
  *('calibrated_high', 'calibrated_p', 'calibrated_effect'),
)
_SCHEMA = pa.schema(
  [
    *((name, pa.string()) for name in _NAMES),
    *((name, pa.int64()) for name in ('n', 'k_min', 'k_max', 'languages')),
    *((name, pa.float64()) for name in _NUMBERS),
  ]
)
_MEASURES = {'svcca': 'svcca_k'}  # the run's → the one whose k is fixed


def compute(run: runs.Run) -> pa.Table:
  """The main findings on parts of the sentences, and on all of them.

  Returns:
    One row per measure, model, finding and n, none before `run.py findings`.
  """
  main = [
    row
    for name in verdicts.FILES
    for row in verdicts.rows(run.workdir, name, run.definition)
    if '.' not in row['finding'] and row['n'] is not None
  ]
  order = {name: i for i, name in enumerate(run.definition['models'])}
  main = [row for row in main if row['model'] in order]
  main.sort(
    key=lambda row: (
      *(row['measure'], order[row['model']], row['finding'], row['n']),
    )
  )
  return tables.annotate(pa.Table.from_pylist(main, _SCHEMA), run.definition)


def draw(table: pa.Table) -> plots.Figure:
  """A panel per finding, a line per model between the ends of its interval."""
  rows, definition = table.to_pylist(), tables.definition_of(table)
  views = {}
  for measure in measures.drawn(definition):
    name = _MEASURES.get(measure, measure)
    own = [row for row in rows if row['measure'] == name]
    if own:
      panels = _panels(own, measure, definition)
      legend = plots.legend(line for one in panels for line in one.lines)
      subtitle = tables.subtitle(measure, definition)
      views[measure] = plots.View(subtitle, panels, legend, _notes(own))
  return plots.Figure(2, views)


def _panels(
  rows: Sequence[tables.Row], measure: str, definition: Mapping[str, Any]
) -> tuple[plots.Lines, ...]:
  sizes = sorted({row['n'] for row in rows})
  panels = []
  for finding in dict.fromkeys(row['finding'] for row in rows):
    own = [row for row in rows if row['finding'] == finding]
    ends = ('calibrated_low', 'calibrated_high')
    panels.append(
      plots.Lines(
        f'{finding}. {FINDINGS[finding].claim}',
        'sentences',
        f'statistic of {tables.axis_title(measure, "calibrated")}',
        tuple((n, str(n)) for n in sizes),
        plots.limits((row[end] for row in own for end in ends), 0.0),
        tuple(
          line
          for i, model in enumerate(definition['models'])
          if (mine := [row for row in own if row['model'] == model])
          for line in _lines(mine, model, _STYLES[i % len(_STYLES)], definition)
        ),
      )
    )
  return tuple(panels)


def _lines(
  rows: Sequence[tables.Row],
  model: str,
  style: tuple[str, str],
  definition: Mapping[str, Any],
) -> tuple[plots.Line, ...]:
  title = tables.model_title(model, definition)
  hover = tuple(
    f'<b>{title}</b><br>n {row["n"]}: {tables.number(row["calibrated"])} '
    f'[{tables.number(row["calibrated_low"])}, '
    f'{tables.number(row["calibrated_high"])}]<br>{row["verdict"]}'
    for row in rows
  )
  x = tuple(float(row['n']) for row in rows)
  bounds = plots.Key('its 95 % interval', 'member', style[0], style[1])
  keys = {
    'calibrated_low': bounds,
    'calibrated_high': bounds,
    'calibrated': plots.Key(title, 'mean', *style),
  }
  return tuple(
    plots.Line(x, tuple(row[name] for row in rows), hover, key)
    for name, key in keys.items()
  )


def _notes(rows: Sequence[tables.Row]) -> tuple[str, ...]:
  low = min((row['k_min'] for row in rows if row['k_min']), default=None)
  kept = '' if low is None else f', with k = {low} at every n'
  return (
    f'Calibrated statistics{kept}; positive where the finding holds. The '
    'smaller sets of sentences are parts of the larger ones. Thin lines are '
    'the ends of 95 % intervals over new sentences, languages fixed.',
  )
