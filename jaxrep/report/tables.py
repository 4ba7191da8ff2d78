"""Tidy tables: what they say of their run, the files."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from etils import epath
from pyarrow import csv

from jaxrep import files
from jaxrep.report import measures, plots

Row = Mapping[str, Any]
STATISTICS = ('value', 'floor', 'calibrated')
OF_ONE_CELL = ('ci_low', 'ci_high', 'p', 'q')  # a mean has none
NUMBERS = (
  *(*STATISTICS, 'ceiling', *OF_ONE_CELL),
  *('used', 'used_calibrated', 'of', 'n_min', 'n_max', 'k_min', 'k_max'),
)
SIDE_BY_SIDE = 4  # models
CLASSES = ('high', 'medium', 'low', 'unclassified')


@dataclasses.dataclass(frozen=True)
class Headline:
  """One line of the headline table: a row of an analysis that stands alone.

  `quantity` is its name in summary.json, `label` its name on the page, `row`
  holds the statistics with `used`, `of`, `n_min` … `k_max`; `taps` says what
  was compared.
  """

  model: str
  measure: str
  quantity: str
  label: str
  taps: str
  row: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Result:
  """What one analysis gives to the report."""

  name: str
  title: str
  explanation: str
  needs: str
  table: pa.Table
  figure: plots.Figure
  headlines: tuple[Headline, ...]


def in_order(
  table: pa.Table, orders: Mapping[str, Sequence[str] | None]
) -> pa.Table:
  """Rows sorted by the named columns: as the given names are, or by number."""
  columns = []
  for name, order in orders.items():
    values = table[name].to_pylist()
    if order is not None:
      rank = {value: index for index, value in enumerate(order)}
      values = [rank[value] for value in values]
    columns.append(values)
  keys = list(zip(*columns, strict=True))
  rows = sorted(range(len(keys)), key=keys.__getitem__)
  return table.take(pa.array(rows, pa.int64()))


def annotate(table: pa.Table, definition: Mapping[str, Any]) -> pa.Table:
  """The table with the run's definition as metadata, for whoever draws it."""
  return table.replace_schema_metadata({'run': json.dumps(definition)})


def definition_of(table: pa.Table) -> dict[str, Any]:
  """The definition of the run that a table was computed from."""
  return json.loads(table.schema.metadata[b'run'])


def model_title(name: str, definition: Mapping[str, Any]) -> str:
  """A model's title, which says so where it is a control."""
  model = definition['models'][name]
  short = model['control'].partition(':')[0]
  return model['title'] + (f' ({short})' if short else '')


def demonstrations(definition: Mapping[str, Any]) -> dict[str, list[str]]:
  """What models for demonstration are → the titles of those that are it."""
  found: dict[str, list[str]] = {}
  for name, model in definition['models'].items():
    if kind := model['demonstration']:
      found.setdefault(kind, []).append(model_title(name, definition))
  return found


def class_title(name: str) -> str:
  if name == 'unclassified':
    return 'mean of those without a class'
  return f'{name}-resource mean'


def axis_title(measure: str, statistic: str) -> str:
  prefix = 'calibrated ' if statistic == 'calibrated' else ''
  return prefix + measures.title(measure)


def panel_title(
  model: str, quantity: str, definition: Mapping[str, Any]
) -> str:
  """`quantity`, after the model's title where the run has several models."""
  if len(definition['models']) == 1:
    return quantity[0].upper() + quantity[1:]
  return f'{model_title(model, definition)}: {quantity}'


def subtitle(measure: str, definition: Mapping[str, Any]) -> str:
  """Measure, corpus and model of a figure, and whether they are real."""
  corpus = definition['corpus']
  parts = [measures.title(measure), corpus['title']]
  if corpus['synthetic']:
    parts[1] += ' (synthetic speech)'
  if len(definition['models']) == 1:
    parts.extend(model_title(name, definition) for name in definition['models'])
  return ' · '.join([*parts, *demonstrations(definition)])


def by_model(
  rows: Sequence[Row], definition: Mapping[str, Any]
) -> list[tuple[str, list[Row]]]:
  """The rows of each model that has some, in the run's order."""
  groups = [
    (model, [row for row in rows if row['model'] == model])
    for model in definition['models']
  ]
  return [(model, own) for model, own in groups if own]


