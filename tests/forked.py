"""Runs `run.py` in copies of a process that has imported what jobs import.

A line of standard input, [arguments, file for output, file for errors], is one
run; the line that answers it is how that ended, as of subprocess. Importing
takes longer than most of what is tested, and is the same each time.
"""

import importlib
import json
import os
import pkgutil
import runpy
import sys
import threading
import traceback
from pathlib import Path

import jaxrep
import ports

RUN = Path(__file__).parents[1] / 'run.py'


def load() -> None:
  """Every module of the project, and what they import."""
  for package in (ports, jaxrep):
    prefix = f'{package.__name__}.'
    for found in pkgutil.walk_packages(package.__path__, prefix):
      importlib.import_module(found.name)


def run(arguments: list[str]) -> int:
  """As `python run.py` with these arguments; its exit code."""
  sys.argv = [str(RUN), *arguments]
  try:
    runpy.run_path(str(RUN), run_name='__main__')
  except SystemExit as end:
    if isinstance(end.code, str):
      print(end.code, file=sys.stderr)
      return 1
    return end.code or 0
  except BaseException:
    traceback.print_exc()
    return 1
  return 0


def fork(arguments: list[str], output: str, errors: str) -> int:
  """The exit code of a copy; negative where a signal ended it."""
  pid = os.fork()
  if pid:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
  code = 1
  try:
    for number, path in ((1, output), (2, errors)):
      os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    code = run(arguments)
    for thread in threading.enumerate():
      if thread is not threading.main_thread() and not thread.daemon:
        thread.join()
    sys.stdout.flush()
    sys.stderr.flush()
  finally:
    os._exit(code)


if __name__ == '__main__':
  load()
  for line in sys.stdin:
    print(json.dumps(fork(*json.loads(line))), flush=True)
