"""Scores every pair of representations in the store.

    python run.py compare --workdir=runs/one --measures=svcca,cka --svcca_k=50

Writes scores.parquet: one row an unordered pair of (language, modality, tap),
each with its floor, p-values and, where asked for, its interval and ceiling,
and adds the measures' definitions to plan.json. A pair of text and speech has
the text in front, which is the side that a measure with a direction goes from.
A comparison that was killed goes on with the same command.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from absl import logging

from jaxrep.jobs import settings
from jaxrep.registry import lookup
from jaxrep.types import InputError

# Fields whose flags have other names.
_FLAGS = {
  'variance': 'svcca_variance',
  'k': 'svcca_k',
  'splits': 'heldout_splits',
  'joint': 'joint_permutations',
}
_LEAST = {
  'svcca_k': 0,
  'minimum_ids': 3,
  'joint_permutations': 0,
}


@dataclasses.dataclass(frozen=True)
class Config(settings.Comparison, settings.Devices):
  pass


def run(config: Config) -> None:
  from jaxrep import hosts
  from jaxrep.jobs import scoring

  with hosts.joined(config.multihost, config.jax_cache):
    compare(config)
    if hosts.is_first():
      scoring.forget_tiles(config.workdir)


def check(config: settings.Comparison) -> None:
  """Refuses what cannot be compared, before anything is computed."""
  from jaxrep.similarity import MEASURES

  if not config.measures:
    raise InputError('--measures: name at least one.')
  for measure in config.measures:
    lookup(MEASURES, measure, 'measure')
    if config.measures.count(measure) > 1:
      raise InputError(f'--measures names {measure} twice: once is enough.')
  for flag, least in _LEAST.items():
    if getattr(config, flag) < least:
      raise InputError(
        f'--{flag}={getattr(config, flag)}: give {least} or more.'
      )
  settings.check_seed(config.seed)
  _parameters(config)
  _calibration(config)


def _count(statuses: list[dict[str, Any]]) -> None:
  """Says how many scores there are, and why some have no value."""
  counts = {row['values']: row['counts'] for row in statuses}
  total, defined = sum(counts.values()), counts.pop('ok', 0)
  logging.info('%d scores', total)
  if counts:
    logging.warning(
      '%d of %d scores have no value; most often: %s',
      *(total - defined, total, max(counts, key=counts.get)),
    )


def _parameters(config: settings.Comparison):
  from jaxrep.similarity import Parameters

  return _named_by_flag(
    Parameters,
    variance=config.svcca_variance,
    k=config.svcca_k or None,
    ridge=config.ridge,
    splits=config.heldout_splits,
    neighbours=config.neighbours,
  )


def _calibration(config: settings.Comparison):
  from jaxrep.similarity import Calibration

  return _named_by_flag(
    Calibration,
    permutations=config.permutations,
    joint=config.joint_permutations,
    replicates=config.replicates,
    seed=config.seed,
  )


def _named_by_flag(make: Callable[..., Any], **fields: Any) -> Any:
  """`make(**fields)`, whose errors begin with the field: tells the flag."""
  try:
    return make(**fields)
  except InputError as error:
    field, equals, rest = str(error).partition('=')
    raise InputError(f'--{_FLAGS.get(field, field)}{equals}{rest}') from error


def compare(config: Config, models: Iterable[str] = ()) -> None:
  """Scores the run's models, or these as they come."""
  from jaxrep import hosts, mesh
  from jaxrep.jobs import definition, scoring
  from jaxrep.observe import devices, recorder, tracing

  check(config)
  defined = definition.read(config.workdir)
  if config.ceiling and defined['recordings'] == 'mean':
    raise InputError(
      f'--ceiling compares single recordings, and {config.workdir} holds '
      'means of them: leave it out, or extract with --recordings=first.'
    )
  choice = scoring.Choice(
    workdir=config.workdir,
    measures=config.measures,
    parameters=_parameters(config),
    calibration=_calibration(config),
    layer_pairs=config.layer_pairs,
    common_ids=config.common_ids,
    language_set=config.language_set,
    minimum_ids=config.minimum_ids,
    ceiling=config.ceiling,
  )
  with devices.watched(), tracing.profiling(config.workdir, config.profile):
    scores = scoring.score_run(defined, choice, mesh.global_mesh(), models)
  _count(scores.table['status'].value_counts().to_pylist())
  for name in scores.unrepeated:
    logging.warning(
      'No ceiling for speech of %s: fewer than %d sentences have two '
      'recordings',
      name,
      config.minimum_ids,
    )
  with recorder.stage('wait for other processes'):
    hosts.wait_for_all('scored')
  if hosts.is_first():
    with recorder.stage('write scores'):
      scoring.write(scores, defined, config)