def columns(table: pa.Table) -> int:
  """How many panels of `each_panel` stand side by side."""
  models = len(set(table['model'].to_pylist()))
  return models if 2 < models <= SIDE_BY_SIDE else 2


def each_panel(
  rows: Sequence[Row], titles: Mapping[str, str], definition: Mapping[str, Any]
) -> list[tuple[str, list[Row], str, str]]:
  """(model, its rows, statistic, title) of each panel of a measure.

  As many models as a page has columns for stand side by side, a line a
  statistic, so that one look compares them; more have a line each.
  """
  models = by_model(rows, definition)
  found = [
    (model, own, statistic, panel_title(model, quantity, definition))
    for statistic, quantity in quantities(rows, titles).items()
    for model, own in models
  ]
  if len(models) > SIDE_BY_SIDE:
    order = {model: place for place, (model, _) in enumerate(models)}
    found.sort(key=lambda panel: order[panel[0]])
  return found


def quantities(
  rows: Sequence[Row], titles: Mapping[str, str]
) -> dict[str, str]:
  """Statistic → title of the panels that rows of one measure can fill."""
  there = {n: any(row[n] is not None for row in rows) for n in STATISTICS}
  found = {n: title for n, title in titles.items() if there[n] or n == 'value'}
  return found if there['floor'] else found | {'value': 'raw'}


def views(
  table: pa.Table,
  draw: Callable[
    [Sequence[Row], str, Mapping[str, Any]],
    tuple[Sequence[plots.Panel], Sequence[plots.Key]],
  ],
) -> dict[str, plots.View]:
  """A view per measure that has rows; `draw` gives its panels and legend."""
  definition = definition_of(table)
  found = {}
  for measure in measures.drawn(definition):
    rows = [row for row in table.to_pylist() if row['measure'] == measure]
    if rows:
      panels, legend = draw(rows, measure, definition)
      found[measure] = plots.View(
        subtitle(measure, definition),
        tuple(panels),
        tuple(legend),
        notes(rows, measure, definition),
      )
  return found


def headlines(
  rows: Iterable[Row], quantity: str, label: str, taps: Sequence[str]
) -> tuple[Headline, ...]:
  """One headline per row; `taps` are the columns that say what it compares."""
  return tuple(
    Headline(
      row['model'],
      row['measure'],
      quantity,
      label,
      ' with '.join(row[name] for name in taps),
      {name: row[name] for name in NUMBERS},
    )
    for row in rows
  )


def curve(
  rows: Iterable[Row],
  statistic: str,
  head: Callable[[Row], str],
  key: plots.Key,
  places: Sequence[float],
) -> plots.Line:
  """A line with gaps at undefined values; `position` n stands at places[n]."""
  rows = sorted(rows, key=lambda row: row['position'])
  return plots.Line(
    tuple(places[row['position']] for row in rows),
    tuple(row[statistic] for row in rows),
    tuple(hover(head(row), row) for row in rows),
    key,
  )


def number(value: float | None, signed: bool = False) -> str:
  """Three decimals with a true minus sign; a dash for an undefined value."""
  if value is None:
    return '–'
  return f'{value:{"+" if signed else ""}.3f}'.replace('-', '−')


def span(low: int | None, high: int | None) -> str:
  """'12–34', '12' where both ends are equal, a dash where undefined."""
  if low is None:
    return '–'
  return str(low) if low == high else f'{low}–{high}'


def ends(row: Row, name: str) -> str:
  """The range of n or k over the cells of a row, as `span` writes it."""
  return span(row[f'{name}_min'], row[f'{name}_max'])


def hover(head: str, row: Row) -> str:
  """What the pointer shows of one row."""
  lines = [
    f'<b>{head}</b>',
    f'raw {number(row["value"])}{interval(row)} · floor {number(row["floor"])}',
    f'calibrated {number(row["calibrated"])}',
    f'n {ends(row, "n")} · k {ends(row, "k")}',
  ]
  if row['ceiling'] is not None:
    lines[2] += f' · ceiling {number(row["ceiling"])}'
  if row['p'] is not None:
    lines.append(f'p {probability(row["p"])} · q {probability(row["q"])}')
  if row['of'] > 1:
    lines.append(mean_of(row))
  return '<br>'.join(lines)


