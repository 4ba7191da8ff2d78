"""Reads the store: per entry its ids, and one tap or all of them."""

import dataclasses
import functools
import itertools
from typing import Literal

import numpy as np
import tensorstore as ts
from jaxtyping import Float

from jaxrep.store import layout
from jaxrep.store import rows as rows_lib
from jaxrep.types import Dropped, InputError, Modality

Recordings = Literal['first', 'second', 'mean', 'all']

_ANEW = 'Delete that folder and run `run.py extract` with the same flags.'


@dataclasses.dataclass(frozen=True)
class View:
  """The rows of one entry that are of use, sorted by id; made by `Store.view`.

  `rows[i]` is where row i of every array came from; under `recordings='mean'`
  it is the first of the recordings that were averaged.
  """

  path: str
  entry: layout.Entry
  rows: tuple[rows_lib.Row, ...]
  dropped: tuple[Dropped, ...]
  recordings: Recordings
  _order: np.ndarray
  _starts: np.ndarray

  @property
  def ids(self) -> tuple[str, ...]:
    return tuple(row.id for row in self.rows)

  @property
  def taps(self) -> tuple[tuple[str, int], ...]:
    """Names and widths, in layer order."""
    return self.entry.taps

  def read(self, tap: str) -> Float[np.ndarray, 'row dim']:
    """The states of one tap in float32; reads nothing of the others."""
    for width, names in self.entry.groups.items():
      if tap in names:
        stored = self._load(width, names.index(tap))
        return self._select(stored, tap)
    known = ', '.join(name for name, _ in self.taps)
    raise InputError(
      f'{self.entry.title} has no tap {tap!r}. There are: {known}.'
    )

  def read_all(self) -> dict[str, Float[np.ndarray, 'row _']]:
    """The states of every tap in float32; reads each shard once."""
    values = {}
    for width, names in self.entry.groups.items():
      stored = self._load(width, slice(None))
      for position, name in enumerate(names):
        values[name] = self._select(stored[:, position], name)
    return {name: values[name] for name, _ in self.taps}

  def _load(self, width: int, position: int | slice) -> np.ndarray:
    spec = layout.array_spec(self.path, self.entry, width)
    with layout.failing_as(
      f'Cannot read {self.path}',
      'Delete the file named here, or that folder, and run `run.py extract`.',
    ):
      array = ts.open(spec, open=True, read=True).result()
      return array[:, position].read().result()

  def _select(
    self, stored: Float[np.ndarray, 'stored dim'], tap: str
  ) -> Float[np.ndarray, 'row dim']:
    if self.recordings == 'mean':
      values = stored[self._order].astype(np.float64)
      counts = np.diff(self._starts, append=len(self._order))
      values = np.add.reduceat(values, self._starts) / counts[:, None]
    else:
      values = stored[self._order]
    if not np.isfinite(values).all():
      raise InputError(
        f'{self.path} lacks values of {tap}: a file of it was changed or '
        f'removed. {_ANEW}'
      )
    return values.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Store:
  """All entries below a workdir; made by `open_store`."""

  workdir: str

  @functools.cached_property
  def _files(self) -> ts.KvStore:
    return layout.open_files(layout.folder(self.workdir))

  def entries(self) -> tuple[layout.Entry, ...]:
    """What the store holds, complete or not, by model, modality, language."""
    keys = sorted(key.decode() for key in self._files.list().result())
    return tuple(
      self._entry(key) for key in keys if key.endswith('/entry.json')
    )

  def view(
    self,
    model: str,
    modality: Modality,
    language: str,
    *,
    recordings: Recordings = 'first',
    allow_incomplete: bool = False,
  ) -> View:
    """Opens one entry for reading; reads no array yet.

    Args:
      model: Names the entry, with `modality` and `language`.
      modality: 'text' or 'speech'.
      language: ISO 639-3.
      recordings: Where an id has several recordings: 'first' keeps the first
        that was not dropped, 'second' the next one, and no id that has none,
        'mean' averages them (in float64), 'all' keeps each as a row of its
        own, sorted by id and number of the recording.
      allow_incomplete: Leaves out the units that are still to be done, where
        otherwise there is an error.

    Raises:
      InputError: There is no such entry, or it is not complete.
    """
    path = layout.folder(self.workdir, model, modality, language)
    entry = self._entry(f'{model}/{modality}/{language}/entry.json')
    files = layout.open_files(path)
    remaining = layout.remaining_units(files, entry)
    if remaining and not allow_incomplete:
      raise InputError(
        f'{path} is not complete: {len(remaining)} of {entry.units} units '
        'remain. Run `run.py extract` with the same flags; it goes on where '
        'it stopped.'
      )
    with layout.failing_as(f'Cannot read {path}rows.parquet', _ANEW):
      rows = rows_lib.decode(files.read('rows.parquet').result().value)
      if rows_lib.digest(rows) != entry.rows_sha256:
        raise ValueError('its rows are not those that the states are of')
    return _view(path, entry, files, rows, set(remaining), recordings)

  def _entry(self, name: str) -> layout.Entry:
    path = layout.folder(self.workdir)
    found = self._files.read(name).result()
    if found.state == 'missing':
      there = ', '.join(entry.title for entry in self.entries()) or 'nothing'
      raise InputError(
        f'{path}{name} does not exist: run `run.py extract` with that model '
        f'and language. There is: {there}.'
      )
    return layout.entry_from_json(found.value, path + name)


def open_store(workdir: str) -> Store:
  """The store of a workdir, which may still be empty."""
  return Store(workdir)


def _view(
  path: str,
  entry: layout.Entry,
  files: ts.KvStore,
  rows: tuple[rows_lib.Row, ...],
  remaining: set[int],
  recordings: Recordings,
) -> View:
  units = [unit for unit in range(entry.units) if unit not in remaining]
  reasons = {}
  for unit in units:
    reasons |= layout.read_dropped(files, entry, unit)
  there = itertools.chain.from_iterable(map(entry.unit_rows, units))
  order = sorted(
    (row for row in there if row not in reasons),
    key=lambda row: (rows[row].id, rows[row].recording),
  )
  ids = [rows[row].id for row in order]
  starts = [i for i in range(len(ids)) if i == 0 or ids[i] != ids[i - 1]]
  firsts = [order[i] for i in starts]
  seconds = [order[i + 1] for i in starts if ids[i + 1 : i + 2] == [ids[i]]]
  dropped = tuple(
    Dropped(entry.language, entry.modality, rows[row].id, reason)
    for row, reason in sorted(reasons.items())
  )
  kept = {'all': order, 'second': seconds}.get(recordings, firsts)
  used = order if recordings == 'mean' else kept
  return View(
    path,
    entry,
    tuple(rows[row] for row in kept),
    dropped,
    recordings,
    np.array(used, int),
    np.array(starts, int),
  )
