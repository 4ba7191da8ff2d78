"""What a map of very many representations costs, before it is computed.

    python -m benchmarks.prediction [--representations=30000 --kept=134]

Operations, bytes and tiles follow from the sizes and from how the engine
divides the work. Seconds of the device are bounds: products of matrices at
the published peak, and what passes between host and device. Those of the host
are measured by the pair.
"""

import dataclasses
import json
import math
from typing import NamedTuple

from absl import app, flags

from jaxrep.similarity import blocks, newton_schulz, tiles

_REPRESENTATIONS = flags.DEFINE_integer('representations', 30_000, 'M.')
_SENTENCES = flags.DEFINE_integer('sentences', 400, 'Rows of each, n.')
_WIDTH = flags.DEFINE_integer('width', 1024, 'Features of each, d.')
_KEPT = flags.DEFINE_integer('kept', 134, 'Components that SVCCA keeps, k.')
_HOST = flags.DEFINE_float('host_gb', 128, 'Memory of the host.')

FLOAT = 4
# Of the host by pair of a call, measured at 3,000 representations: its scores,
# its cells of the map, and the order of the work.
PAIR_BYTES, PAIR_SECONDS = 400, 3e-6
# Of a symmetric n x n matrix with its vectors: tridiagonal form, divide and
# conquer, and back (Golub and Van Loan, Matrix Computations, 8.3).
_EIGEN = 9


class Device(NamedTuple):
  """Peaks that the maker publishes: operations and bytes in a second."""

  name: str
  single: float
  double: float
  link: float
  memory: float


H100 = Device('H100 SXM', 67e12, 34e12, 55e9, 80e9)


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of one measure over a map of m representations.

  Attributes:
    stack: bytes of one representation's factors.
    factor: operations on one representation, in float32.
    factor_double: and in float64.
    score: operations on a pair, in float32.
  """

  stack: float
  factor: float
  factor_double: float
  score: float


def cka(n: int, d: int) -> Cost:
  """A Gram matrix a side; an inner product of two of them a pair."""
  return Cost(FLOAT * n * n, 2 * n * n * d, 0, 2 * n * n)


def svcca(n: int, d: int, k: int) -> Cost:
  """A basis a side; U'V and its polar factor a pair, without any SVD."""
  width = tiles.padded(min(k, n - k))
  steps = 6 * len(newton_schulz.STEPS) * width**3
  return Cost(
    *(FLOAT * n * min(n, 2 * d), 0, 2 * n * n * d + _EIGEN * n**3),
    2 * n * width**2 + steps,
  )


def predict(cost: Cost, m: int, device: Device, host: float) -> dict:
  """Operations, bytes, tiles and seconds on one device.

  A call holds `PAIR_BYTES` of the host for each of its pairs. What would take
  more than half of the host is called part by part: as few equal groups of
  representations as will do, each with each, so that each is factored once
  for every group.
  """
  pairs, count = m * (m + 1) // 2, -(-m // blocks.SIZE)
  most, groups = host / 2 / PAIR_BYTES, 1
  if pairs > most:
    groups = math.ceil(m / math.sqrt(most))
  pairs_a_call = pairs if groups == 1 else math.ceil(m / groups) ** 2
  tile_count = count * (count + 1) // 2
  stays = m * cost.stack <= device.memory / 2
  moved = 0 if stays else 2 * tile_count * blocks.SIZE * cost.stack
  factoring = cost.factor / device.single + cost.factor_double / device.double
  return {
    'pairs': pairs,
    'tiles': tile_count,
    'groups': groups,
    'factor_operations': m * groups * (cost.factor + cost.factor_double),
    'score_operations': pairs * cost.score,
    'factors_gb': m * cost.stack / 1e9,
    'moved_gb': moved / 1e9,
    'host_gb_a_call': PAIR_BYTES * pairs_a_call / 1e9,
    'factor_seconds': m * groups * factoring,
    'score_seconds': pairs * cost.score / device.single,
    'move_seconds': moved / device.link,
    'host_seconds': pairs * PAIR_SECONDS,
  }


def main(_) -> None:
  n, d, m = _SENTENCES.value, _WIDTH.value, _REPRESENTATIONS.value
  costs = {'cka': cka(n, d), 'svcca': svcca(n, d, _KEPT.value)}
  for name, cost in costs.items():
    found = predict(cost, m, H100, 1e9 * _HOST.value)
    found = {key: float(f'{value:.3g}') for key, value in found.items()}
    print(json.dumps({'measure': name, 'device': H100.name, **found}))


if __name__ == '__main__':
  app.run(main)
