"""Scores of a list of pairs and of all pairs, each with what chance gives."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int, Shaped

from jaxrep.registry import lookup, resolve
from jaxrep.similarity import MEASURES, chance, inputs, scoring, spread
from jaxrep.similarity.blocks import Blocks
from jaxrep.similarity.measure import Calibration, Measure, Parameters
from jaxrep.types import InputError


@dataclasses.dataclass(frozen=True)
class PairScores:
  """Scores of a list of pairs, in its order.

  All numbers are NaN where `status` is not 'ok' but the reason. `floor` and
  `floor_sd` are the mean and the spread of the score over random pairings of
  the sentences, `calibrated` is (value - floor) / (1 - floor), `z` the
  distance from the floor in spreads and `p` the share of pairings that reach
  the value; `p_map` allows for the largest of its map. `ci_low`, `ci_high`
  hold 95 % for the expectation of the score at this n over new sentences.
  Those that were not asked for, that the measure does not have, and the
  interval of a side against itself are NaN; so is an interval where the score
  has no value without some of the sentences, and `z` and `p_map` where every
  pairing drawn scores alike (`floor_sd` is 0).
  `k_a`, `k_b` are the components kept on each side and `k` the smaller of
  them; all 0 for a measure that keeps none.
  """

  measure: str
  definition: str
  n: int
  value: Float[np.ndarray, ' pair']
  floor: Float[np.ndarray, ' pair']
  floor_sd: Float[np.ndarray, ' pair']
  calibrated: Float[np.ndarray, ' pair']
  z: Float[np.ndarray, ' pair']
  p: Float[np.ndarray, ' pair']
  p_map: Float[np.ndarray, ' pair']
  ci_low: Float[np.ndarray, ' pair']
  ci_high: Float[np.ndarray, ' pair']
  k: Int[np.ndarray, ' pair']
  k_a: Int[np.ndarray, ' pair']
  k_b: Int[np.ndarray, ' pair']
  status: Shaped[np.ndarray, ' pair']


@dataclasses.dataclass(frozen=True)
class SimilarityMap:
  """Scores of every pair of `names`, as matrices; fields as `PairScores`.

  Row a, column b is the score of a against b, which matters for a measure that
  has a direction.
  """

  names: tuple[str, ...]
  measure: str
  definition: str
  n: int
  value: Float[np.ndarray, 'm m']
  floor: Float[np.ndarray, 'm m']
  floor_sd: Float[np.ndarray, 'm m']
  calibrated: Float[np.ndarray, 'm m']
  z: Float[np.ndarray, 'm m']
  p: Float[np.ndarray, 'm m']
  p_map: Float[np.ndarray, 'm m']
  ci_low: Float[np.ndarray, 'm m']
  ci_high: Float[np.ndarray, 'm m']
  k: Int[np.ndarray, 'm m']
  status: Shaped[np.ndarray, 'm m']


def score_pairs(
  representations: Mapping[str, Any],
  pairs: Int[np.ndarray, 'pair 2'],
  measure: str = 'svcca',
  parameters: Parameters | None = None,
  calibration: Calibration | None = None,
  *,
  cuts: Int[np.ndarray, 'pair 2'] | None = None,
  maps: Sequence[Any] | None = None,
  ids: Sequence[str] | None = None,
  clusters: Sequence[Any] | None = None,
  folder: epath.PathLike | None = None,
  mesh: Mesh | None = None,
) -> PairScores:
  """Scores of the given pairs of representations of the same sentences.

  Args:
    representations: name to x [n, p]; rows aligned, widths may differ.
    pairs: positions in `representations`; a pair and its reverse are computed
      once, unless the measure has a direction.
    measure: a name in `jaxrep.similarity.MEASURES`.
    parameters: of the measure.
    calibration: what is computed to judge the scores by.
    cuts: components that count on each side of each pair, 0 for the measure's
      own choice; of SVCCA and its variants by anatome and netrep.
    maps: label of the map that each pair belongs to, for `p_map`; all pairs
      are one map by default.
    ids: names of the sentences, for messages.
    clusters: label of the sentence that each row belongs to, if it can have
      several (recordings); intervals keep these together.
    folder: where finished tiles are kept, so that a killed call goes on.
    mesh: devices that share the work along its axis 'data'; by default the
      mesh that is set, or one device if none is.

  Raises:
    InputError: different n, an array that is not [n, p], an unknown measure,
      a pair of what is not there, a negative cut.
  """
  rule, parameters = measure_named(measure), parameters or Parameters()
  calibration = calibration or Calibration()
  arrays = {
    name: inputs.as_array(name, x) for name, x in representations.items()
  }
  n, pairs = inputs.sentences(arrays), np.asarray(pairs).reshape(-1, 2)
  if pairs.size and not 0 <= pairs.min() <= pairs.max() < len(arrays):
    raise InputError(
      f'pairs: give positions from 0 to {len(arrays) - 1}, one for each of '
      f'the {len(arrays)} representations.'
    )
  cuts = _checked(cuts, len(pairs), measure, rule)
  reasons = np.array(
    [inputs.reason(name, x, measure, rule, ids) for name, x in arrays.items()],
    object,
  )
  ordered, place = _in_order(arrays, reasons, np.unique(pairs))
  usable = (place[pairs] >= 0).all(axis=1)
  rows, back, turned = _unique(
    place[pairs[usable]],
    cuts[usable],
    _numbered(maps, len(pairs))[usable],
    rule.symmetric,
  )
  made = Blocks(
    *(rule, rule.arguments(parameters), ordered, _mesh(mesh)),
    None if clusters is None else _numbered(clusters, n),
  )
  settings = (measure, parameters, calibration)
  found = scoring.score(made, rows, settings, folder)
  columns = _spread_out(found, back, usable, turned)
  early = reasons[pairs]
  early = np.where(early[:, 0] == '', early[:, 1], early[:, 0])
  columns['status'] = np.where(usable, columns['status'], early)
  return PairScores(
    measure=measure,
    definition=define(rule, parameters, calibration),
    n=n,
    k=np.minimum(columns['k_a'], columns['k_b']),
    **columns,
  )


def all_pairs(
  representations: Mapping[str, Any],
  measure: str = 'svcca',
  calibration: Calibration | None = None,
  *,
  ids: Sequence[str] | None = None,
  folder: epath.PathLike | None = None,
  mesh: Mesh | None = None,
  **parameters: Any,
) -> SimilarityMap:
  """Scores of every pair of representations of the same sentences.

  Args:
    representations: name to x [n, p]; rows aligned, widths may differ.
    measure: a name in `jaxrep.similarity.MEASURES`.
    calibration: as in `score_pairs`.
    ids: as in `score_pairs`.
    folder: as in `score_pairs`.
    mesh: as in `score_pairs`.
    **parameters: of the measure, fields of `Parameters`.
  """
  chosen, rule = Parameters(**parameters), measure_named(measure)
  if parameters and not rule.arguments(chosen):
    raise InputError(f'{measure} does not take {", ".join(parameters)}.')
  size = len(representations)
  every = np.triu_indices(size) if rule.symmetric else np.indices((size, size))
  pairs = np.stack([np.ravel(side) for side in every], axis=1)
  scores = score_pairs(
    *(representations, pairs, measure, chosen, calibration),
    ids=ids,
    folder=folder,
    mesh=mesh,
  )

  def matrix(values: Shaped[np.ndarray, ' pair']) -> Shaped[np.ndarray, 'm m']:
    full = np.empty((size, size), values.dtype)
    if rule.symmetric:
      full[pairs[:, 1], pairs[:, 0]] = values
    full[pairs[:, 0], pairs[:, 1]] = values
    return full

  return SimilarityMap(
    names=tuple(representations),
    measure=measure,
    definition=scores.definition,
    n=scores.n,
    k=matrix(scores.k),
    status=matrix(scores.status),
    **{name: matrix(getattr(scores, name)) for name in scoring.NUMBERS},
  )


def measure_named(name: str) -> Measure:
  """The measure of that name, or an error that lists them."""
  return resolve(lookup(MEASURES, name, 'measure'))


def define(
  rule: Measure, parameters: Parameters, calibration: Calibration
) -> str:
  """What is printed with every number of the measure."""
  parts = (
    rule.describe(parameters),
    chance.describe(rule, calibration.permutations, calibration.joint),
    spread.describe(rule, calibration),
  )
  return '; '.join(part for part in parts if part) + '.'


def _checked(
  cuts: Int[np.ndarray, 'pair 2'] | None,
  count: int,
  measure: str,
  rule: Measure,
) -> Int[np.ndarray, 'pair 2']:
  """The cuts of each pair, 0 where the measure chooses."""
  if cuts is None:
    return np.zeros((count, 2), int)
  if not rule.nuclear:
    raise InputError(f'{measure} takes no cuts, as svcca does.')
  if np.any(cuts < 0):
    raise InputError(
      f'cuts: {cuts.min()} is no number of components; 0 is for the choice of '
      'the measure.'
    )
  return cuts


def _in_order(
  arrays: Mapping[str, np.ndarray],
  reasons: Shaped[np.ndarray, ' m'],
  used: Int[np.ndarray, ' used'],
) -> tuple[dict[str, np.ndarray], Int[np.ndarray, ' m']]:
  """What is used and usable, by its name, and where each went (or -1).

  Names that begin with their side keep it together, so that in a map of two
  sides the same one's sentences are paired anew in every cell.
  """
  names = list(arrays)
  order = np.argsort(np.array(names), kind='stable')
  order = order[(reasons[order] == '') & np.isin(order, used)]
  place = np.full(len(names), -1)
  place[order] = np.arange(len(order))
  return {names[i]: arrays[names[i]] for i in order}, place


def _unique(
  pairs: Int[np.ndarray, 'pair 2'],
  cuts: Int[np.ndarray, 'pair 2'],
  maps: Int[np.ndarray, ' pair'],
  symmetric: bool,
) -> tuple[
  Int[np.ndarray, 'unique 5'],
  Int[np.ndarray, ' pair'],
  Bool[np.ndarray, ' pair'],
]:
  """Each pair once (a, b, cut_a, cut_b, map), where each is, which turned."""
  turned = (pairs[:, 0] > pairs[:, 1]) & symmetric
  both = (
    np.where(turned[:, None], side[:, ::-1], side) for side in (pairs, cuts)
  )
  rows = np.column_stack([*both, maps])
  # One number a row: rows themselves sort ten times slower.
  key = np.ravel_multi_index(rows.T, rows.max(axis=0, initial=0) + 1)
  _, first, back = np.unique(key, return_index=True, return_inverse=True)
  return rows[first], back, turned


def _numbered(
  maps: Sequence[Any] | None, count: int
) -> Int[np.ndarray, ' pair']:
  """Labels of maps as numbers from 0."""
  if maps is None:
    return np.zeros(count, int)
  numbers: dict[Any, int] = {}
  return np.array([numbers.setdefault(label, len(numbers)) for label in maps])


def _spread_out(
  found: Mapping[str, np.ndarray],
  back: Int[np.ndarray, ' usable'],
  usable: Bool[np.ndarray, ' pair'],
  turned: Bool[np.ndarray, ' usable'],
) -> dict[str, np.ndarray]:
  """Columns of all pairs, undefined where a pair was not usable."""
  columns = {}
  for name, values in found.items():
    empty = {'f': np.nan, 'i': 0}.get(values.dtype.kind, '')
    columns[name] = np.full(len(usable), empty, values.dtype)
    columns[name][usable] = values[back]
  swapped = np.flatnonzero(usable)[turned]
  k_a, k_b = columns['k_a'], columns['k_b']
  k_a[swapped], k_b[swapped] = k_b[swapped], k_a[swapped]
  return columns


def _mesh(mesh: Mesh | None) -> Mesh | None:
  """The mesh given, else the one that is set, else None."""
  mesh = jax.sharding.get_mesh() if mesh is None else mesh
  if not mesh.empty and 'data' not in mesh.axis_names:
    raise InputError(f"The mesh has no axis 'data', only {mesh.axis_names}.")
  return None if mesh.empty else mesh
