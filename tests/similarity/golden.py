"""Makes tests/golden/similarity.npz: inputs, and float64 answers by definition.

    python -m tests.similarity.golden

`x/CASE` and `y/CASE` are float32 [n, p]. `cases`, `conventions` name the
columns and rows of `answers`, float64, NaN where there is no value to give;
`definitions` say in words what each convention is.
`fits`, bool [16, n], are the sentences that each fit of held-out SVCCA uses.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrep.similarity import heldout
from tests.similarity import oracle, oracle_cca, oracle_rows

FILE = pathlib.Path(__file__).parents[1] / 'golden' / 'similarity.npz'
N = 45


class Convention(NamedTuple):
  """An answer, and what one asks `jaxrep.similarity.compare` for to get it."""

  answer: Callable[[np.ndarray, np.ndarray], float]
  definition: str
  measure: str
  parameters: Mapping[str, Any] = {}


def inputs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Pairs of representations of 45 sentences, by what is special in them."""
  x, y = _pair(24), _pair(48)
  rng = np.random.default_rng(0)
  lengths = np.exp(rng.normal(size=(N, 1)))
  mixing = rng.normal(size=(8, 48))
  far = 30 * x[0].std() * rng.normal(size=(2, 24))
  cases = {
    'n > p': x,
    'n < p': _pair(80),
    'n about p': y,
    'unequal widths': (_pair(80)[0], x[1]),
    'offsets': (x[0] + far[0], x[1] + far[1]),
    'uneven rows': (y[0] * lengths, y[1]),
    'rank 8': (y[0][:, :8] @ mixing, y[1]),
    'small and large': (x[0] * 1e-6, x[1] * 1e6),
    'independent': (y[0], _pair(48, seed=4)[1]),
  }
  return {
    case: (a.astype(np.float32), b.astype(np.float32))
    for case, (a, b) in cases.items()
  }


@functools.cache
def fits() -> np.ndarray:
  """8 random halves of the sentences, then the other halves."""
  return np.asarray(heldout.splits_of(jnp.ones(N, bool), 8))


