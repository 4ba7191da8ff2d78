"""report.html, one page that opens without a network, and its figure files."""

import collections
import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jinja2
import markupsafe
import pyarrow as pa
from etils import epath
from plotly import offline

from jaxrep import files, languages
from jaxrep.report import (
  cautions,
  costs,
  embedded,
  measures,
  methods,
  overview,
  plots,
  printed,
  references,
  tables,
  verdicts,
)
from jaxrep.report.verdicts import Verdict

IDS_SHOWN = 20
MAIN_FIGURE = 'text_speech'
_MANY = 16  # figures, for which a second process pays
QUESTION = (
  'Do models represent a sentence alike as text and as speech, in every '
  'language?'
)


@runtime_checkable
class Run(Protocol):
  """What the page needs of a run (`jaxrep.analyses.run.Run`)."""

  definition: dict[str, Any]
  scores: pa.Table


def write_report(
  run: Run,
  results: Sequence[tables.Result],
  workdir: epath.PathLike,
  findings: Sequence[Verdict] = (),
  cost: Callable[[], Mapping[str, Any]] = dict,
) -> None:
  """Writes all that a finished run leaves to its readers.

  These are report.html, figures/*.pdf and *.png, tables/*.csv, scores.csv and
  summary.json in `workdir`, whatever was there before; with `findings` also
  tables/findings.csv. `cost` gives `run` of summary.json, and is asked when the
  figures are drawn.
  """
  workdir = epath.Path(workdir)
  write_figures(results, workdir / 'figures')
  spent = cost()
  told = {'findings': verdicts.summary(findings), 'run': spent}
  tables.write_tables(results, run.scores, run.definition, workdir, told)
  if findings:
    csv = workdir / 'tables' / 'findings.csv'
    tables.write_csv(verdicts.to_table(findings), csv)
  page = render_page(run.definition, run.scores, results, findings, spent)
  files.write(workdir / 'report.html', page)


def write_figures(results: Iterable[tables.Result], folder: epath.Path) -> None:
  """Writes .pdf and .png of every view, named by `plots.stem`."""
  jobs = {
    plots.stem(one.name, measure): (one.title, one.figure.columns, view)
    for one in results
    for measure, view in one.figure.views.items()
  }
  for stem, prints in zip(jobs, _rendered(list(jobs.values())), strict=True):
    for kind, data in prints.items():
      files.write(folder / f'{stem}.{kind}', data)


def _rendered(jobs: Sequence[tuple[Any, ...]]) -> Iterable[dict[str, bytes]]:
  """`printed.render` of each; of many, in as many processes as cores."""
  if len(jobs) < _MANY:
    return [printed.render(*job) for job in jobs]
  fresh = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(mp_context=fresh) as pool:
    return list(pool.map(printed.render, *zip(*jobs, strict=True)))


def render_page(
  definition: Mapping[str, Any],
  scores: pa.Table,
  results: Sequence[tables.Result],
  findings: Sequence[Verdict] = (),
  cost: Mapping[str, Any] | None = None,
) -> str:
  """The page as text: styles, data and plotly.js are inside, once."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('jaxrep', 'report'),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  n = tables.span(*cautions.sentences(scores))
  return environment.get_template('page.html').render(
    question=QUESTION,
    title=_title(definition),
    sentences=n,
    **_kinds(definition),
    **_findings(definition, results, findings),
    **_figures(definition, results),
    cautions=cautions.of_run(definition, scores),
    headlines=overview.headlines(results, definition),
    overview=overview.overview(results, definition),
    languages=_languages(definition),
    dropped=_dropped(definition['dropped']),
    run=definition,
    cost=costs.costs(cost or {}),
    reads=_reads,
    common_ids=methods.COMMON_IDS[definition['common_ids']],
    recordings=methods.RECORDINGS[definition['recordings']],
    methods=methods.paragraphs(definition, n, findings),
    bibtex=references.bibtex(definition),
    plotly=markupsafe.Markup(offline.get_plotlyjs()),
  )


def _kinds(definition: Mapping[str, Any]) -> dict[str, Any]:
  """Which models, languages and weights these are."""
  return {
    'controls': _controls(definition),
    'demonstrations': tables.demonstrations(definition),
    'non_commercial': _non_commercial(definition),
    'compared': [
      definition['language_names'][iso]
      for iso in definition['compared_languages']
    ],
  }


def _findings(
  definition: Mapping[str, Any],
  results: Sequence[tables.Result],
  findings: Sequence[Verdict],
) -> dict[str, Any]:
  """The verdicts, and the measures that the page can show."""
  drawn = {name for result in results for name in result.figure.views}
  main = (v.measure for v in findings if '.' not in v.finding)
  judged = list(dict.fromkeys(main))
  known = [name for name in measures.drawn(definition) if name in drawn]
  shown = dict.fromkeys([*known, *judged])
  models = definition['models']
  return {
    'measures': {name: measures.title(name) for name in shown},
    'shown': next(iter(shown), ''),
    'model_titles': [tables.model_title(name, definition) for name in models],
    'board': verdicts.board(findings, judged, definition),
    'findings': verdicts.full(findings, definition),
    'statistics': _first(findings),
    'marks': verdicts.MARKS,
    'rule': verdicts.RULE,
  }


def _first(findings: Iterable[Verdict]) -> dict[str, Verdict]:
  """A row of each finding, which says its claim and its statistic."""
  found: dict[str, Verdict] = {}
  for verdict in findings:
    found.setdefault(verdict.finding, verdict)
  return found


def _figures(
  definition: Mapping[str, Any], results: Sequence[tables.Result]
) -> dict[str, Any]:
  """The main figure, the others, and what stands beside each."""
  return {
    'main': [one for one in results if one.name == MAIN_FIGURE],
    'others': [one for one in results if one.name != MAIN_FIGURE],
    'panel_id': embedded.panel_id,
    'stem': plots.stem,
    'statistic': _statistic,
    'beside': {
      (result.name, measure): cautions.of_view(
        result.table, measure, definition
      )
      for result in results
      for measure in result.figure.views
    },
    'two_scales': {'raw', 'calibrated'}
    <= {
      _statistic(panel.title)
      for result in results
      for view in result.figure.views.values()
      for panel in view.panels
    },
    'panels': embedded.panels_packed(results),
  }


def _statistic(title: str) -> str:
  """'calibrated', 'raw' (a floor is on its scale) or '', of a panel's title.

  As `tables.panel_title` writes it: what is shown, after the model's title.
  """
  shown = title.rpartition(': ')[2].casefold()
  if shown.startswith('calibrated'):
    return 'calibrated'
  return 'raw' if shown.startswith(('raw', 'floor')) else ''


def _title(definition: Mapping[str, Any]) -> str:
  models = [tables.model_title(m, definition) for m in definition['models']]
  named = ' and '.join(models) if len(models) < 3 else f'{len(models)} models'
  count = len(definition['compared_languages'])
  return (
    f'{named}: the same sentence as text and as speech in '
    f'{count} language{"" if count == 1 else "s"}'
  )


def _controls(definition: Mapping[str, Any]) -> dict[str, list[str]]:
  """What controls are → the titles of those that are it."""
  found: dict[str, list[str]] = {}
  for model in definition['models'].values():
    if model['control']:
      found.setdefault(model['control'], []).append(model['title'])
  return found


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
