"""Prints what a run will take, and writes its definition where it is new.

    python run.py plan --models=seamless-m4t-v2-large --corpus=fleurs

Units, compiled shapes, bytes of the store, floating-point operations, and the
id sets and cells of the comparison. No weights are read.

    python run.py plan --target=v5e:4x4 ...
    JAX_PLATFORMS=cpu python run.py plan --target=h200:2x8 ...

also compiles each step for that slice of a TPU, or for two hosts of eight GPUs
(h200:8 is one host), and says whether it fits, what batch would, and how long
they take at least. Neither is needed, but its compiler is: pip install -e
'.[tpu-aot]' or '.[gpu-aot]', and minutes for a large model.
"""

import collections
import dataclasses

from jaxrep.config import flag
from jaxrep.jobs import settings


@dataclasses.dataclass(frozen=True)
class Config(settings.Selection, settings.Comparison, settings.Devices):
  target: str = flag(
    '', 'A TPU slice or GPUs to compile for, as v5e:4x4 or h200:8.'
  )


def run(config: Config) -> None:
  from jaxrep import hosts
  from jaxrep.extract import cost, target
  from jaxrep.jobs import compare, definition

  compare.check(config)
  with hosts.joined(config.multihost, config.jax_cache):
    plan = definition.make_plan(config)
    if hosts.is_first():
      if not definition.in_use(config.workdir):
        definition.write(plan, config.workdir)
      print(cost.describe(plan.entries, config.model_parallel))
      print(_alignment(plan, config))
      if config.target:
        for found in target.compile_plan(
          plan.entries, config.target, config.model_parallel
        ):
          print(target.describe(found, config.target))


def _alignment(plan, config: Config) -> str:
  """How many id sets the comparison has, and what they cost."""
  from jaxrep.data import parallel
  from jaxrep.jobs.scoring import BYTES_EACH
  from jaxrep.jobs.sides import compared

  lines = []
  languages = compared(plan.definition, config.language_set)
  for name, described in plan.definition['models'].items():
    entries = {
      (entry.language, entry.model.modality): entry
      for entry in plan.entries
      if entry.model.name == name and entry.language in languages
    }
    sides = {side: _ids(entry, config) for side, entry in entries.items()}
    taps = {
      side: [spec.name for spec in entry.model.taps]
      for side, entry in entries.items()
    }
    aligned = parallel.common_ids(sides, config.common_ids, config.minimum_ids)
    found = parallel.summarise(sides, aligned)
    cells = _cells(aligned, taps, described, config)
    scores = cells * len(config.measures)
    lines.append(
      f'{name}: {found.pairs} pairs of sides on {found.sets} id sets, '
      f'{found.bases} bases of every layer; {found.short} pairs have too few '
      f'common sentences; {found.common} sentences are common to all. '
      f'{cells} cells, each under {len(config.measures)} measures: {scores} '
      f'scores, {BYTES_EACH * scores / 2**30:.2f} GiB of memory.'
    )
  return '\n'.join(lines)


def _ids(entry, config: Config) -> list[str]:
  """The sentences that a side is compared on; see `sides.read`."""
  ids = [row.id for row in entry.rows]
  if config.ceiling and entry.model.modality == 'speech':
    counts = collections.Counter(ids)
    twice = [one for one, count in counts.items() if count > 1]
    return twice if len(twice) >= config.minimum_ids else ids
  return ids


def _cells(aligned, taps, described, config: Config) -> int:
  """Pairs of layers of all pairs of sides that are compared."""
  from jaxrep.jobs import batch

  return sum(
    len(
      batch.cells_of(
        pair,
        tuple(taps[side] for side in pair),
        described['counterparts'],
        config.layer_pairs,
      )
    )
    for group in aligned.groups
    for pair in group.pairs
  )