def interval(row: Row) -> str:
  """' [0.412, 0.503]', or nothing where there is none."""
  if row['ci_low'] is None:
    return ''
  return f' [{number(row["ci_low"])}, {number(row["ci_high"])}]'


def probability(p: float | None) -> str:
  """As `number`, but for what would be 0.000."""
  return '< 0.001' if p is not None and p < 0.001 else number(p)


def mean_of(row: Row) -> str:
  """'mean of 8', or 'mean of 7 of 8' where a cell is undefined."""
  missing = f' of {row["of"]}' if row['used'] < row['of'] else ''
  return f'mean of {row["used"]}{missing}'


def notes(
  rows: Sequence[Row],
  measure: str,
  definition: Mapping[str, Any],
) -> tuple[str, ...]:
  """What has to stand beside a figure of `rows` under one measure."""
  n_min, n_max = _ends(rows, 'n')
  k_min, k_max = _ends(rows, 'k')
  sizes = f'n = {span(n_min, n_max)} sentences per cell'
  if k_min is not None:
    sizes += f'; k = {span(k_min, k_max)} components kept'
  defined = definition['measures'][measure]
  found = [f'{defined[0].upper()}{defined[1:]} {sizes}.']
  if k_min != k_max:
    found.append(
      'k differs between cells, and both chance and the calibrated score '
      'depend on it: compare such cells only under a fixed k or another '
      'measure.'
    )
  if n_min != n_max:
    found.append('n differs between cells, and the floor with it.')
  short = [row for row in rows if row['used'] < row['of']]
  if short:
    found.append(
      f'{len(short)} of {len(rows)} points lack cells: points without any are '
      'left open as gaps, the others are means over the cells that are defined '
      '(counts: hover, and «used» of «of» in the CSV).'
    )
  if any(row.get('level') == 'class' for row in rows):
    found.append(definition['resource_source'])
  if all(row['floor'] is None for row in rows):
    found.append('This measure has no floor: read it against another cell.')
  return tuple(found)


def _ends(rows: Sequence[Row], name: str) -> tuple[int | None, int | None]:
  lows = [row[f'{name}_min'] for row in rows if row[f'{name}_min'] is not None]
  highs = [row[f'{name}_max'] for row in rows if row[f'{name}_max'] is not None]
  return min(lows, default=None), max(highs, default=None)


def summary(
  results: Iterable[Result], definition: Mapping[str, Any]
) -> dict[str, Any]:
  """The headline numbers by model, measure and quantity, for programs."""
  said = ('title', 'trained', 'demonstration', 'control')
  models: dict[str, Any] = {
    name: {key: model[key] for key in said} | {'measures': {}}
    for name, model in definition['models'].items()
  }
  for result in results:
    for line in result.headlines:
      by_measure = models[line.model]['measures'].setdefault(line.measure, {})
      by_measure[line.quantity] = {'taps': line.taps} | line.row
  corpus = definition['corpus']
  return {
    'jaxrep': definition['jaxrep'],
    'created': definition['created'],
    'corpus': {name: corpus[name] for name in ('name', 'title', 'synthetic')},
    'languages': definition['languages'],
    'models': models,
  }


def write_tables(
  results: Sequence[Result],
  scores: pa.Table,
  definition: Mapping[str, Any],
  workdir: epath.Path,
  told: Mapping[str, Any],
) -> None:
  """Writes scores.csv, tables/<analysis>.csv, and summary.json.

  `told` is what the summary says besides, of `findings` and of the `run`.
  """
  write_csv(scores, workdir / 'scores.csv')
  folder = workdir / 'tables'
  for result in results:
    write_csv(result.table, folder / f'{result.name}.csv')
  content = summary(results, definition) | told
  text = json.dumps(content, indent=2, ensure_ascii=False)
  files.write(workdir / 'summary.json', text + '\n')


def write_csv(table: pa.Table, path: epath.Path) -> None:
  with files.replacing(path) as file:
    csv.write_csv(table, file)
