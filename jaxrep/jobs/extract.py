"""Extracts the pooled activations of every stage into the store.

    python run.py extract --models=seamless-m4t-v2-large --corpus=fleurs \
        --languages=eng,fra,swh --workdir=runs/one

What the store holds already is not computed again: the same command goes on
after a kill, and more languages or models may be added to a run. On several
hosts give --multihost: the processes share the remaining units out.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from absl import logging

from jaxrep.config import flag
from jaxrep.jobs import settings
from jaxrep.types import InputError


@dataclasses.dataclass(frozen=True)
class Config(settings.Selection, settings.Devices):
  weights_cache: str = flag(
    '',
    'Folder, local or gs://, that keeps converted parameters for the next '
    'start and for other hosts; empty for none.',
  )


def run(config: Config) -> None:
  from jaxrep import hosts
  from jaxrep.jobs import definition
  from jaxrep.observe import recorder

  with hosts.joined(config.multihost, config.jax_cache):
    with recorder.stage('plan'):
      plan = definition.make_plan(config)
    carry_out(plan, config)


def carry_out(plan, config: Config) -> None:
  """Writes the plan and extracts what the store lacks of it."""
  from jaxrep.observe import devices, tracing

  with devices.watched(), tracing.profiling(config.workdir, config.profile):
    for _ in model_by_model(plan, config):
      pass


def model_by_model(plan, config: Config) -> Iterator[str]:
  """Opens the store and writes the plan, then extracts one model at a time.

  Every entry is opened before the plan is written and any weights are read: a
  folder of another definition is told before work is done, and keeps its plan.
  The weights of one encoder at a time are held. Gives the models' names, each
  once all processes have extracted it.
  """
  from jaxrep import hosts
  from jaxrep.extract import runner
  from jaxrep.jobs import definition

  writers = [runner.open_entry(config.workdir, e) for e in plan.entries]
  if hosts.is_first():
    definition.write(plan, config.workdir)
  work = [*zip(plan.entries, writers, _shares(writers), strict=True)]
  if not hosts.seen(lambda: definition.written(config.workdir)):
    raise _elsewhere('the plan', config.workdir)

  def models():
    for name in plan.definition['models']:
      own = [one for one in work if one[0].model.name == name]
      for _, group in itertools.groupby(own, key=lambda one: id(one[0].model)):
        _extract(group, plan.corpus, config)
      _wait_for_others(name, [writer for _, writer, _ in own], config.workdir)
      yield name

  return models()


def _wait_for_others(name: str, writers, workdir: str) -> None:
  """Until all processes have extracted the model, here to be seen.

  Raises:
    InputError: they write elsewhere.
  """
  from jaxrep import hosts
  from jaxrep.observe import recorder

  if hosts.process()[1] == 1:
    return
  with recorder.stage('wait for other processes'):
    hosts.wait_for_all(f'extracted {name}')
    if not hosts.seen(lambda: all([writer.finish() for writer in writers])):
      raise _elsewhere(f'a part of {name}', workdir)
    # One that saw them later would be missed by a collective of the others.
    hosts.wait_for_all(f'seen {name}')


def _elsewhere(what: str, workdir: str) -> InputError:
  return InputError(
    f'--multihost: {what} that another process wrote is not in {workdir} here. '
    'Give a --workdir that all of them share: a folder of a shared file '
    'system, or gs://bucket/run.'
  )


def _extract(work: Iterable[tuple[Any, ...]], corpus, config: Config) -> None:
  """One encoder's entries, each with its writer and the units to be done."""
  from jaxrep import mesh
  from jaxrep.extract import fit, runner
  from jaxrep.observe import recorder

  engine = None
  for entry, writer, units in work:
    if not units:
      logging.info('%s: no unit left for this process', entry.title)
      writer.finish()
      continue
    if engine is None:
      devices = fit.mesh_of(
        entry.model, entry.options.precision, config.model_parallel
      )
      logging.info('Extracting on %s', mesh.describe(devices))
      with recorder.stage('load weights', _part(entry)):
        engine = runner.start(entry, devices, config.weights_cache)
    with recorder.stage('device', _part(entry)):
      runner.run_entry(
        engine,
        entry,
        writer,
        corpus,
        on_bad_input=config.on_bad_input,
        units=units,
      )


def _part(entry) -> tuple[str, str]:
  return 'models', f'{entry.model.name} {entry.model.modality}'


def _shares(writers) -> list[list[int]]:
  """Of each entry, the units that are this process' to do.

  What remains of the whole plan is dealt, so that all have work to do however
  few units an entry has. What remains for one remains for all: a shared file
  system may show a new file to one process before another.
  """
  from jaxrep import hosts

  places = [
    (place, unit)
    for place, writer in enumerate(writers)
    for unit in range(writer.entry.units)
  ]
  remaining = [set(writer.remaining_units()) for writer in writers]
  missing = np.array([unit in remaining[place] for place, unit in places])
  index, count = hosts.process()
  shares = [[] for _ in writers]
  for i in np.flatnonzero(hosts.anywhere('opened', missing))[index::count]:
    place, unit = places[i]
    shares[place].append(unit)
  return shares
