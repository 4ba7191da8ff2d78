"""Writes report.html, with every analysis' tables and figures.

python run.py report --workdir=runs/one
"""

import dataclasses

from jaxrep.jobs import settings


@dataclasses.dataclass(frozen=True)
class Config(settings.Workdir):
  pass


def run(config: Config) -> None:
  from jaxrep.analyses import analyze, verdicts
  from jaxrep.analyses.run import load_run
  from jaxrep.report import page

  loaded = load_run(config.workdir)
  findings = verdicts.read(config.workdir)
  page.write_report(loaded, analyze(loaded), config.workdir, findings)
  print(f'Report: {config.workdir}/report.html')
