"""Measures without what chance gives: the price of that is the difference."""

from jaxrep.registry import resolve
from jaxrep.similarity import MEASURES
from jaxrep.similarity.measure import Measure

_ALONE = {'paired': False, 'summary': None, 'null': None, 'law': None}


def __getattr__(name: str) -> Measure:
  """Any of `MEASURES`, named in capitals."""
  if name.lower() not in MEASURES:
    raise AttributeError(name)
  return resolve(MEASURES[name.lower()])._replace(**_ALONE)
