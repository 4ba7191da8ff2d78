"""The headline numbers, ready to print: lines of one model, a table of many."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from jaxrep.report import measures, tables


def headlines(
  results: Iterable[tables.Result], definition: Mapping[str, Any]
) -> dict[str, list[dict[str, str]]]:
  """measure → the lines of a run of one model, ready to print."""
  lines = [line for result in results for line in result.headlines]
  found = {
    measure: [_headline(line) for line in lines if line.measure == measure]
    for measure in measures.drawn(definition)
  }
  return {measure: own for measure, own in found.items() if own}


def _headline(line: tables.Headline) -> dict[str, str]:
  details = ' · '.join([line.taps, *_details(line)])
  return _statistics(line) | {'label': line.label, 'details': details}


def _statistics(line: tables.Headline) -> dict[str, str]:
  signed = line.quantity.endswith('_change')
  return {n: tables.number(line.row[n], signed) for n in tables.STATISTICS}


def _details(line: tables.Headline) -> list[str]:
  row = line.row
  details = [f'n\xa0{tables.ends(row, "n")}']
  if row['k_min'] is not None:
    details.append(f'k\xa0{tables.ends(row, "k")}')
  if row['ceiling'] is not None:
    details.append(f'ceiling\xa0{tables.number(row["ceiling"])}')
  return [*details, tables.mean_of(row)]


def overview(
  results: Iterable[tables.Result], definition: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
  """measure → one table: a row a model, a column a headline."""
  lines = [line for result in results for line in result.headlines]
  found = {}
  for measure in measures.drawn(definition):
    columns: dict[str, dict[str, tables.Headline]] = {}
    for line in lines:
      if line.measure == measure:
        columns.setdefault(line.label, {})[line.model] = line
    floors = [x.row['floor'] for own in columns.values() for x in own.values()]
    shared = {label: _shared(own.values()) for label, own in columns.items()}
    found[measure] = {
      'statistic': 'calibrated'
      if any(x is not None for x in floors)
      else 'raw',
      'heads': [(label, ' · '.join(own)) for label, own in shared.items()],
      'rows': [
        (
          tables.model_title(model, definition),
          [_cell(own.get(model), shared[x]) for x, own in columns.items()],
        )
        for model in definition['models']
      ],
    }
  return found


def _shared(lines: Iterable[tables.Headline]) -> list[str]:
  """What all lines of a column say of themselves."""
  first, *others = [_details(line) for line in lines]
  return [one for one in first if all(one in other for other in others)]


def _cell(
  line: tables.Headline | None, shared: Collection[str]
) -> dict[str, str]:
  """The calibrated value, or the raw one where there is no floor; the rest."""
  if line is None:
    return {'main': tables.number(None), 'details': ''}
  numbers = _statistics(line)
  details = [one for one in _details(line) if one not in shared]
  main = numbers['value']
  if line.row['calibrated'] is not None:
    main = numbers['calibrated']
    details[:0] = [f'raw\xa0{numbers["value"]}', f'floor\xa0{numbers["floor"]}']
  return {'main': main, 'details': ' · '.join(details)}
