"""Tests the study's findings on the store: statistics, intervals, verdicts.

    python run.py findings --workdir=runs/one --findings_k=20

Writes findings.parquet (a row a finding, model and measure) and
findings_by_n.parquet (the main findings on parts of the sentences), which the
report shows. Every cell of a finding is scored on equally many sentences and
with one k, again on subsets of them that all cells share, and before and after
calibration. Two minutes on two cores for the bundled models and corpus.
"""

import collections
import dataclasses
from typing import Any

from absl import logging

from jaxrep.jobs import settings
from jaxrep.types import InputError

_NAMES = ('finding', 'model', 'measure', 'verdict', 'note')
_SIZES = ('n', 'k_min', 'k_max', 'languages')


@dataclasses.dataclass(frozen=True)
class Config(settings.Findings):
  pass


def of(config: settings.Findings) -> Config:
  """What concerns this job of another job's flags."""
  names = [field.name for field in dataclasses.fields(Config)]
  return Config(**{name: getattr(config, name) for name in names})


def run(config: Config) -> None:
  from jaxrep.jobs import scoring

  carry_out(config)
  scoring.forget_tiles(config.workdir)


def carry_out(config: Config) -> None:
  """What has been scored is left for who is killed before the report."""
  from jaxrep.analyses import verdicts
  from jaxrep.findings import evaluate
  from jaxrep.jobs import definition
  from jaxrep.observe import recorder

  chosen = check(config)
  defined = definition.read(config.workdir)
  if not {'compared_languages', 'resource_hours'} <= set(defined):
    raise InputError(
      f'{config.workdir} was not compared yet, or by an earlier jaxrep: run '
      f'`python run.py extract` and `compare` with --workdir={config.workdir} '
      'first.'
    )
  rows: dict[str, list[dict[str, Any]]] = {name: [] for name in verdicts.FILES}
  for name in defined['models']:
    with recorder.stage('read store'):
      model = _model(defined, name, config.workdir, config.minimum_ids)
    effect = config.smallest_effect
    with recorder.stage('findings'):
      rows['findings'] += evaluate.evaluate(model, chosen, effect)
      rows['by_n'] += evaluate.by_n(model, chosen, effect)
    logging.info('%s: findings tested.', name)
  _write(rows, config.workdir, verdicts.tested_on(defined))
  counts = collections.Counter(row['verdict'] for row in rows['findings'])
  print('Findings:', ', '.join(f'{n} {what}' for what, n in counts.items()))


def check(config: settings.Findings):
  """What the flags ask for, or why they cannot."""
  from jaxrep.findings.scores import Settings
  from jaxrep.stats.intervals import GROUPS

  least = {'findings_k': 1, 'findings_replicates': 12, 'minimum_ids': 3}
  settings.check_seed(config.seed)
  for flag, number in least.items():
    if getattr(config, flag) < number:
      raise InputError(
        f'--{flag}={getattr(config, flag)}: give {number} or more.'
      )
  if not config.smallest_effect > 0:
    raise InputError(
      f'--smallest_effect={config.smallest_effect}: give a number above 0.'
    )
  return Settings(
    k=config.findings_k,
    rounds=-(-config.findings_replicates // GROUPS),
    variance=config.svcca_variance,
    minimum=config.minimum_ids,
    seed=config.seed,
  )


def _model(defined: dict[str, Any], name: str, workdir: str, minimum: int):
  """What is compared of a model, and its states."""
  from etils import epath

  from jaxrep.findings.cells import AGAIN, Layout
  from jaxrep.findings.evaluate import Model
  from jaxrep.findings.scores import Held
  from jaxrep.jobs import scoring, sides

  described = defined['models'][name]
  covered = described['languages']
  languages = tuple(
    one
    for one in defined['compared_languages']
    if one in covered['text'] and one in covered['speech']
  )
  fewest = minimum if defined['ceiling'] else None
  held = sides.read(defined, workdir, name, languages, fewest)
  # The encoder of one language may have fewer layers than that of another.
  layers = tuple(
    (text, speech)
    for speech, text in described['counterparts'].items()
    if all(
      text in held[one, 'text'].states and speech in held[one, 'speech'].states
      for one in languages
    )
  )
  ends = described['adaptor'].values()
  adaptor = tuple(pair for end in ends for pair in layers if pair[1] == end)
  layout = Layout(
    languages,
    defined['resource_classes'],
    layers,
    adaptor if len(adaptor) == 2 else None,
    defined['resource_hours'],
  )
  found = {side: Held(one.ids, one.states) for side, one in held.items()}
  for (language, _), one in held.items():
    if one.again is not None:
      found[language, AGAIN] = Held(one.ids, one.again)
  return Model(name, layout, found, epath.Path(workdir) / scoring.PARTS)


def _write(
  rows: dict[str, list[dict[str, Any]]], workdir: str, tested_on: bytes
) -> None:
  """All files, each whole or not at all."""
  import pyarrow as pa
  import pyarrow.parquet as pq
  from etils import epath

  from jaxrep import files
  from jaxrep.analyses.verdicts import FILES, TESTED_ON

  def kind(column: str) -> pa.DataType:
    if column in _NAMES:
      return pa.string()
    return pa.int32() if column in _SIZES else pa.float64()

  for name, file in FILES.items():
    columns = rows[name][0] if rows[name] else _NAMES
    schema = pa.schema(
      [(column, kind(column)) for column in columns], {TESTED_ON: tested_on}
    )
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows[name], schema)
    pq.write_table(table, sink, write_page_checksum=True)
    files.write(epath.Path(workdir) / file, sink.getvalue().to_pybytes())
