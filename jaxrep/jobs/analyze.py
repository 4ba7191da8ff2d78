"""Computes the tables and figures of the analyses from the scores.

    python run.py analyze --workdir=runs/one --analyses=text_speech,adaptor

Of analyses that are named the tables and figures alone are written; of all of
them also scores.csv and summary.json, which the report writes as well.
"""

import dataclasses

from jaxrep.config import flag
from jaxrep.jobs import settings


@dataclasses.dataclass(frozen=True)
class Config(settings.Workdir):
  analyses: tuple[str, ...] = flag(
    (), 'Which; empty for all. `run.py list analyses` shows them.'
  )


def run(config: Config) -> None:
  from etils import epath

  from jaxrep.analyses import analyze, verdicts
  from jaxrep.analyses.run import load_run
  from jaxrep.observe import recorder, sessions
  from jaxrep.report import page, tables
  from jaxrep.report import verdicts as boards

  loaded = load_run(config.workdir)
  with recorder.stage('analyses'):
    results = analyze(loaded, config.analyses)
  folder = epath.Path(config.workdir)
  with recorder.stage('report'):
    page.write_figures(results, folder / 'figures')
  if config.analyses:
    for result in results:
      tables.write_csv(result.table, folder / 'tables' / f'{result.name}.csv')
    return
  found = verdicts.read(config.workdir, loaded.definition)
  findings = boards.summary(found)
  told = {'findings': findings, 'run': sessions.read(folder)}
  tables.write_tables(results, loaded.scores, loaded.definition, folder, told)
