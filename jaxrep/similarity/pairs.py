"""Scores of one pair, of a list of pairs, of all pairs; each with its floor."""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int, Shaped, UInt32

from jaxrep.registry import lookup, resolve
from jaxrep.similarity import MEASURES, tiles
from jaxrep.similarity.measure import Factors, Measure, Parameters
from jaxrep.stats import permutation
from jaxrep.types import InputError

_SATURATED = 1e-5  # a floor this close to 1 leaves nothing to compare


@dataclasses.dataclass(frozen=True)
class PairScores:
  """Scores of a list of pairs, in its order.

  `value`, `floor` and `calibrated` are NaN where `status` is not 'ok' but the
  reason. `k_a`, `k_b` are the components kept on each side and `k` the smaller
  of them; all 0 for a measure that keeps none. `n` is the number of sentences.
  """

  measure: str
  definition: str
  n: int
  value: Float[np.ndarray, ' pair']
  floor: Float[np.ndarray, ' pair']
  calibrated: Float[np.ndarray, ' pair']
  k: Int[np.ndarray, ' pair']
  k_a: Int[np.ndarray, ' pair']
  k_b: Int[np.ndarray, ' pair']
  status: Shaped[np.ndarray, ' pair']


@dataclasses.dataclass(frozen=True)
class SimilarityMap:
  """Scores of every pair of `names`, as matrices; fields as `PairScores`."""

  names: tuple[str, ...]
  measure: str
  definition: str
  n: int
  value: Float[np.ndarray, 'm m']
  floor: Float[np.ndarray, 'm m']
  calibrated: Float[np.ndarray, 'm m']
  k: Int[np.ndarray, 'm m']
  status: Shaped[np.ndarray, 'm m']


@dataclasses.dataclass(frozen=True)
class Similarity:
  """The score of one pair; k is None for a measure that keeps no components.

  `calibrated` is (value - floor) / (1 - floor).
  """

  value: float
  floor: float
  calibrated: float
  n: int
  k: int | None
  k_a: int | None
  k_b: int | None
  definition: str


def svcca(
  x: Any,
  y: Any,
  variance: float = 0.99,
  k: int | None = None,
  *,
  permutations: int = 8,
  seed: int = 0,
) -> Similarity:
  """SVCCA of x [n, p] and y [n, q]: NumPy, JAX or torch, rows aligned.

  Args:
    x: one representation of n sentences.
    y: another one of the same sentences, in the same order.
    variance: keep the fewest principal components with this share of it.
    k: keep this many components of each side instead.
    permutations: random pairings whose mean score is the floor.
    seed: of these pairings.

  Raises:
    InputError: the value would be undefined or meaningless; says why.
  """
  parameters = Parameters(variance, k)
  return _one_pair(x, y, 'svcca', parameters, permutations, seed)


def cka(
  x: Any, y: Any, debiased: bool = False, kernel: str = 'linear'
) -> Similarity:
  """Linear CKA of x [n, p] and y [n, q]: NumPy, JAX or torch, rows aligned.

  The floor is exact: the mean over all pairings of the sentences, which is 0
  for the debiased estimator.

  Raises:
    InputError: the value would be undefined or meaningless; says why.
  """
  if kernel != 'linear':
    raise InputError(f'kernel={kernel!r}: only the linear kernel is there.')
  name = 'cka_debiased' if debiased else 'cka'
  return _one_pair(x, y, name, Parameters())


def all_pairs(
  representations: Mapping[str, Any],
  measure: str = 'svcca',
  *,
  permutations: int = 8,
  seed: int = 0,
  mesh: Mesh | None = None,
  **parameters: Any,
) -> SimilarityMap:
  """Scores of every pair of representations of the same sentences.

  Args:
    representations: name to x [n, p]; rows aligned, widths may differ.
    measure: a name in `jaxrep.similarity.MEASURES`.
    permutations: as in `score_pairs`.
    seed: as in `score_pairs`.
    mesh: as in `score_pairs`.
    **parameters: of the measure; `variance`, `k` for SVCCA.
  """
  chosen = Parameters(**parameters)
  if parameters and not _measure(measure).arguments(chosen):
    raise InputError(f'{measure} does not take {", ".join(parameters)}.')
  size = len(representations)
  pairs = np.stack(np.triu_indices(size), axis=1)
  chance = {'permutations': permutations, 'seed': seed}
  scores = score_pairs(
    representations, pairs, measure, chosen, **chance, mesh=mesh
  )

  def matrix(values: Shaped[np.ndarray, ' pair']) -> Shaped[np.ndarray, 'm m']:
    full = np.empty((size, size), values.dtype)
    full[pairs[:, 0], pairs[:, 1]] = full[pairs[:, 1], pairs[:, 0]] = values
    return full

  return SimilarityMap(
    names=tuple(representations),
    measure=measure,
    definition=scores.definition,
    n=scores.n,
    value=matrix(scores.value),
    floor=matrix(scores.floor),
    calibrated=matrix(scores.calibrated),
    k=matrix(scores.k),
    status=matrix(scores.status),
  )


