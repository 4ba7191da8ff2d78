"""The calls of one measure each are `compare` by the measure's name."""

import dataclasses

import pytest

from jaxrep import similarity
from jaxrep.types import InputError
from tests.similarity import oracle

QUICK = similarity.Calibration(permutations=2, intervals=False)


@pytest.mark.parametrize(
  ('call', 'given', 'name', 'parameters'),
  [
    ('procrustes', {}, 'procrustes', {}),
    ('rsa', {}, 'rsa', {}),
    ('rsa', {'comparison': 'cosine'}, 'rsa_cosine', {}),
    ('mutual_knn', {'neighbours': 4}, 'mutual_knn', {'neighbours': 4}),
    ('pwcca', {'k': 5}, 'pwcca', {'k': 5}),
    ('pwcca', {'variance': 0.8}, 'pwcca', {'variance': 0.8}),
    ('cca', {'ridge': 0.3}, 'cca', {'ridge': 0.3}),
  ],
)
def test_a_call_is_compare_by_name(call, given, name, parameters):
  x, y = oracle.related(40, 12, 12)
  found = getattr(similarity, call)(x, y, calibration=QUICK, **given)
  expected = similarity.compare(x, y, name, QUICK, **parameters)
  assert dataclasses.asdict(found) == dataclasses.asdict(expected)


def test_another_comparison_of_rsa_is_refused():
  x, y = oracle.related(40, 12, 12)
  message = "comparison='pearson': give one of spearman, cosine"
  with pytest.raises(InputError, match=message):
    similarity.rsa(x, y, comparison='pearson')
