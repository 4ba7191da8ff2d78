"""Scores every pair of representations in the store.

    python run.py compare --workdir=runs/one --measures=svcca,cka --svcca_k=50

Writes scores.parquet: one row an unordered pair of (language, modality, tap),
each with its floor, and adds the measures' definitions to plan.json.
"""

import dataclasses

from absl import logging

from jaxrep.jobs import settings


@dataclasses.dataclass(frozen=True)
class Config(settings.Comparison, settings.Devices):
  pass


def run(config: Config) -> None:
  from jaxrep import mesh

  mesh.start(config.multihost, config.jax_cache)
  compare(config)


def compare(config: Config) -> None:
  from jaxrep import mesh
  from jaxrep.jobs import definition, scoring
  from jaxrep.similarity import Parameters

  defined = definition.read(config.workdir)
  parameters = Parameters(config.svcca_variance, config.svcca_k or None)
  scores = scoring.score_run(
    defined,
    scoring.Choice(
      workdir=config.workdir,
      measures=config.measures,
      parameters=parameters,
      layer_pairs=config.layer_pairs,
      common_ids=config.common_ids,
      minimum_ids=config.minimum_ids,
      permutations=config.permutations,
      seed=config.seed,
    ),
    mesh.global_mesh(),
  )
  logging.info('%d scores', len(scores.table))
  if mesh.is_first():
    scoring.write(scores, defined, config)
