"""Runs `run.py` as people do, in a process of its own."""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = (
  *('--unit_size=5', '--batch_seconds=12', '--permutations=2'),
  '--nofindings',  # they take as long as all else together
)


def line(*arguments: str) -> list[str]:
  return [sys.executable, str(ROOT / 'run.py'), *arguments]


def environment(**changes: str) -> dict[str, str]:
  """Of a process under test."""
  kept = {k: v for k, v in os.environ.items() if not k.startswith('HF_')}
  ours = {'JAX_PLATFORMS': 'cpu', 'HF_HUB_OFFLINE': '1'}
  return {**kept, **ours, **changes}


def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess:
  """In a copy of a process that has imported all; with changes in a new one."""
  if not changes:
    return _forked(*arguments)
  return subprocess.run(
    line(*arguments),
    env=environment(**changes),
    capture_output=True,
    text=True,
    check=False,
  )


def _forked(*arguments: str) -> subprocess.CompletedProcess:
  with tempfile.TemporaryDirectory() as folder:
    output, errors = Path(folder, 'output'), Path(folder, 'errors')
    server = _server()
    asked = json.dumps([arguments, str(output), str(errors)])
    print(asked, file=server.stdin, flush=True)
    code = int(server.stdout.readline())
    texts = output.read_text(), errors.read_text()
  return subprocess.CompletedProcess(line(*arguments), code, *texts)


@functools.cache
def _server() -> subprocess.Popen:
  """What `tests.forked` says of itself; its environment is that of a run."""
  # As run.py sets them for itself, where it starts anew.
  of_run = {
    'OPENBLAS_NUM_THREADS': '1',
    'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1',
  }
  server = subprocess.Popen(
    [sys.executable, '-m', 'tests.forked'],
    env=environment(**of_run),
    cwd=ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  atexit.register(server.communicate)  # ends it
  return server


def succeed(*arguments: str, **changes: str) -> str:
  """Its output; fails with what it printed where it fails."""
  result = run(*arguments, **changes)
  assert result.returncode == 0, result.stderr[-3000:]
  return result.stdout


def fail(*arguments: str, **changes: str) -> str:
  """The one message of a run that refuses its input, without a traceback."""
  result = run(*arguments, **changes)
  assert result.returncode == 1, (result.returncode, result.stderr[-3000:])
  assert 'Traceback' not in result.stderr, result.stderr[-3000:]
  return result.stderr.split('error: ')[-1]


def manifest_flags(manifest: str, folder, workdir) -> tuple[str, ...]:
  """The flags for a small checkpoint and people's own corpus.

  One measure: printing the figures of each takes seconds.
  """
  return (
    '--models=seamless-m4t-v2-large',
    f'--checkpoints=seamless-m4t-v2-large={folder}',
    '--corpus=manifest',
    f'--corpus_source={manifest}',
    f'--workdir={workdir}',
    '--measures=cka_debiased',
    *SMALL,
  )
