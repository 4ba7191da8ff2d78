"""One pair of representations, compared by one call a measure."""

import dataclasses
from typing import Any

import numpy as np

from jaxrep.similarity import pairs
from jaxrep.similarity.measure import Calibration, Parameters
from jaxrep.types import InputError

_CALIBRATION = Calibration(permutations=64)


@dataclasses.dataclass(frozen=True)
class Similarity:
  """The score of one pair, with what it is judged by.

  Fields as in `pairs.PairScores`. What the measure does not have, or what was
  not asked for, is None.
  """

  value: float
  floor: float | None
  floor_sd: float | None
  calibrated: float | None
  z: float | None
  p: float | None
  ci_low: float | None
  ci_high: float | None
  n: int
  k: int | None
  k_a: int | None
  k_b: int | None
  definition: str


def compare(
  x: Any,
  y: Any,
  measure: str,
  calibration: Calibration = _CALIBRATION,
  **parameters: Any,
) -> Similarity:
  """x [n, p] against y [n, q] under any of `jaxrep.similarity.MEASURES`.

  Args:
    x: one representation of n sentences: NumPy, JAX or torch.
    y: another one of the same sentences, in the same order.
    measure: a name in `jaxrep.similarity.MEASURES`.
    calibration: what is computed to judge the score by.
    **parameters: of the measure, fields of `Parameters`.

  Raises:
    InputError: the value would be undefined or meaningless; says why.
  """
  scores = pairs.score_pairs(
    {'x': x, 'y': y},
    np.array([[0, 1]]),
    measure,
    Parameters(**parameters),
    calibration,
  )
  if scores.status[0] != 'ok':
    raise InputError(f'{measure} has no value: {scores.status[0]}.')
  names = [field.name for field in dataclasses.fields(Similarity)]
  numbers = {
    name: getattr(scores, name)[0].item()
    for name in names
    if name not in ('n', 'definition')
  }
  for name, number in numbers.items():
    if np.isnan(number) or (name.startswith('k') and number == 0):
      numbers[name] = None
  return Similarity(n=scores.n, definition=scores.definition, **numbers)


def svcca(
  x: Any,
  y: Any,
  variance: float = 0.99,
  k: int | None = None,
  *,
  calibration: Calibration = _CALIBRATION,
) -> Similarity:
  """SVCCA: mean canonical correlation of principal components.

  Args:
    x: as of `compare`.
    y: as of `compare`.
    variance: keep the fewest principal components with this share of it.
    k: keep this many components of each side instead.
    calibration: as of `compare`.
  """
  return compare(x, y, 'svcca', calibration, variance=variance, k=k)


def svcca_heldout(
  x: Any,
  y: Any,
  variance: float = 0.99,
  k: int | None = None,
  splits: int = 8,
  *,
  calibration: Calibration = _CALIBRATION,
) -> Similarity:
  """SVCCA fitted on one half of the sentences and scored on the other.

  `splits` times; the other arguments as of `svcca`. Unrelated data score 0.
  """
  chosen = {'variance': variance, 'k': k, 'splits': splits}
  return compare(x, y, 'svcca_heldout', calibration, **chosen)


def pwcca(
  x: Any,
  y: Any,
  variance: float = 0.99,
  k: int | None = None,
  *,
  calibration: Calibration = _CALIBRATION,
) -> Similarity:
  """Projection-weighted CCA of components; arguments as of `svcca`."""
  return compare(x, y, 'pwcca', calibration, variance=variance, k=k)


def cca(
  x: Any,
  y: Any,
  ridge: float = 0.1,
  *,
  calibration: Calibration = _CALIBRATION,
) -> Similarity:
  """CCA of all components, with `ridge` times their mean variance added."""
  return compare(x, y, 'cca', calibration, ridge=ridge)


def cka(
  x: Any,
  y: Any,
  debiased: bool = False,
  kernel: str = 'linear',
  *,
  calibration: Calibration = _CALIBRATION,
) -> Similarity:
  """Linear CKA, biased or debiased; x and y as of `compare`."""
  if kernel != 'linear':
    raise InputError(f'kernel={kernel!r}: only the linear kernel is there.')
  return compare(x, y, 'cka_debiased' if debiased else 'cka', calibration)


def procrustes(
  x: Any, y: Any, *, calibration: Calibration = _CALIBRATION
) -> Similarity:
  """Procrustes similarity: cosine after the best rotation."""
  return compare(x, y, 'procrustes', calibration)


def rsa(
  x: Any,
  y: Any,
  comparison: str = 'spearman',
  *,
  calibration: Calibration = _CALIBRATION,
) -> Similarity:
  """Agreement of the distances between sentences: 'spearman' or 'cosine'."""
  names = {'spearman': 'rsa', 'cosine': 'rsa_cosine'}
  if comparison not in names:
    raise InputError(
      f'comparison={comparison!r}: give one of {", ".join(names)}.'
    )
  return compare(x, y, names[comparison], calibration)


def mutual_knn(
  x: Any,
  y: Any,
  neighbours: int = 10,
  *,
  calibration: Calibration = _CALIBRATION,
) -> Similarity:
  """Share of the nearest neighbours of a sentence that both sides have."""
  return compare(x, y, 'mutual_knn', calibration, neighbours=neighbours)
