"""Runs on several hosts: processes of this machine, as under Slurm."""

import pathlib
import random
import subprocess
import sys
import time
from typing import NamedTuple

from tests import command

LIMIT = 240  # seconds after which something hangs


class Workers(NamedTuple):
  """Processes of one run, and their logs."""

  processes: list[subprocess.Popen]
  logs: list[pathlib.Path]

  def said(self, words: str) -> list[bool]:
    return [words in log.read_text(errors='replace') for log in self.logs]

  def running(self) -> list[int]:
    return [i for i, p in enumerate(self.processes) if p.poll() is None]

  def wait(self, since: float) -> list[float]:
    """Seconds from `since` until each has ended; raises where one hangs."""
    ended: dict[int, float] = {}
    while len(ended) < len(self.processes):
      for i, process in enumerate(self.processes):
        if i not in ended and process.poll() is not None:
          ended[i] = time.monotonic() - since
      if time.monotonic() - since > LIMIT:
        for process in self.processes:
          process.kill()
        raise AssertionError(f'processes {self.running()} hang')
      time.sleep(0.02)
    return [ended[i] for i in range(len(ended))]

  def statuses(self) -> list[int]:
    return [process.returncode for process in self.processes]


def start(
  folder: pathlib.Path,
  count: int,
  *arguments: str,
  apart: bool = False,
  program: str = '',
) -> Workers:
  """`run.py` as `count` processes; one is started without --multihost.

  Their logs lie beside the folder, which is the run's. `apart` starts each in a
  folder of its own, `program` is run in place of `run.py`.
  """
  logs = [folder.parent / f'{folder.name}.{i}.log' for i in range(count)]
  number = str(random.SystemRandom().randrange(1000, 9000))  # hence the port
  processes = []
  for i, log in enumerate(logs):
    cluster = {
      'SLURM_JOB_ID': number,
      'SLURM_STEP_NODELIST': 'localhost',
      'SLURM_NTASKS': str(count),
      'SLURM_STEP_NUM_TASKS': str(count),
      'SLURM_STEP_NUM_NODES': '1',
      'SLURM_PROCID': str(i),
      'SLURM_LOCALID': str(i),
    }
    several = count > 1
    line = command.line(*arguments, *(['--multihost'] if several else []))
    here = pathlib.Path.cwd()
    if apart:
      here = folder / str(i)
      here.mkdir(parents=True)
    with log.open('w') as file:
      processes.append(
        subprocess.Popen(
          [sys.executable, '-c', program] if program else line,
          cwd=here,
          env=command.environment(**(cluster if several else {})),
          stdout=file,
          stderr=file,
        )
      )
  return Workers(processes, logs)
