"""jaxrep: how speech-and-text models represent the same sentence.

    python run.py [job] [--flags]        python run.py [job] --help

Jobs: all (default), plan, extract, compare, findings, analyze, report,
list, train.
"""

import contextlib
import importlib
import inspect
import logging as python_logging
import os
import sys

# LAPACK's own threads and XLA's get in each other's way: small decompositions
# become ten times slower. It is read when NumPy is imported.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')

from absl import app, logging

from jaxrep import compiled, config, memory, preemption
from jaxrep.jobs import JOBS
from jaxrep.observe import recorder
from jaxrep.registry import lookup
from jaxrep.types import InputError


def main() -> None:
  arguments = sys.argv[1:]
  named = bool(arguments) and not arguments[0].startswith('-')
  name = arguments.pop(0) if named else 'all'
  try:
    lookup(dict.fromkeys(JOBS), name, 'job')
  except InputError as error:
    sys.exit(str(error))
  jobs = {one: importlib.import_module(f'jaxrep.jobs.{one}') for one in JOBS}
  job = jobs[name]
  sys.modules['__main__'].__doc__ = job.__doc__
  config.define(job.Config, [one.Config for one in jobs.values()])
  app.run(lambda rest: start(name, job, rest[1:]), [sys.argv[0], *arguments])


def start(name: str, job, rest: list[str]) -> None:
  logging.set_verbosity(logging.INFO)
  for chatty in ('jax', 'fontTools', 'gcsfs'):
    python_logging.getLogger(chatty).setLevel('WARNING')
  if len(rest) >= len(inspect.signature(job.run).parameters):
    sys.exit(f'error: unexpected {" ".join(rest)}; flags begin with --')
  chosen = config.parsed(job.Config)
  recorded = contextlib.nullcontext()
  if hasattr(chosen, 'workdir'):
    recorded = recorder.recording(chosen.workdir, name, recorder.age())
  try:
    with recorded:
      job.run(chosen, *rest)
  except InputError as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  memory.take_large_pages()
  preemption.listen()
  compiled.keep()
  main()
