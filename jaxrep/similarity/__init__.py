"""How alike two representations of the same sentences are.

`svcca(x, y)` and `cka(x, y)` compare one pair, `all_pairs({name: x})` makes a
map; `score_pairs` is the form that the jobs use. Each number comes with its
floor: what the measure gives when the sentences are paired at random. Nothing
here imports jax before it is asked for.
"""

from typing import Any

from jaxrep.registry import resolve

# A new measure is one row here and one file.
MEASURES = {
  'svcca': 'jaxrep.similarity.canonical:SVCCA',
  'cka': 'jaxrep.similarity.alignment:CKA',
  'cka_debiased': 'jaxrep.similarity.alignment:DEBIASED_CKA',
}

# No file of this package may have the name of a function: importing it would
# put the module in the function's place.
_PUBLIC = {
  'Parameters': 'jaxrep.similarity.measure:Parameters',
  'all_pairs': 'jaxrep.similarity.pairs:all_pairs',
  'cka': 'jaxrep.similarity.pairs:cka',
  'score_pairs': 'jaxrep.similarity.pairs:score_pairs',
  'svcca': 'jaxrep.similarity.pairs:svcca',
}


def __getattr__(name: str) -> Any:
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return resolve(_PUBLIC[name])


def __dir__() -> list[str]:
  return ['MEASURES', *_PUBLIC]
