"""All pairs of representations: ours, NumPy's best algebra, and the peers.

    python -m benchmarks.similarity [--case=cka --case=floor …]

Candidates alternate in one process; errors are against float64. NumPy and
torch have one thread: compare CPU seconds. What is slow is timed on a part of
the pairs and multiplied, which the row says under `scaled`. The work is that
of `stacks.py`, float32. An hour on two CPU cores.
"""

import functools
import operator
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

# Read when NumPy is imported: its threads and XLA's get in each other's way.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')

import numpy as np
from absl import app, flags

from benchmarks import harness, peers
from benchmarks.candidates import Candidate, compare, part
from benchmarks.stacks import (
  DECAY,
  OFFSET,
  Stack,
  cka_floor,
  cka_truth,
  stacks,
  svcca_truth,
)

_CASE = flags.DEFINE_multi_string('case', None, 'Cases to run; default all.')
_LAYERS = flags.DEFINE_integer('layers', 24, 'Representations, M.')
_SENTENCES = flags.DEFINE_integer('sentences', 400, 'Rows of each, n.')
_WIDTH = flags.DEFINE_integer('width', 1024, 'Features of each, d.')
_LARGE = flags.DEFINE_list('large', ['200', '1500'], 'M of the large cases.')
_PERMUTATIONS = flags.DEFINE_integer('permutations', 1000, 'Of linear CKA.')
_REPLICATES = flags.DEFINE_integer('replicates', 1000, 'Of linear CKA.')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Timed calls of each side.')

TOLERANCE = 1e-5
# Of the default size; k is a share of the sentences.
GROWTH = {
  'm': (0.25, 0.5, 1, 2, 4),
  'n': (0.25, 0.5, 1, 2),
  'd': (0.125, 0.25, 0.5, 1, 2),
  'k': (0.04, 0.08, 0.16, 0.32, 0.64),
}
K_SHARE = 0.1
PANEL = (
  *('svcca', 'mean_squared_cca', 'cka', 'cka_debiased', 'procrustes', 'rsa'),
  *('mutual_knn', 'retrieval_r1'),
)
RIVALS = {'cka': peers.numpy_cka, 'svcca': peers.numpy_svcca}


def main(_) -> None:
  unknown = set(_CASE.value or ()) - set(CASES)
  if unknown:
    raise app.UsageError(f'{unknown}: the cases are {", ".join(CASES)}.')
  for name in _CASE.value or CASES:
    for row in CASES[name]():
      print(harness.summary(row))


def default_stack(spectrum: str) -> Stack:
  return stacks(_LAYERS.value, _SENTENCES.value, _WIDTH.value, spectrum)


def ours(
  stack: Stack,
  measure: str,
  read: Callable[[Any], np.ndarray] = operator.attrgetter('value'),
  **options: Any,
) -> Callable[[], np.ndarray]:
  """A call that makes our map, with its floor, and reads one matrix of it.

  `options` are of the calibration and, `k`, of the measure.
  """
  from jaxrep import similarity

  named = {f'layer_{i:04}': x for i, x in enumerate(stack)}
  chosen = {'k': options.pop('k')} if 'k' in options else {}
  calibration = similarity.Calibration(**{'intervals': False} | options)
  call = similarity.all_pairs
  return lambda: read(call(named, measure, calibration, **chosen))


def scores_alone(stack: Stack, measure: str) -> Callable[[], np.ndarray]:
  """As `ours`, without a floor."""
  from jaxrep import similarity

  inner, alone = ours(stack, 'alone'), f'benchmarks.alone:{measure.upper()}'

  def call() -> np.ndarray:
    with mock.patch.dict(similarity.MEASURES, alone=alone):
      return inner()

  return call


def measure(
  case: str,
  stack: Stack,
  truth: np.ndarray,
  candidates: Mapping[str, Candidate],
  tolerance: float = TOLERANCE,
  rounds: int | None = None,
  peaks: Mapping[str, float] | None = None,
  **details: Any,
) -> dict:
  """Times candidates, the one of interest first; appends the row."""
  scaled = {n: c.times for n, c in candidates.items() if c.times != 1}
  return harness.write(
    'similarity',
    {
      'name': case,
      **{'m': len(stack), 'n': len(stack[0]), 'd': stack[0].shape[1]},
      **details,
      'offset': OFFSET,
      'dtype': 'float32',
      'scaled': {name: round(times, 2) for name, times in scaled.items()},
      'peers': peers.versions(),
    },
    compare(candidates, truth, tolerance, rounds or _ROUNDS.value),
    peaks or {},
  )


