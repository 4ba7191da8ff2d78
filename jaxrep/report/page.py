"""report.html, one page that opens without a network, and its figure files."""

import collections
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jinja2
import markupsafe
import pyarrow as pa
import pyarrow.compute as pc
from etils import epath
from plotly import offline

from jaxrep import languages
from jaxrep.report import interactive, printed, tables

IDS_SHOWN = 20
_COMMON_IDS = {
  'pair': 'each pair of representations on the sentences that both have',
  'all': 'only on the sentences that every language has in every modality',
}
_RECORDINGS = {
  'first': 'the first usable recording of each sentence',
  'mean': 'the mean over the recordings of each sentence',
}


@runtime_checkable
class Run(Protocol):
  """What the page needs of a run (`jaxrep.analyses.run.Run`)."""

  definition: dict[str, Any]
  scores: pa.Table


def write_report(
  run: Run, results: Sequence[tables.Result], workdir: epath.PathLike
) -> None:
  """Writes all that a finished run leaves to its readers.

  These are report.html, figures/*.pdf and *.png, tables/*.csv, scores.csv and
  summary.json in `workdir`, whatever was there before.
  """
  workdir = epath.Path(workdir)
  tables.write_tables(results, run.scores, run.definition, workdir)
  write_figures(results, workdir / 'figures')
  page = render_page(run.definition, run.scores, results)
  (workdir / 'report.html').write_text(page)


def write_figures(results: Iterable[tables.Result], folder: epath.Path) -> None:
  """Writes <analysis>-<measure>.pdf and .png."""
  folder.mkdir(parents=True, exist_ok=True)
  for result in results:
    for measure, view in result.figure.views.items():
      files = printed.render(result.title, result.figure.columns, view)
      for kind, data in files.items():
        (folder / f'{result.name}-{measure}.{kind}').write_bytes(data)


def render_page(
  definition: Mapping[str, Any],
  scores: pa.Table,
  results: Sequence[tables.Result],
) -> str:
  """The page as text: styles, data and plotly.js are inside, once."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('jaxrep', 'report'),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  return environment.get_template('page.html').render(
    run=definition,
    measures={
      name: tables.measure_title(name)
      for name in tables.measures(definition)
      if any(name in result.figure.views for result in results)
    },
    title=_title(definition),
    untrained=[
      m['title'] for m in definition['models'].values() if not m['trained']
    ],
    compared=[
      definition['language_names'][iso]
      for iso in definition['compared_languages']
    ],
    non_commercial=_non_commercial(definition),
    warnings=[*definition['warnings'], *_left_out(definition)],
    reads=_reads,
    sentences=_sentences(scores),
    demonstrations=tables.demonstrations(definition),
    headlines=_headlines(results, definition),
    overview=_overview(results, definition),
    results=results,
    languages=_languages(definition),
    dropped=_dropped(definition['dropped']),
    common_ids=_COMMON_IDS[definition['common_ids']],
    recordings=_RECORDINGS[definition['recordings']],
    plotly=markupsafe.Markup(offline.get_plotlyjs()),
    panels=_panels(results),
  )


def _title(definition: Mapping[str, Any]) -> str:
  models = [model['title'] for model in definition['models'].values()]
  named = ' and '.join(models) if len(models) < 3 else f'{len(models)} models'
  count = len(definition['compared_languages'])
  return (
    f'{named}: the same sentence as text and as speech in '
    f'{count} language{"" if count == 1 else "s"}'
  )


def _non_commercial(definition: Mapping[str, Any]) -> list[str]:
  """Each model's weights that a licence keeps from commercial use."""
  found = []
  for model in definition['models'].values():
    bound: dict[str, list[str]] = {}
    licences: dict[str, None] = {}
    for one in model['checkpoints']:
      if '-NC' in one['licence']:
        bound.setdefault(one['modality'], []).extend(one['languages'])
        licences[one['licence']] = None
    if bound:
      parts = ', '.join(
        _reads({'modality': modality, 'languages': of})
        for modality, of in bound.items()
      )
      found.append(f'{model["title"]}, {parts} ({", ".join(licences)})')
  return found


def _reads(checkpoint: Mapping[str, Any]) -> str:
  """What an encoder reads: 'text', or 'speech of eng'."""
  of = ', '.join(checkpoint['languages'])
  return checkpoint['modality'] + (f' of {of}' if of else '')


def _left_out(definition: Mapping[str, Any]) -> list[str]:
  """One sentence on the languages that were extracted but not compared."""
  compared = set(definition['compared_languages'])
  absent = [iso for iso in definition['languages'] if iso not in compared]
  if not absent:
    return []
  return [
    f'Not compared: {", ".join(absent)}, since not every model reads them in '
    'every modality. What was extracted of them is in the store; '
    '--language_set=own compares each model in its own languages.'
  ]


def _sentences(scores: pa.Table) -> str:
  """The range of n over all defined cells."""
  ends = pc.min_max(scores['n'].filter(pc.is_valid(scores['value'])))
  return tables.span(ends['min'].as_py(), ends['max'].as_py())


def _headlines(
  results: Iterable[tables.Result], definition: Mapping[str, Any]
) -> dict[str, list[dict[str, str]]]:
  """measure → the lines of a run of one model, ready to print."""
  lines = [line for result in results for line in result.headlines]
  found = {
    measure: [_headline(line) for line in lines if line.measure == measure]
    for measure in tables.measures(definition)
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


def _overview(
  results: Iterable[tables.Result], definition: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
  """measure → one table: a row a model, a column a headline."""
  lines = [line for result in results for line in result.headlines]
  found = {}
  for measure in tables.measures(definition):
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


def _languages(definition: Mapping[str, Any]) -> list[dict[str, Any]]:
  classes = definition['resource_classes']
  return [
    {
      'iso': iso,
      'name': definition['language_names'][iso],
      'script': _script(iso),
      'group': classes.get(iso, 'unclassified'),
      'sentences': definition['sentences'][iso],
    }
    for iso in definition['languages']
  ]


def _script(iso: str) -> str:
  known = languages.LANGUAGES.get(iso)
  return known.script if known else '–'


def _dropped(rows: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
  """Dropped examples by reason, language and modality, with their ids."""
  groups = collections.defaultdict(list)
  for row in rows:
    key = (row['reason'], row['language'], row['modality'])
    groups[key].append(row['id'])
  return [
    {
      'reason': reason,
      'language': language,
      'modality': modality,
      'count': len(ids),
      'ids': ', '.join(ids[:IDS_SHOWN])
      + (f' and {len(ids) - IDS_SHOWN} more' if len(ids) > IDS_SHOWN else ''),
    }
    for (reason, language, modality), ids in groups.items()
  ]


def _panels(results: Iterable[tables.Result]) -> markupsafe.Markup:
  """All panels as one JSON object, safe inside a script element."""
  panels = {
    f'{result.name}-{measure}-{index}': interactive.panel_json(panel)
    for result in results
    for measure, view in result.figure.views.items()
    for index, panel in enumerate(view.panels, 1)
  }
  text = json.dumps(panels, ensure_ascii=False, separators=(',', ':'))
  text = text.replace('</', '<\\/').replace('<!--', '\\u003c!--')
  return markupsafe.Markup(text)
