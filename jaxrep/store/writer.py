"""Writes an entry of the store, unit by unit, by any number of processes.

Nothing is locked and nothing is recorded beside the data: a unit is done when
its shards exist. A writer that is killed leaves whole shards or none, so the
next one asks `remaining_units` and goes on.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorstore as ts

from jaxrep.store import layout
from jaxrep.store import rows as rows_lib
from jaxrep.types import InputError

_LAST = 'complete.json'
_RESUME = (
  'What was written before stays usable: make room or grant access, then run '
  'the same command again.'
)


@dataclasses.dataclass(frozen=True)
class Writer:
  """One entry, open for writing; made by `create_or_open`."""

  path: str
  entry: layout.Entry
  rows: tuple[rows_lib.Row, ...]
  files: ts.KvStore
  arrays: dict[int, ts.TensorStore]

  def remaining_units(self) -> list[int]:
    """The units that no process has finished yet."""
    return layout.remaining_units(self.files, self.entry)

  def write_unit(
    self,
    unit: int,
    values: Mapping[str, np.ndarray],
    dropped: Mapping[int, str] | None = None,
  ) -> None:
    """Writes a unit's shards, each whole.

    Args:
      unit: Which unit; its rows are `entry.unit_rows(unit)`.
      values: Tap → [rows of the unit, width]. What the dropped rows hold does
        not matter.
      dropped: Row index within the entry → why it has no values.

    Raises:
      InputError: A value is not finite, or the shards cannot be written.
    """
    dropped = dropped or {}
    rows = self.entry.unit_rows(unit)
    if values.keys() != dict(self.entry.taps).keys():
      raise ValueError(f'{self.entry.title} has other taps: {[*values]}.')
    if not dropped.keys() <= set(rows):
      raise ValueError(f'Unit {unit} holds only the rows {rows}: {dropped}.')
    shards = {
      width: self._shard(rows, names, width, values, dropped)
      for width, names in self.entry.groups.items()
    }
    with layout.failing_as(f'Cannot write to {self.path}', _RESUME):
      self._write_dropped(unit, dropped)
      for width, shard in shards.items():
        with ts.Transaction() as transaction:
          array = self.arrays[width].with_transaction(transaction)
          array[rows.start : rows.stop] = shard

  def finish(self) -> bool:
    """Marks the entry as complete if no unit remains; whether it did."""
    if self.remaining_units():
      return False
    if self.files.read('complete.json').result().state != 'missing':
      return True
    _sweep(self.path)
    dropped = sum(
      len(layout.read_dropped(self.files, self.entry, unit))
      for unit in range(self.entry.units)
    )
    summary = {'key': self.entry.key, 'rows': len(self.rows)}
    with layout.failing_as(f'Cannot write to {self.path}', _RESUME):
      data = json.dumps({**summary, 'dropped': dropped})
      self.files.write(_LAST, data).result()
    return True

  def _shard(
    self,
    rows: range,
    names: Sequence[str],
    width: int,
    values: Mapping[str, np.ndarray],
    dropped: Mapping[int, str],
  ) -> np.ndarray:
    dtype = self.arrays[width].dtype.numpy_dtype
    shard = np.empty((len(rows), len(names), width), dtype)
    gone = [row - rows.start for row in dropped]
    for position, name in enumerate(names):
      if values[name].shape != (len(rows), width):
        raise ValueError(
          f'{name} of {len(rows)} rows has shape {values[name].shape}.'
        )
      with np.errstate(over='ignore'):  # found by the check of finite values
        shard[:, position] = values[name]
    shard[gone] = np.nan
    self._check_finite(rows, names, shard, gone)
    return shard

  def _check_finite(
    self,
    rows: range,
    names: Sequence[str],
    shard: np.ndarray,
    gone: Sequence[int],
  ) -> None:
    bad = ~np.isfinite(shard).all(-1)
    bad[gone] = False
    if not bad.any():
      return
    local, position = np.argwhere(bad)[0]
    row = self.rows[rows.start + local]
    raise InputError(
      f'{self.entry.title}: the states of {names[position]} for id {row.id!r} '
      f'(recording {row.recording}) are not finite in {self.entry.dtype}. '
      'Compute or store in float32, or drop that example.'
    )

  def _write_dropped(self, unit: int, dropped: Mapping[int, str]) -> None:
    """Comes before the shards, so that a done unit never lacks its reasons."""
    data = json.dumps({str(row): dropped[row] for row in sorted(dropped)})
    name = layout.dropped_name(unit)
    # Deletes what an earlier, killed attempt may have dropped.
    self.files.write(name, data if dropped else None).result()


def _sweep(path: str) -> None:
  """Removes what killed writers left; live ones only write the last file."""
  if '://' in path:
    return
  for left in pathlib.Path(path).rglob('*.__lock'):
    if not left.name.startswith(_LAST):
      left.unlink(missing_ok=True)
