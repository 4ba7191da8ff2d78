"""From parallel text and speech to a report: extract, compare, test, report.

    python run.py
    python run.py --models=seamless-m4t-v2-large --corpus=fleurs \
        --languages=paper30 --workdir=gs://bucket/run1

Without flags: the bundled corpus (8 languages) through the bundled models, of
one architecture: three kinds of training and an untrained control.
"""

import dataclasses

from jaxrep.config import flag
from jaxrep.jobs import compare, extract, findings, report, settings


@dataclasses.dataclass(frozen=True)
class Config(extract.Config, compare.Config, settings.Findings):
  findings: bool = flag(True, 'Test the findings before the report is written.')


def run(config: Config) -> None:
  from jaxrep import hosts

  compare.check(config)
  findings.check(config)
  with hosts.joined(config.multihost, config.jax_cache):
    _carry_out(config)


def _carry_out(config: Config) -> None:
  from jaxrep import hosts
  from jaxrep.jobs import definition, scoring
  from jaxrep.jobs.sides import compared
  from jaxrep.observe import recorder

  with recorder.stage('plan'):
    plan = definition.make_plan(config)
  compared(plan.definition, config.language_set)  # refuses before work is done
  # A model is scored as soon as it is extracted.
  compare.compare(config, extract.model_by_model(plan, config))
  if hosts.is_first():
    if config.findings:
      findings.carry_out(findings.of(config))
    report.run(report.Config(config.workdir))
    scoring.forget_tiles(config.workdir)
