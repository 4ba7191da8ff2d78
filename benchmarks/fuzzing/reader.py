"""What is fuzzed: small valid files, how each is damaged, and how it is read.

A reader reads through the function that a job calls. What it returns is
compared with what the undamaged files give.
"""

import pathlib
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.fuzzing.damage import Damage

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / 'tests' / 'golden'
TEXT = 'the small river carries boats'
Make = Callable[[pathlib.Path], None]
Read = Callable[[pathlib.Path, random.Random], Any]


class Way(NamedTuple):
  """One way to damage one file, which lies at `file` below the folder.

  `summed` says that sums which the tool keeps or reads tell every change: what
  is not refused has to be what was there.
  """

  file: str
  damage: Damage
  summed: bool = False


class Reader(NamedTuple):
  """Files, and how they are read.

  `share` of 1000 inputs are its own. A refusal names the file or its folder,
  or begins as one of `names`.
  """

  share: int
  make: Callable[[pathlib.Path], None]
  read: Callable[[pathlib.Path, random.Random], Any]
  ways: tuple[Way, ...]
  names: tuple[str, ...] = ()
