"""Representations as people give them: arrays of any library, checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxrep.similarity.measure import Measure
from jaxrep.types import InputError

_FAR = 40  # exponents of 2 within which no sum leaves float32
_SMALLEST, _LARGEST = 1e-36, 1e36  # of float32, with room for sums


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
  """Float32; what is centred at a scale where no digit is lost.

  What was wider keeps its digits if the measure centres it.
  """
  if not centred:
    return x.astype(np.float32, copy=False)
  exponent = int(np.frexp(largest(x))[1])
  if x.dtype == np.float32 and abs(exponent) < _FAR:
    return x
  x = np.ldexp(x, -exponent)
  if x.dtype == np.float64:
    x -= x.mean(axis=0)
    x /= max(largest(x), np.finfo(x.dtype).tiny)
  return x.astype(np.float32, copy=False)


def largest(x: Float[np.ndarray, 'n p']) -> float:
  """The largest magnitude; cheaper than that of all magnitudes."""
  return max(-float(x.min()), float(x.max()))


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
  size = largest(x)
  if rule.centred:
    # Halves, since the range of what is largest may be infinite.
    spread = np.max(x.max(axis=0) / 2 - x.min(axis=0) / 2)
    if spread <= 4 * np.finfo(x.dtype).eps * size:
      return f'{name} is constant: its n={len(x)} rows are equal'
  elif size and not _SMALLEST < size < _LARGEST:
    return (
      f'{name} reaches {size:.0e}, beyond float32: divide all representations '
      'by one number'
    )
  return ''
