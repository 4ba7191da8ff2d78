"""How alike two representations of the same sentences are.

`svcca(x, y)`, `cka(x, y)` and their like compare one pair, `all_pairs({name:
x})` makes a map, `contrast` tests a difference; `score_pairs` is the form that
the jobs use. Each number comes with its floor, which is what the measure gives
when the sentences are paired at random, and how surely it is above it. Nothing
here imports jax before it is asked for.
"""

from typing import Any

from jaxrep.registry import resolve

# A new measure is one row here and one file.
MEASURES = {
  'svcca': 'jaxrep.similarity.canonical:SVCCA',
  'svcca_heldout': 'jaxrep.similarity.heldout:SVCCA_HELDOUT',
  'svcca_google': 'jaxrep.similarity.published:SVCCA_GOOGLE',
  'svcca_anatome': 'jaxrep.similarity.published:SVCCA_ANATOME',
  'svcca_netrep': 'jaxrep.similarity.published:SVCCA_NETREP',
  'cca': 'jaxrep.similarity.regularised:CCA',
  'pwcca': 'jaxrep.similarity.weighted:PWCCA',
  'mean_squared_cca': 'jaxrep.similarity.regularised:MEAN_SQUARED_CCA',
  'cka': 'jaxrep.similarity.alignment:CKA',
  'cka_debiased': 'jaxrep.similarity.alignment:DEBIASED_CKA',
  'procrustes': 'jaxrep.similarity.shape:PROCRUSTES',
  'rsa': 'jaxrep.similarity.dissimilarity:RSA',
  'rsa_cosine': 'jaxrep.similarity.dissimilarity:RSA_COSINE',
  'mutual_knn': 'jaxrep.similarity.neighbours:MUTUAL_KNN',
  'retrieval_r1': 'jaxrep.similarity.search:RETRIEVAL_R1',
  'retrieval_r1_back': 'jaxrep.similarity.search:RETRIEVAL_R1_BACK',
  'retrieval_r5': 'jaxrep.similarity.search:RETRIEVAL_R5',
  'retrieval_r5_back': 'jaxrep.similarity.search:RETRIEVAL_R5_BACK',
  'retrieval_csls_r1': 'jaxrep.similarity.search:CSLS_R1',
  'retrieval_csls_r1_back': 'jaxrep.similarity.search:CSLS_R1_BACK',
  'retrieval_uncentred_r1': 'jaxrep.similarity.search:UNCENTRED_R1',
  'retrieval_uncentred_r1_back': 'jaxrep.similarity.search:UNCENTRED_R1_BACK',
  'centroid_distance': 'jaxrep.similarity.gap:CENTROID_DISTANCE',
  'norm_ratio': 'jaxrep.similarity.gap:NORM_RATIO',
  'cosine_gap': 'jaxrep.similarity.gap:COSINE_GAP',
}

# No file of this package may have the name of a function: importing it would
# put the module in the function's place.
_CALLS = (
  *('cca', 'cka', 'compare', 'mutual_knn', 'procrustes', 'pwcca', 'rsa'),
  *('svcca', 'svcca_heldout'),
)
_PUBLIC = {
  'Calibration': 'jaxrep.similarity.measure:Calibration',
  'Parameters': 'jaxrep.similarity.measure:Parameters',
  'all_pairs': 'jaxrep.similarity.pairs:all_pairs',
  'contrast': 'jaxrep.similarity.contrasts:contrast',
  'score_pairs': 'jaxrep.similarity.pairs:score_pairs',
  **{name: f'jaxrep.similarity.calls:{name}' for name in _CALLS},
}


def __getattr__(name: str) -> Any:
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return resolve(_PUBLIC[name])


def __dir__() -> list[str]:
  return ['MEASURES', *_PUBLIC]
