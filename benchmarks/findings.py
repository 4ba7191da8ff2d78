"""How often a finding is claimed where there is none: simulated models.

    python -m benchmarks.findings --count=200

Models are made of known parts (`benchmarks.planted`), so that none of the four
findings is true of them: nothing is shared at all; meaning is shared, as much
in each layer, language and modality; the same with sentences of uneven norms;
and with sentences that are noisy in all languages of a layer and modality, of
which the fourth is not asked. Counts, by finding and measure, how often a
verdict claims the finding, or its reverse; a two-sided test at 5 % gives 0.025
of each. Appends to `results/findings.jsonl`; ten minutes on two
CPU cores.
"""

import collections
import dataclasses
import datetime
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from absl import app, flags

from benchmarks import harness, planted
from benchmarks.planted import Parts
from jaxrep.findings import SMALLEST, evaluate, statistics
from jaxrep.findings.scores import MEASURES, Settings

MAIN = {
  '1': statistics.convergence,
  '2': statistics.adaptation,
  '3': statistics.spread,
  '4': statistics.gaps,
}
SETTINGS = Settings(k=6, rounds=8, splits=2)
SENTENCES = 128
REVERSED = 'reversed'
CLAIMS = ('holds', 'holds only after calibration')

_COUNT = flags.DEFINE_integer('count', 200, 'Models of each design.')


def _as_they_are(seed):
  return None


def _uneven(seed):
  def shape(rows, modality, layer, generator):
    return rows * generator.lognormal(0, 0.4, len(rows))[:, None]

  return shape


def _noisy(seed):
  def shape(rows, modality, layer, generator):
    of_all = np.random.default_rng([seed, len(modality), layer])
    level = of_all.lognormal(0, 0.5, len(rows))[:, None]
    return rows + level * generator.normal(size=rows.shape)

  return shape


class Design(NamedTuple):
  """`shape` makes what `planted.model` takes, of a seed."""

  common: float
  shape: Callable[[int], Callable | None]
  untrue: tuple[str, ...] = tuple(MAIN)


DESIGNS = {
  'nothing shared': Design(0.0, _as_they_are),
  'meaning shared': Design(0.5, _as_they_are),
  'meaning shared, uneven norms': Design(0.5, _uneven),
  'meaning shared, noisy sentences': Design(0.8, _noisy, ('1', '2', '3')),
}


@dataclasses.dataclass(frozen=True)
class Errors:
  """Shares of `models` that were claimed to have what they do not have."""

  claimed: float
  reversed: float
  models: int


def simulate(design: str, count: int) -> dict[tuple[str, str], Errors]:
  """(finding, measure) → how often there was a verdict of an effect."""
  verdicts = collections.defaultdict(list)
  for seed in range(count):
    for row in _rows(design, seed):
      verdicts[row['finding'], row['measure']].append(row['verdict'])
  return {
    key: Errors(
      float(np.mean([one in CLAIMS for one in found])),
      float(np.mean([one == REVERSED for one in found])),
      len(found),
    )
    for key, found in verdicts.items()
  }


def _rows(design: str, seed: int) -> Iterator[evaluate.Row]:
  common, make_shape, untrue = DESIGNS[design]
  model = planted.model(
    lambda *_: Parts(common=common),
    SENTENCES,
    seed=seed,
    adaptor=True,
    shape=make_shape(seed),
  )
  wanted = {name: MAIN[name](model.layout) for name in untrue}
  for measure in MEASURES:
    yield from evaluate.judge(model, wanted, measure, SETTINGS, SMALLEST)


def main(_) -> None:
  for design in DESIGNS:
    start = time.perf_counter()
    found = simulate(design, _COUNT.value)
    seconds = round(time.perf_counter() - start)
    for (finding, measure), errors in found.items():
      harness.keep(
        'findings',
        {
          'benchmark': 'findings',
          'date': datetime.date.today().isoformat(),
          **{'design': design, 'finding': finding, 'measure': measure},
          **dataclasses.asdict(errors),
          'n': SENTENCES,
          'settings': dataclasses.asdict(SETTINGS),
          'seconds': seconds,
          'machine': harness.machine(),
        },
      )
      print(design, finding, measure, errors, flush=True)


if __name__ == '__main__':
  app.run(main)
