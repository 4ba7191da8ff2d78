"""Pooled activations on disk: written by unit, read by tap."""

from jaxrep.store.layout import Entry
from jaxrep.store.opening import create_or_open
from jaxrep.store.reader import Store, View, open_store
from jaxrep.store.rows import Row
from jaxrep.store.writer import Writer

__all__ = [
  'Entry',
  'Row',
  'Store',
  'View',
  'Writer',
  'create_or_open',
  'open_store',
]