def _pair(width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Two views of one latent in a shared space, of decaying spectrum."""
  rng = np.random.default_rng(seed)
  deviation = np.arange(1, width + 1) ** -0.8
  latent = rng.normal(size=(N, width))
  views = latent + rng.normal(size=(2, N, width))
  return tuple(views * deviation @ oracle.rotation(width) + 0.1)


_LIKENESS = {
  'cosine': 'cosine of centred features',
  'csls': 'CSLS with 10 neighbours of centred features',
  'uncentred': 'cosine of features as they are',
}


def _retrieval(at: int, back: bool, kind: str) -> Convention:
  way = "x's sentence for y's" if back else "y's sentence for x's"
  infix = '' if kind == 'cosine' else f'{kind}_'
  return Convention(
    lambda x, y: oracle_rows.retrieval(x, y, at, back, kind),
    f'{way} among the first {at} by {_LIKENESS[kind]}',
    f'retrieval_{infix}r{at}' + '_back' * back,
  )


_RETRIEVAL = [
  _retrieval(at, back, kind)
  for at, kind in ((1, 'cosine'), (5, 'cosine'), (1, 'csls'), (1, 'uncentred'))
  for back in (False, True)
]
CONVENTIONS = {
  'svcca': Convention(
    oracle.svcca,
    'centred; fewest principal components with 0.99 of the variance; mean of '
    'min(k_x, k_y) canonical correlations',
    'svcca',
  ),
  'svcca, k=5': Convention(
    lambda x, y: oracle.svcca(x, y, k=5),
    'centred; first 5 principal components; mean canonical correlation',
    'svcca',
    {'k': 5},
  ),
  'svcca_heldout, k=5': Convention(
    lambda x, y: oracle_cca.heldout(x, y, fits(), k=5),
    'each of `fits` fitted, its other sentences scored, both centred on '
    'themselves; first 5 principal components of what is fitted, turned to '
    'canonical variates; one correlation of all their pairs; mean over fits',
    'svcca_heldout',
    {'k': 5},
  ),
  'svcca_google': Convention(
    oracle_cca.google,
    "google/svcca's mean: of the fewest leading canonical correlations with "
    '0.98 of their sum; components as of svcca',
    'svcca_google',
  ),
  'svcca_anatome': Convention(
    oracle_cca.anatome,
    "anatome's cut: components of the uncentred features while the cumulative "
    'sum of singular values is below 0.99 of the whole; then centred',
    'svcca_anatome',
  ),
  'svcca_netrep': Convention(
    oracle_cca.netrep,
    "netrep's denominator: sum of the canonical correlations over "
    'sqrt(k_x k_y); components as of svcca',
    'svcca_netrep',
  ),
  'cca': Convention(
    oracle_cca.ridge_cca,
    'centred; 0.1 x the mean variance of a component added to both '
    'covariances; sum of the canonical correlations over the largest that the '
    'ridge allows',
    'cca',
  ),
  'pwcca, k=5': Convention(
    lambda x, y: oracle_cca.pwcca(x, y, k=5),
    'first 5 principal components; canonical correlations weighted by '
    'sum_j |<h_i, x_j>| over the centred features, mean of both sides',
    'pwcca',
    {'k': 5},
  ),
  'mean_squared_cca': Convention(
    oracle_cca.mean_squared_cca,
    'mean of the min(k_x, k_y) squared canonical correlations; components as '
    'of svcca',
    'mean_squared_cca',
  ),
  'cka': Convention(
    oracle.cka, 'linear; cosine of the Gram matrices of centred rows', 'cka'
  ),
  'cka_debiased': Convention(
    oracle.cka_debiased,
    'linear; unbiased HSIC (Song et al. 2012) over the root of both own ones',
    'cka_debiased',
  ),
  'procrustes': Convention(
    oracle_rows.procrustes,
    'nuclear norm of the cross product of centred sides of Frobenius norm 1',
    'procrustes',
  ),
  'rsa': Convention(
    oracle_rows.rsa,
    'Spearman correlation of squared Euclidean distances of all sentences',
    'rsa',
  ),
  'rsa_cosine': Convention(
    oracle_rows.rsa_cosine,
    'cosine of squared Euclidean distances, nothing subtracted',
    'rsa_cosine',
  ),
  'mutual_knn': Convention(
    oracle_rows.mutual_knn,
    'share of common sentences among the 10 nearest by cosine; centred',
    'mutual_knn',
  ),
  **{convention.measure: convention for convention in _RETRIEVAL},
  'centroid_distance': Convention(
    oracle_rows.centroid_distance,
    'distance of the mean rows over the rms length of all rows; not centred',
    'centroid_distance',
  ),
  'norm_ratio': Convention(
    oracle_rows.norm_ratio,
    'smaller mean length of a row over the larger; not centred',
    'norm_ratio',
  ),
  'cosine_gap': Convention(
    oracle_rows.cosine_gap,
    'mean cosine of counterparts less that of all others; not centred',
    'cosine_gap',
  ),
}
# What takes cosines between the sides needs them in one space.
SAME_WIDTH = {
  name
  for name, convention in CONVENTIONS.items()
  if convention.measure.startswith(('retrieval', 'centroid', 'cosine_gap'))
}


def answer(name: str, x: np.ndarray, y: np.ndarray) -> float:
  """The float64 answer, NaN if the convention has none for this pair."""
  if name in SAME_WIDTH and x.shape[1] != y.shape[1]:
    return np.nan
  return float(CONVENTIONS[name].answer(x, y))


def make() -> dict[str, np.ndarray]:
  """All that the file holds."""
  pairs = inputs()
  return {
    **{f'x/{case}': x for case, (x, _) in pairs.items()},
    **{f'y/{case}': y for case, (_, y) in pairs.items()},
    'fits': fits(),
    'cases': np.array(list(pairs)),
    'conventions': np.array(list(CONVENTIONS)),
    'definitions': np.array([c.definition for c in CONVENTIONS.values()]),
    'answers': np.array(
      [[answer(name, *pair) for pair in pairs.values()] for name in CONVENTIONS]
    ),
  }


if __name__ == '__main__':
  np.savez_compressed(FILE, **make())
