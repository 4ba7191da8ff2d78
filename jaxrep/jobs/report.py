"""Writes report.html, with every analysis' tables and figures.

python run.py report --workdir=runs/one
"""

import dataclasses
import functools

from jaxrep.jobs import settings


@dataclasses.dataclass(frozen=True)
class Config(settings.Workdir):
  pass


def run(config: Config) -> None:
  from jaxrep.analyses import analyze, verdicts
  from jaxrep.analyses.run import load_run
  from jaxrep.observe import recorder, sessions
  from jaxrep.report import page

  loaded = load_run(config.workdir)
  findings = verdicts.read(config.workdir, loaded.definition)
  with recorder.stage('analyses'):
    results = analyze(loaded)
  cost = functools.partial(sessions.read, config.workdir)
  with recorder.stage('report'):
    page.write_report(loaded, results, config.workdir, findings, cost)
  print(f'Report: {config.workdir}/report.html')
