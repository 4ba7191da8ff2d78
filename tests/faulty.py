"""Readers that do what none may, run by `benchmarks.fuzz`; prints its findings.

python -m tests.faulty FOLDER
"""

import json
import os
import pathlib
import signal
import sys

from absl import flags

from benchmarks import fuzz
from benchmarks.fuzzing import READERS
from benchmarks.fuzzing.reader import Reader, Way
from jaxrep.types import InputError


def make(folder):
  (folder / 'a.bin').write_bytes(b'whole')


def bad(folder):
  """Whether the file is the damaged one."""
  return (folder / 'a.bin').read_bytes() == b'damaged'


def crash(folder):
  os.kill(os.getpid(), signal.SIGSEGV)


def spin(folder):
  while True:
    pass


def wait(folder):
  signal.pause()


def swell(folder):
  assert len(b'x' * (420 << 20))
  return 'right'


def exceed(folder):
  return len(bytearray(8 << 30))


def write(folder):
  (folder.parents[1] / 'outside').write_text('x')


def start(folder):
  os.system('true')


def stumble(folder):
  return {}['a']


def hide(folder):
  raise InputError('something is wrong.')


def garble(folder):
  raise InputError(f'{folder}: \ud800')


def differ(folder):
  return 'other'


def refuse(folder):
  raise InputError(f'{folder}/a.bin: is damaged.')


def keep(folder):
  return 'right'


FAULTS = (crash, spin, wait, swell, exceed, write, start, stumble, hide, garble)
FAULTS += (differ, refuse, keep)


def reader(act):
  return Reader(
    1,
    make,
    lambda folder, rng: act(folder) if bad(folder) else 'right',
    (Way('a.bin', lambda rng, data: b'damaged', summed=True),),
  )


def main(folder):
  found = {}
  for act in FAULTS:
    fuzz.STUCK = 4.0 if act is wait else 60.0
    READERS[act.__name__] = reader(act)
    place = pathlib.Path(folder) / act.__name__
    place.mkdir()
    counts, findings = fuzz.run(act.__name__, 1, 0, place)
    found[act.__name__] = [dict(counts), findings]
  print(json.dumps(found))


if __name__ == '__main__':
  flags.FLAGS(sys.argv[:1])
  main(sys.argv[1])
