"""The measures of a run as the report names and orders them."""

from collections.abc import Mapping
from typing import Any

_TITLES = {
  'svcca': 'SVCCA',
  'svcca_k': 'SVCCA, fixed k',
  'svcca_heldout': 'held-out SVCCA',
  'cca': 'CCA',
  'pwcca': 'PWCCA',
  'mean_squared_cca': 'mean squared CCA',
  'cka': 'CKA',
  'cka_debiased': 'debiased CKA',
  'rsa': 'RSA (Spearman)',
  'rsa_cosine': 'RSA (cosine)',
  'mutual_knn': 'mutual kNN',
  'retrieval_r1': 'R@1',
  'retrieval_r1_back': 'R@1 back',
  'retrieval_r5': 'R@5',
  'retrieval_r5_back': 'R@5 back',
  'retrieval_uncentred_r1': 'R@1, uncentred',
}
# Of these a figure of their own tells more than every figure once more.
_TOGETHER = (
  *('retrieval_r1_back', 'centroid_distance', 'norm_ratio', 'cosine_gap'),
)


def title(name: str) -> str:
  return _TITLES.get(name, name.replace('_', ' '))


def of_run(definition: Mapping[str, Any]) -> list[str]:
  """The run's measures, SVCCA, the study's own, first."""
  return sorted(definition['measures'], key=lambda name: name != 'svcca')


def drawn(definition: Mapping[str, Any]) -> list[str]:
  """Those under which every analysis draws its figure."""
  names = of_run(definition)
  return [name for name in names if name not in _TOGETHER] or names
