"""Entries with known values, and a program that writes one: see `main`."""

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrep import store

NAME = ('tiny', 'speech', 'eng')
TAPS = (('embed', 6), ('layer_01', 6), ('layer_02', 6), ('adaptor', 10))


def rows(count: int) -> list[store.Row]:
  return [
    store.Row(
      id=f's{i:03d}',
      language='eng',
      text=f'sentence {i}',
      speaker='a',
      split='test',
      samples=1000 * i,
      length=1000 * i,
    )
    for i in range(count)
  ]


def create(
  workdir: Any,
  some_rows: Sequence[store.Row],
  *,
  definition: Any = None,
  taps: Sequence[tuple[str, int]] = TAPS,
  unit_size: int = 4,
  dtype: Any = 'float32',
) -> store.Writer:
  return store.create_or_open(
    str(workdir),
    *NAME,
    definition=definition or {},
    rows=some_rows,
    taps=taps,
    unit_size=unit_size,
    dtype=dtype,
  )


def values(writer: store.Writer, unit: int) -> dict[str, np.ndarray]:
  """Whole numbers below 2048 that differ between rows, taps and columns."""
  index = np.array(writer.entry.unit_rows(unit))
  return {
    name: np.float32(
      (index[:, None] * 31 + position * 7 + np.arange(dim)) % 251
    )
    for position, (name, dim) in enumerate(writer.entry.taps)
  }


def write(writer: store.Writer, dropped: dict[int, str] | None = None) -> None:
  """Writes all that remains and finishes."""
  for unit in writer.remaining_units():
    here = set(writer.entry.unit_rows(unit)) & (dropped or {}).keys()
    writer.write_unit(
      unit, values(writer, unit), {row: dropped[row] for row in here}
    )
  assert writer.finish()


def folder(workdir: Any) -> pathlib.Path:
  return pathlib.Path(workdir, 'store', *NAME)


def contents(workdir: Any) -> dict[str, bytes]:
  """Path → bytes of every file below the workdir."""
  return {
    str(path.relative_to(workdir)): path.read_bytes()
    for path in pathlib.Path(workdir).rglob('*')
    if path.is_file()
  }


UNITS = 100
WIDE = (('embed', 512), ('layer_01', 512), ('adaptor', 256))


def main(workdir: str, part: str = '0', parts: str = '1') -> None:
  """Writes each `parts`-th unit of a larger entry, one for a line of stdin.

  Says when a unit is done. Row 9 and all rows of unit 5 are dropped.
  """
  print('started', flush=True)
  writer = create(workdir, rows(8 * UNITS), taps=WIDE, unit_size=8)
  for unit in writer.remaining_units():
    if unit % int(parts) != int(part):
      continue
    sys.stdin.readline()  # does not wait where stdin has ended
    everything = writer.entry.unit_rows(unit)
    gone = [row for row in everything if unit == 5 or row == 9]
    writer.write_unit(
      unit, values(writer, unit), {row: 'silent' for row in gone}
    )
    print('done', flush=True)
  writer.finish()


if __name__ == '__main__':
  main(*sys.argv[1:])