def score_pairs(
  representations: Mapping[str, Any],
  pairs: Int[np.ndarray, 'pair 2'],
  measure: str = 'svcca',
  parameters: Parameters | None = None,
  *,
  permutations: int = 8,
  seed: int = 0,
  mesh: Mesh | None = None,
) -> PairScores:
  """Scores of the given pairs of representations of the same sentences.

  Args:
    representations: name to x [n, p]; rows aligned, widths may differ.
    pairs: positions in `representations`; a pair and its reverse are computed
      once.
    measure: a name in `jaxrep.similarity.MEASURES`.
    parameters: of the measure.
    permutations: random pairings per pair whose mean score is the floor, where
      no exact floor is known. They depend on the seed and the two names alone.
    seed: of these pairings.
    mesh: devices that share the work along its axis 'data'; by default the
      mesh that is set, or one device if none is.

  Raises:
    InputError: different n, an array that is not [n, p], an unknown measure.
  """
  if permutations < 1:
    raise InputError(f'permutations={permutations}: a floor needs one or more.')
  rule, parameters = _measure(measure), parameters or Parameters()
  arrays = {name: _numpy(name, x) for name, x in representations.items()}
  n, mesh = _sentences(arrays), _mesh(mesh)
  found = [_reason(name, x, measure, rule) for name, x in arrays.items()]
  reasons = np.array(found, object)
  unique, back, tags = _unique(pairs, list(arrays))
  used = np.unique(unique[_usable(reasons, unique)])
  factors, k = _factor(rule, parameters, arrays, used, reasons, mesh)
  todo = _usable(reasons, unique)
  scores = np.full((2, len(unique)), np.nan, np.float32)
  if todo.any():
    places = np.searchsorted(used, unique[todo])
    scores[:, todo] = tiles.score_all(
      rule, factors, places, tags[todo], n, permutations, seed, mesh
    )
  status = _status(reasons[unique], k[unique], n, *scores)
  value, floor = np.where(status == 'ok', scores, np.nan)[:, back]
  return PairScores(
    measure=measure,
    definition=_definition(rule, parameters, permutations),
    n=n,
    value=value,
    floor=floor,
    calibrated=permutation.calibrate(value, floor),
    k=k[pairs].min(axis=1),
    k_a=k[pairs[:, 0]],
    k_b=k[pairs[:, 1]],
    status=status[back],
  )


def _factor(
  rule: Measure,
  parameters: Parameters,
  arrays: Mapping[str, np.ndarray],
  used: Int[np.ndarray, ' used'],
  reasons: Shaped[np.ndarray, ' m'],
  mesh: Mesh | None,
) -> tuple[Factors | None, Int[np.ndarray, ' m']]:
  """Factors of the used representations, and the components of each.

  Enters into `reasons` which of them cannot be used after all.
  """
  names, k = list(arrays), np.zeros(len(arrays), np.int32)
  if not used.size:
    return None, k
  inputs = [_narrow(arrays[names[i]]) for i in used]
  arguments = rule.arguments(parameters)
  factors = tiles.factor_all(rule, arguments, inputs, mesh)
  k[used] = np.asarray(factors.k)[: used.size]
  asked = arguments.get('k', 0)
  for i, defined in zip(used, np.asarray(factors.defined), strict=False):
    if not defined:
      reasons[i] = f'{names[i]}: {rule.undefined}'
    elif k[i] < asked:
      shape = f'n={len(inputs[0])}, p={arrays[names[i]].shape[1]}'
      reasons[i] = f'{names[i]} has {k[i]} components ({shape}), not k={asked}'
  return factors, k


def _usable(
  reasons: Shaped[np.ndarray, ' m'], pairs: Int[np.ndarray, 'pair 2']
) -> Bool[np.ndarray, ' pair']:
  return (reasons[pairs] == '').all(axis=1)


