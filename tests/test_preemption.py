"""SIGTERM ends a process with status 0, wherever it comes."""

import signal
import subprocess
import sys

import pytest

from tests.command import ROOT

AT_WORK = """
from jaxrep import preemption
preemption.listen()
preemption.before_end(lambda: print('farewell', flush=True))
print('ready', flush=True)
import time
time.sleep(60)
"""
IN_A_KERNEL = """
import numpy as np
from jaxrep import preemption
preemption.listen()
x = np.ones((3000, 3000))
print('ready', flush=True)
while True:
  x @ x
"""
CLEARING_UP = """
import time
from jaxrep import preemption
preemption.listen()

class Held:
  def __del__(self):
    print('ready', flush=True)
    time.sleep(0.5)

held = Held()
raise SystemExit({status})
"""


def ended(program: str) -> tuple[int, str]:
  """Status and output of a process that gets SIGTERM once it says so."""
  with subprocess.Popen(
    [sys.executable, '-c', program],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  ) as process:
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=50)
  return process.returncode, output


def test_others_are_told_before_the_process_ends():
  assert ended(AT_WORK) == (0, 'farewell\n')


def test_a_kernel_is_not_waited_for():
  assert ended(IN_A_KERNEL) == (0, '')


@pytest.mark.parametrize('status', [0, 3])
def test_who_only_clears_up_ends_with_its_own_status(status):
  """Python takes handlers away before it clears up."""
  assert ended(CLEARING_UP.format(status=status)) == (status, '')
