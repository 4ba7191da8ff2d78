"""Pooled activations on disk: written by unit, read by tap."""

from jaxrep.store.layout import Entry
from jaxrep.store.reader import Store, View, open_store
from jaxrep.store.rows import Row
from jaxrep.store.writer import Writer, create_or_open

__all__ = [
  'Entry',
  'Row',
  'Store',
  'View',
  'Writer',
  'create_or_open',
  'open_store',
]
