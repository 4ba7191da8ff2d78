"""Every encoder of released size, and the batch that it is asked about."""

import pathlib
import tempfile
from collections.abc import Iterator

from absl import flags

from benchmarks import harness
from jaxrep.opened import Model
from jaxrep.types import SAMPLE_RATE

_PROGRAMS = flags.DEFINE_list('programs', [], 'Which; empty for all.')
_SECONDS = flags.DEFINE_integer('seconds', 12, 'Of each recording.')
_TOKENS = flags.DEFINE_integer('tokens', 64, 'Of each text.')


def models() -> Iterator[Model]:
  """Those of `--programs`, without weights."""
  from tests import released

  known = [' '.join(program) for program in released.PROGRAMS]
  for program in harness.chosen(_PROGRAMS.value, known):
    name, modality = program.split()
    with tempfile.TemporaryDirectory() as folder:
      yield released.open_released(pathlib.Path(folder), name, modality)


def length_of(model: Model) -> tuple[str, int]:
  """In what each item is measured, 'seconds' or 'tokens', and how many."""
  if model.modality == 'speech':
    return 'seconds', _SECONDS.value
  return 'tokens', _TOKENS.value


def padded(model: Model) -> int:
  """Samples or tokens of each, on the model's grid."""
  _, length = length_of(model)
  length *= SAMPLE_RATE if model.modality == 'speech' else 1
  return -(-length // model.inputs.grid) * model.inputs.grid