def cka_case() -> Iterator[dict]:
  """Scores alone, with exact floor and p, and what others do."""
  stack = default_stack('many')
  for name, table in (('cka', peers.BIASED), ('cka_debiased', peers.DEBIASED)):
    debiased = name == 'cka_debiased'
    candidates = {
      'jaxrep': Candidate(scores_alone(stack, name)),
      'jaxrep, floor, p': Candidate(ours(stack, name)),
      'numpy': Candidate(functools.partial(peers.numpy_cka, stack, debiased)),
    }
    for label, call in peers.installed(table).items():
      candidates[label] = (
        part(call, stack, peers.SLOW[label])
        if label in peers.SLOW
        else Candidate(functools.partial(call, stack, stack))
      )
    truth = cka_truth(stack, debiased)
    yield measure('cka', stack, truth, candidates, measure=name)


def svcca_case(spectrum: str) -> Iterator[dict]:
  stack = default_stack(spectrum)
  scores = [peers.scores(x) for x in stack[:3]]
  candidates = {
    'jaxrep': Candidate(ours(stack, 'svcca')),
    'numpy': Candidate(functools.partial(peers.numpy_svcca, stack)),
    'tutorial': part(peers.each(peers.tutorial_svcca), stack, 2),
    'tutorial, SVD cached': part(
      lambda *_: peers.each(peers.mean_whitened)(scores, scores), stack, 3
    ),
  }
  yield measure(
    *(f'svcca-{spectrum}', stack, svcca_truth(stack), candidates),
    measure='svcca',
    k=[len(each) for each in scores],
  )


def permutations_case() -> Iterator[dict]:
  """Joint permutations; compared is the mean of their scores."""
  stack, count = default_stack('few'), _PERMUTATIONS.value
  floor = operator.attrgetter('floor')
  for name, draws, some, rival in (
    ('cka', count, 20, peers.numpy_cka_permutations),
    ('svcca', min(count, 64), 1, peers.numpy_svcca_permutations),
  ):
    exact = name == 'cka'
    truth = cka_floor(stack) if exact else rival(stack, 16).mean(axis=0)
    candidates = {
      'jaxrep': Candidate(ours(stack, name, floor, joint=draws)),
      'numpy': Candidate(
        lambda rival=rival, some=some: rival(stack, some).mean(axis=0),
        draws / some,
      ),
    }
    yield measure(
      *('permutations', stack, truth, candidates),
      tolerance=TOLERANCE if exact else 0.05,
      rounds=min(_ROUNDS.value, 3),
      measure=name,
      permutations=draws,
    )


def replicates_case() -> Iterator[dict]:
  """Replicates of the interval; compared is half of its width."""
  stack, count = default_stack('few'), _REPLICATES.value
  few, left_out = min(count, 100), len(stack[0]) // 10
  without = functools.partial(peers.numpy_svcca_replicates, left_out=left_out)
  for name, draws, some, known, rival in (
    ('cka_debiased', count, 10, 100, peers.numpy_cka_replicates),
    ('svcca', few, 1, 20, without),
  ):
    candidates = {
      'jaxrep': Candidate(
        ours(stack, name, half_width, intervals=True, replicates=draws)
      ),
      'numpy': Candidate(
        lambda rival=rival, some=some: 1.96 * rival(stack, some).std(axis=0),
        draws / some,
      ),
    }
    yield measure(
      *(
        'replicates',
        stack,
        1.96 * rival(stack, known).std(axis=0),
        candidates,
      ),
      # The truth is itself a spread over a few draws, and the two estimate
      # that of new sentences in different ways.
      tolerance=0.03,
      rounds=min(_ROUNDS.value, 3),
      measure=name,
      replicates=draws,
    )


def half_width(found: Any) -> np.ndarray:
  """0 for a side against itself, which has no interval."""
  return np.nan_to_num((found.ci_high - found.ci_low) / 2)


def panel_case() -> Iterator[dict]:
  """What one asks of a map, with floors and without, against SVCCA alone."""
  for spectrum in DECAY:
    stack = default_stack(spectrum)
    candidates = {
      'svcca': Candidate(ours(stack, 'svcca')),
      'panel': Candidate(together(ours, stack)),
      'panel, scores alone': Candidate(together(scores_alone, stack)),
    }
    yield measure(
      *('panel', stack, svcca_truth(stack), candidates),
      rounds=min(_ROUNDS.value, 2),
      measures=PANEL,
      spectrum=spectrum,
    )


def together(
  make: Callable[[Stack, str], Callable], stack: Stack
) -> Callable[[], np.ndarray]:
  """A call that makes the maps of the whole panel and gives the first."""
  calls = [make(stack, name) for name in PANEL]

  def call() -> np.ndarray:
    first, *_ = [each() for each in calls]
    return first

  return call


