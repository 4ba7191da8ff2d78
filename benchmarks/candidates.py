"""Candidates for one matrix of values: their errors, and their seconds.

What is slow is timed on a part of the work, and its seconds are multiplied.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from benchmarks import harness
from benchmarks.stacks import Stack


class Candidate(NamedTuple):
  """`call` gives a matrix of values; its time counts `times` as long."""

  call: Callable[[], np.ndarray]
  times: float = 1


def part(
  call: Callable[[Stack, Stack], np.ndarray], stack: Stack, side: int
) -> Candidate:
  """All ordered pairs of the first layers, for the unordered pairs of all."""
  some, m = stack[:side], len(stack)
  times = m * (m + 1) / 2 / len(some) ** 2
  return Candidate(functools.partial(call, some, some), times)


def compare(
  candidates: Mapping[str, Candidate],
  truth: np.ndarray,
  tolerance: float,
  rounds: int,
) -> harness.Comparison:
  """Times candidates, the one of interest first, which must be right."""
  result = harness.compare(
    {name: each.call for name, each in candidates.items()},
    functools.partial(errors, tuple(candidates), truth, tolerance),
    rounds,
    warm_up=1,
  )
  return scale(result, {name: c.times for name, c in candidates.items()})


def errors(
  names: tuple[str, ...],
  truth: np.ndarray,
  tolerance: float,
  *outputs: np.ndarray,
) -> dict[str, float]:
  """Largest error of each; refuses ours if it is wrong, and only ours."""
  found = {}
  for name, values in zip(names, outputs, strict=True):
    side = min(len(values), len(truth))
    difference = values[:side, :side] - truth[:side, :side]
    found[name] = float(np.abs(difference).max())
  if not found[names[0]] < tolerance:
    raise AssertionError(f'{names[0]} is off by {found[names[0]]:.1e}.')
  return found


def scale(
  result: harness.Comparison, times: Mapping[str, float]
) -> harness.Comparison:
  """Seconds and ratios as if each had done all of the work."""

  def longer(name: str, timing: harness.Timing) -> harness.Timing:
    factor = times[name]
    wall, cpu = (
      harness.Spread(*(factor * x for x in dataclasses.astuple(spread)))
      for spread in (timing.wall, timing.cpu)
    )
    return harness.Timing(wall, cpu)

  return dataclasses.replace(
    result,
    timings={name: longer(name, t) for name, t in result.timings.items()},
    ratios={name: longer(name, t) for name, t in result.ratios.items()},
  )
