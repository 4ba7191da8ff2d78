"""Extracts the pooled activations of every stage into the store.

    python run.py extract --models=seamless-m4t-v2-large --corpus=fleurs \
        --languages=eng,fra,swh --workdir=runs/one

What the store holds already is not computed again: the same command goes on
after a kill, and more languages or models may be added to a run. On several
hosts give --multihost: the processes share the remaining units out.
"""

import dataclasses
import itertools
import signal
import sys
import threading

from absl import logging

from jaxrep.jobs import settings


@dataclasses.dataclass(frozen=True)
class Config(settings.Selection, settings.Devices):
  pass


def run(config: Config) -> None:
  carry_out(make_plan(config), config)


def make_plan(config: Config):
  """What the flags ask for, on the machine as it is."""
  from jaxrep import mesh
  from jaxrep.jobs import definition
  from jaxrep.observe import recorder

  mesh.start(config.multihost, config.jax_cache)
  with recorder.stage('plan'):
    return definition.make_plan(config)


def carry_out(plan, config: Config) -> None:
  """Writes the plan and extracts what the store lacks of it."""
  from jaxrep import mesh
  from jaxrep.extract import runner
  from jaxrep.jobs import definition
  from jaxrep.observe import devices, tracing

  if mesh.is_first():
    definition.write(plan, config.workdir)
  try:
    with devices.watched(), tracing.profiling(config.workdir, config.profile):
      extract(plan, config)
  except runner.Stopped as stopped:
    logging.warning(
      'Stopped in %s; the same command goes on from there.', stopped
    )
    sys.exit(0)


def extract(plan, config: Config) -> None:
  """Runs the plan's entries; the weights of one model at a time are held."""
  from jaxrep import mesh
  from jaxrep.extract import fit, runner
  from jaxrep.observe import recorder

  stop = _stop_on_sigterm()
  # Every store is opened before any weights are read: a folder of another
  # definition is told before work is done.
  writers = [runner.open_entry(config.workdir, e) for e in plan.entries]
  work = zip(plan.entries, writers, strict=True)
  for _, group in itertools.groupby(work, key=lambda pair: id(pair[0].model)):
    engine = None
    for entry, writer in group:
      if not writer.remaining_units():
        logging.info('%s: already in the store', entry.title)
        writer.finish()
        continue
      if engine is None:
        devices = fit.mesh_of(
          entry.model, entry.options.precision, config.model_parallel
        )
        logging.info('Extracting on %s', mesh.describe(devices))
        with recorder.stage('load weights', _part(entry)):
          engine = runner.start(entry, devices)
      with recorder.stage('device', _part(entry)):
        runner.run_entry(
          engine,
          entry,
          writer,
          plan.corpus,
          on_bad_input=config.on_bad_input,
          stop=stop,
          process=mesh.process(),
        )


def _part(entry) -> tuple[str, str]:
  return 'models', f'{entry.model.name} {entry.model.modality}'


def _stop_on_sigterm() -> threading.Event:
  """Set when the machine is about to be taken away (preemption)."""
  stop = threading.Event()
  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
  return stop