def _status(
  reasons: Shaped[np.ndarray, 'pair 2'],
  k: Int[np.ndarray, 'pair 2'],
  n: int,
  value: Float[np.ndarray, ' pair'],
  floor: Float[np.ndarray, ' pair'],
) -> Shaped[np.ndarray, ' pair']:
  """'ok', or why there is no value."""
  status = np.where(reasons[:, 0] == '', reasons[:, 1], reasons[:, 0])
  open_, finite = status == '', np.isfinite(value) & np.isfinite(floor)
  for i in np.flatnonzero(open_ & ~finite):
    status[i] = 'the decomposition did not converge'
  for i in np.flatnonzero(open_ & finite & (1 - floor < _SATURATED)):
    status[i] = (
      f'every pairing of the n={n} sentences scores 1 '
      f'(k_a={k[i, 0]}, k_b={k[i, 1]}, floor 1): nothing can be told'
    )
  status[status == ''] = 'ok'
  return status


def _one_pair(
  x: Any,
  y: Any,
  measure: str,
  parameters: Parameters,
  permutations: int = 1,
  seed: int = 0,
) -> Similarity:
  sides, pair = {'x': x, 'y': y}, np.array([[0, 1]])
  chance = {'permutations': permutations, 'seed': seed}
  scores = score_pairs(sides, pair, measure, parameters, **chance)
  if scores.status[0] != 'ok':
    raise InputError(f'{measure}: {scores.status[0]}.')
  return Similarity(
    value=float(scores.value[0]),
    floor=float(scores.floor[0]),
    calibrated=float(scores.calibrated[0]),
    n=scores.n,
    k=int(scores.k[0]) or None,
    k_a=int(scores.k_a[0]) or None,
    k_b=int(scores.k_b[0]) or None,
    definition=scores.definition,
  )


def _measure(name: str) -> Measure:
  return resolve(lookup(MEASURES, name, 'measure'))


def _definition(
  rule: Measure, parameters: Parameters, permutations: int
) -> str:
  floor = (
    f'mean over {permutations} random pairings of the sentences'
    if rule.floor is None
    else 'exact mean over all pairings of the sentences'
  )
  return f'{rule.describe(parameters)}; floor: {floor}.'


def _numpy(name: str, x: Any) -> Float[np.ndarray, 'n p']:
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


def _narrow(x: Float[np.ndarray, 'n p']) -> Float[np.ndarray, 'n p']:
  """Float32; what was wider is centred and scaled first, to keep its digits."""
  if x.dtype == np.float32:
    return x
  x = x - x.mean(axis=0)
  return (x / np.abs(x).max()).astype(np.float32)


def _sentences(arrays: Mapping[str, np.ndarray]) -> int:
  """The number of rows that all representations share."""
  sizes = {len(x): name for name, x in arrays.items()}
  if len(sizes) != 1:
    found = ', '.join(f'{name} {size}' for size, name in sizes.items())
    raise InputError(
      'Representations of the same sentences have the same number of rows: '
      f'{found or "none were given"}.'
    )
  return next(iter(sizes))


def _reason(
  name: str, x: Float[np.ndarray, 'n p'], measure: str, rule: Measure
) -> str:
  """Why a representation cannot be used; empty if it can."""
  if len(x) < rule.least:
    return f'n={len(x)} sentences; {measure} needs at least {rule.least}'
  bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
  if bad.size:
    return f'{name} is not finite in row {bad[0]} ({bad.size} of n={len(x)})'
  resolution = 8 * np.finfo(x.dtype).eps * np.abs(x).max()
  if np.ptp(x, axis=0).max() <= resolution:
    return f'{name} is constant: its n={len(x)} rows are equal'
  return ''


def _unique(
  pairs: Int[np.ndarray, 'pair 2'], names: list[str]
) -> tuple[
  Int[np.ndarray, 'unique 2'],
  Int[np.ndarray, ' pair'],
  UInt32[np.ndarray, 'unique 2'],
]:
  """Each unordered pair once, where the given pairs are among them, and tags.

  A tag is a stable integer of a name. The members are ordered by their tags,
  so that neither the order of a pair nor that of the representations changes
  which side is permuted.
  """
  tags = np.array([zlib.crc32(name.encode()) for name in names], np.uint32)
  place = np.argsort(np.argsort(tags, kind='stable'))
  turned = place[pairs[:, 0]] > place[pairs[:, 1]]
  pairs = np.where(turned[:, None], pairs[:, ::-1], pairs)
  unique, back = np.unique(pairs, axis=0, return_inverse=True)
  return unique, back.reshape(-1), tags[unique]


def _mesh(mesh: Mesh | None) -> Mesh | None:
  """The mesh given, else the one that is set, else None."""
  mesh = jax.sharding.get_mesh() if mesh is None else mesh
  if not mesh.empty and 'data' not in mesh.axis_names:
    raise InputError(f"The mesh has no axis 'data', only {mesh.axis_names}.")
  return None if mesh.empty else mesh
