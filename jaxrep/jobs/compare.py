"""Scores every pair of representations in the store.

    python run.py compare --workdir=runs/one --measures=svcca,cka --svcca_k=50

Writes scores.parquet: one row an unordered pair of (language, modality, tap),
each with its floor, and adds the measures' definitions to plan.json.
"""

import dataclasses

from absl import logging

from jaxrep.jobs import settings
from jaxrep.registry import lookup


@dataclasses.dataclass(frozen=True)
class Config(settings.Comparison, settings.Devices):
  pass


def run(config: Config) -> None:
  from jaxrep import mesh

  mesh.start(config.multihost, config.jax_cache)
  compare(config)


def check(config: Config) -> None:
  """Refuses what cannot be compared, before anything is computed."""
  from jaxrep.similarity import MEASURES

  for measure in config.measures:
    lookup(MEASURES, measure, 'measure')
  _parameters(config)


def _parameters(config: Config):
  from jaxrep.similarity import Parameters

  return Parameters(config.svcca_variance, config.svcca_k or None)


def compare(config: Config) -> None:
  from jaxrep import mesh
  from jaxrep.jobs import definition, scoring

  check(config)
  defined = definition.read(config.workdir)
  scores = scoring.score_run(
    defined,
    scoring.Choice(
      workdir=config.workdir,
      measures=config.measures,
      parameters=_parameters(config),
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
