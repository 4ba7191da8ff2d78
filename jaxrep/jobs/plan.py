"""Prints what a run will take, and writes its definition.

    python run.py plan --models=seamless-m4t-v2-large --corpus=fleurs

Units, compiled shapes, bytes of the store, floating-point operations, and the
id sets of the comparison. No weights are read.
"""

import dataclasses

from jaxrep.jobs import settings


@dataclasses.dataclass(frozen=True)
class Config(settings.Selection, settings.Comparison, settings.Devices):
  pass


def run(config: Config) -> None:
  from jaxrep import mesh
  from jaxrep.extract import cost
  from jaxrep.jobs import definition

  mesh.start(config.multihost, config.jax_cache)
  plan = definition.make_plan(config)
  if mesh.is_first():
    definition.write(plan, config.workdir)
    print(cost.describe(plan.entries))
    print(_alignment(plan, config))


def _alignment(plan, config: Config) -> str:
  """How many id sets the comparison has, and what they cost."""
  from jaxrep.data import parallel

  lines = []
  for name in dict.fromkeys(entry.model.name for entry in plan.entries):
    sides = {
      (entry.language, entry.model.modality): [row.id for row in entry.rows]
      for entry in plan.entries
      if entry.model.name == name
    }
    aligned = parallel.common_ids(sides, config.common_ids, config.minimum_ids)
    found = parallel.summarise(sides, aligned)
    lines.append(
      f'{name}: {found.pairs} pairs of sides on {found.sets} id sets, '
      f'{found.bases} bases of every layer; {found.short} pairs have too few '
      f'common sentences; {found.common} sentences are common to all.'
    )
  return '\n'.join(lines)
