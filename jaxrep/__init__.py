"""How speech-and-text models represent the same sentence.

`load_encoder` gives one model's encoder, `similarity` compares what it gives.
Both are imported when first used, so that importing jaxrep costs nothing.
"""

import importlib
from typing import Any

__version__ = '0.1.0'


def __getattr__(name: str) -> Any:
  if name == 'load_encoder':
    return importlib.import_module('jaxrep.encoder').load_encoder
  if name in ('similarity', 'stats'):
    return importlib.import_module(f'jaxrep.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