def large_case() -> Iterator[dict]:
  """Maps of many representations, with the memory that they take.

  Beyond 200, SVCCA keeps 20 components: its cost is k^3 a pair.
  """
  for m in map(int, _LARGE.value):
    d = min(_WIDTH.value, max(200 * _WIDTH.value // m, 20))
    work = (m, _SENTENCES.value, d, 'few')
    stack = stacks(*work)
    for name in ('cka', 'svcca'):
      yield large_point(name, stack, work, m > 200)


def large_point(name: str, stack: Stack, work: tuple, short: bool) -> dict:
  chosen = {'k': 20} if short and name == 'svcca' else {}
  truth = svcca_truth if name == 'svcca' else cka_truth
  rival = functools.partial(RIVALS[name], stack, **chosen)
  candidates = {
    'jaxrep': Candidate(ours(stack, name, **chosen)),
    'numpy': Candidate(rival),
  }
  return measure(
    *('large', stack, truth(stack, **chosen), candidates),
    rounds=min(_ROUNDS.value, 2),
    peaks={
      side: harness.peak_memory(run, side, name, work, chosen)
      for side in candidates
    },
    measure=name,
    **chosen,
  )


def run(side: str, name: str, work: tuple, chosen: dict) -> None:
  """All that one side does from start to map, for `peak_memory`."""
  stack = stacks(*work)
  if side == 'jaxrep':
    ours(stack, name, **chosen)()
  else:
    RIVALS[name](stack, **chosen)


def scaling_case() -> Iterator[dict]:
  """Cost against M, n, d and k, one of them at a time."""
  base = {'m': _LAYERS.value, 'n': _SENTENCES.value, 'd': _WIDTH.value}
  rows = []
  for axis, factors in GROWTH.items():
    for factor in factors:
      sizes = base if axis == 'k' else base | {axis: int(base[axis] * factor)}
      share = factor if axis == 'k' else K_SHARE
      stack = stacks(*sizes.values(), 'many')
      for name in ('svcca',) if axis == 'k' else ('cka', 'svcca'):
        k = min(int(share * base['n']), sizes['d'])
        rows.append(scaling_point(axis, name, stack, k))
        yield rows[-1]
  draw(rows, harness.in_results('similarity_scaling.png'))


def scaling_point(axis: str, name: str, stack: Stack, k: int) -> dict:
  chosen = {'k': k} if name == 'svcca' else {}
  rival = functools.partial(RIVALS[name], stack, **chosen)
  truth = svcca_truth(stack[:4], k) if name == 'svcca' else cka_truth(stack)
  candidates = {
    'jaxrep': Candidate(ours(stack, name, **chosen)),
    'numpy': Candidate(rival),
  }
  return measure(
    *('scaling', stack, truth, candidates),
    rounds=min(_ROUNDS.value, 3),
    axis=axis,
    measure=name,
    **chosen,
  )


def draw(rows: list[dict], path: pathlib.Path) -> None:
  """CPU seconds of both sides, a panel for each axis."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(3 * len(GROWTH) + 2, 3), layout='constrained')
  panels = figure.subplots(1, len(GROWTH), sharey=True)
  for axis, panel in zip(GROWTH, panels, strict=True):
    for name in ('cka', 'svcca'):
      for side, style in (('jaxrep', 'o-'), ('numpy', 'x--')):
        points = [
          (row['case'][axis], row['timings'][side]['cpu']['median'])
          for row in rows
          if (row['case']['axis'], row['case']['measure']) == (axis, name)
        ] or [(np.nan, np.nan)]
        panel.loglog(*np.transpose(points), style, label=f'{side}, {name}')
    sizes = {row['case'][axis] for row in rows if row['case']['axis'] == axis}
    panel.set_xticks(sorted(sizes), sorted(sizes))
    panel.set_xticks([], minor=True)
    panel.set_xlabel(axis)
  panels[0].set_ylabel('CPU seconds, all pairs')
  figure.legend(*panels[0].get_legend_handles_labels(), loc='outside right')
  figure.savefig(path, dpi=150)


CASES: Mapping[str, Callable[[], Iterator[dict]]] = {
  'cka': cka_case,
  'svcca-few': functools.partial(svcca_case, 'few'),
  'svcca-many': functools.partial(svcca_case, 'many'),
  'permutations': permutations_case,
  'replicates': replicates_case,
  'panel': panel_case,
  'large': large_case,
  'scaling': scaling_case,
}

if __name__ == '__main__':
  app.run(main)
