"""Tables whose rows name their code as 'module:attribute'.

A row is data: nothing is imported until it is resolved.
"""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any, TypeVar

from jaxrep.types import InputError

Row = TypeVar('Row')


def resolve(target: str) -> Any:
  """Imports what 'module:attribute' names."""
  module, _, attribute = target.partition(':')
  return getattr(importlib.import_module(module), attribute)


def lookup(table: Mapping[str, Row], name: str, kind: str) -> Row:
  """The row of a table, or an error that lists what there is."""
  if name in table:
    return table[name]
  near = difflib.get_close_matches(name, table, n=1)
  hint = f' Did you mean {near[0]}?' if near else ''
  raise InputError(
    f'Unknown {kind} {name!r}.{hint} There are: {", ".join(table)}.'
  )
