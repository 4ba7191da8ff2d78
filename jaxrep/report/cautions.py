"""What a reader has to bear in mind, of a run and of a single figure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from jaxrep.report import measures, tables

# About as many as the published study had a language.
FEW_SENTENCES = 250


class Caution(NamedTuple):
  """`short` fits a label, `text` is the whole of it."""

  short: str
  text: str


def of_run(
  definition: Mapping[str, Any], scores: pa.Table
) -> tuple[Caution, ...]:
  """In the order of the page: sentences, components, languages, examples."""
  return (
    *_few(scores),
    *_components(definition, scores),
    *_left_out(definition),
    *(Caution('', text) for text in definition['warnings']),
    *_dropped(definition['dropped']),
  )


def sentences(scores: pa.Table) -> tuple[int | None, int | None]:
  """The fewest and the most sentences of any defined cell."""
  ends = pc.min_max(scores['n'].filter(pc.is_valid(scores['value'])))
  return ends['min'].as_py(), ends['max'].as_py()


def _few(scores: pa.Table) -> list[Caution]:
  low, high = sentences(scores)
  if low is None or low >= FEW_SENTENCES:
    return []
  n = tables.span(low, high)
  text = (
    f'Few sentences: n = {n}; the published study had {FEW_SENTENCES} or so a '
    'language. With fewer, floors are higher and intervals wider: a difference '
    'that is not seen here may exist.'
  )
  return [Caution(f'Few sentences: n = {n}', text)]


def _components(
  definition: Mapping[str, Any], scores: pa.Table
) -> list[Caution]:
  found = scores.group_by('measure').aggregate([('k', 'min'), ('k', 'max')])
  uneven = {
    row['measure']: tables.span(row['k_min'], row['k_max'])
    for row in found.to_pylist()
    if row['k_min'] != row['k_max']
  }
  named = ', '.join(
    f'{measures.title(name)} ({uneven[name]})'
    for name in measures.drawn(definition)
    if name in uneven
  )
  text = (
    f'The number k of components differs between cells under {named}. Chance '
    'and the calibrated score depend on k, so layers and models are compared '
    'by the other measures, or under a fixed k (--svcca_k).'
  )
  return [Caution('k differs between cells', text)] if uneven else []


def _left_out(definition: Mapping[str, Any]) -> list[Caution]:
  """One caution on the languages that were extracted but not compared."""
  compared = set(definition['compared_languages'])
  absent = [iso for iso in definition['languages'] if iso not in compared]
  if not absent:
    return []
  text = (
    f'Not compared: {", ".join(absent)}, since not every model reads them in '
    'every modality. What was extracted of them is in the store; '
    '--language_set=own compares each model in its own languages.'
  )
  return [Caution(f'{_count(len(absent), "language")} not compared', text)]


def _dropped(dropped: Sequence[Mapping[str, str]]) -> list[Caution]:
  if not dropped:
    return []
  some = _count(len(dropped), 'example')
  languages = sorted({row['language'] for row in dropped})
  text = f'{some} left out ({", ".join(languages)}): listed under «Left out».'
  return [Caution(f'{some} left out', text)]


def _count(number: int, what: str) -> str:
  return f'{number} {what}{"" if number == 1 else "s"}'


def of_view(
  table: pa.Table, measure: str, definition: Mapping[str, Any]
) -> tuple[str, ...]:
  """What to put beside a figure of `table` under one measure, in few words."""
  rows = table
  if measure and 'measure' in table.column_names:
    rows = table.filter(pc.field('measure') == measure)
  found = []
  low, high = _ends(rows, 'n')
  if low is not None and low < FEW_SENTENCES:
    found.append(f'few sentences: n = {tables.span(low, high)}')
  low, high = _ends(rows, 'k')
  if low != high:
    found.append(f'k differs: {tables.span(low, high)}')
  if 'model' in rows.column_names:
    found += _uncovered(set(rows['model'].to_pylist()), definition)
  return tuple(found)


def _uncovered(
  models: Iterable[str], definition: Mapping[str, Any]
) -> list[str]:
  """Models that read only some of the languages that are compared."""
  compared = definition['compared_languages']
  found = []
  for name, model in definition['models'].items():
    lacks = [
      iso
      for iso in compared
      if any(iso not in model['languages'][m] for m in model['modalities'])
    ]
    if name in models and lacks:
      found.append(f'{model["title"]} lacks {", ".join(lacks)}')
  return found


def _ends(rows: pa.Table, name: str) -> tuple[int | None, int | None]:
  if f'{name}_min' not in rows.column_names:
    return None, None
  low = pc.min(rows[f'{name}_min']).as_py()
  return low, pc.max(rows[f'{name}_max']).as_py()
