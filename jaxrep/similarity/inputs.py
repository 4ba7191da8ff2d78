"""Representations as people give them: arrays of any library, checked."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt32

from jaxrep.similarity.measure import Measure
from jaxrep.types import InputError


def as_array(name: str, x: Any) -> Float[np.ndarray, 'n p']:
  """The representation as float32, or as float64 if it is no float32."""
  if hasattr(x, 'detach'):  # torch, whose bfloat16 NumPy does not read
    x = x.detach().cpu()
    x = x.float() if 'bfloat16' in str(x.dtype) else x
  x = np.asarray(x)
  if x.ndim != 2 or not x.shape[1]:
    raise InputError(
      f'{name} has shape {list(x.shape)}: give [n sentences, p features].'
    )
  return x if x.dtype == np.float32 else x.astype(np.float64)


def narrow(x: Float[np.ndarray, 'n p'], centred: bool) -> np.ndarray:
  """Float32; what was wider keeps its digits if the measure centres it."""
  if x.dtype == np.float32 or not centred:
    return x.astype(np.float32, copy=False)
  x = x - x.mean(axis=0)
  return (x / np.abs(x).max()).astype(np.float32)


def sentences(arrays: Mapping[str, np.ndarray]) -> int:
  """The number of rows that all representations share."""
  sizes = {len(x): name for name, x in arrays.items()}
  if len(sizes) != 1:
    found = ', '.join(f'{name} {size}' for size, name in sizes.items())
    raise InputError(
      'Representations of the same sentences have the same number of rows: '
      f'{found or "none were given"}.'
    )
  return next(iter(sizes))


def reason(
  name: str,
  x: Float[np.ndarray, 'n p'],
  measure: str,
  rule: Measure,
  ids: Sequence[str] | None,
) -> str:
  """Why a representation cannot be used; empty if it can."""
  if len(x) < rule.least:
    return f'n={len(x)} sentences; {measure} needs at least {rule.least}'
  bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
  if bad.size:
    row = f'row {bad[0]}' if ids is None else f'sentence {ids[bad[0]]}'
    return f'{name} is not finite in {row} ({bad.size} of n={len(x)})'
  resolution = 8 * np.finfo(x.dtype).eps * np.abs(x).max()
  if rule.centred and np.ptp(x, axis=0).max() <= resolution:
    return f'{name} is constant: its n={len(x)} rows are equal'
  return ''


def tag(name: str) -> np.uint32:
  """A stable integer, by which representations are put in order.

  Which side of a pair is permuted must depend on neither the order of the pair
  nor that of the representations.
  """
  return np.uint32(zlib.crc32(name.encode()))


def tags(names: Sequence[str]) -> UInt32[np.ndarray, ' m']:
  return np.array([tag(name) for name in names], np.uint32)
