"""Means over cells, which say what they leave out."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from jaxrep.report import tables

_COUNTED = (('n', pa.int64()), ('k', pa.int64()))


def mean_cells(cells: pa.Table, keys: Sequence[str]) -> pa.Table:
  """Means of value, floor and calibrated over the cells that share `keys`.

  Null cells do not enter a mean: `used` counts the defined values and
  `used_calibrated` the defined calibrated ones. The ranges `n_min` … `k_max`
  are those of defined cells. Where no cell is defined the means are null.
  `ceiling` is a mean where every defined cell has one; `ci_low`, `ci_high`, `p`
  and `q` are those of the only defined cell, and null where there are several.
  """
  defined = pc.is_valid(cells['value'])
  for name, kind in (*_COUNTED, ('ceiling', pa.float64())):
    column = pc.if_else(defined, cells[name], pa.scalar(None, kind)).cast(kind)
    cells = _replaced(cells, name, column)
  grouped = cells.group_by(list(keys), use_threads=False).aggregate(
    [(name, 'mean') for name in (*tables.STATISTICS, 'ceiling')]
    + [(name, 'count') for name in ('value', 'calibrated', 'ceiling')]
    + [(name, end) for name, _ in _COUNTED for end in ('min', 'max')]
    + [(name, 'max') for name in tables.OF_ONE_CELL]
  )
  renamed = {f'{name}_mean': name for name in (*tables.STATISTICS, 'ceiling')}
  renamed |= {f'{name}_max': name for name in tables.OF_ONE_CELL}
  renamed |= {'value_count': 'used', 'calibrated_count': 'used_calibrated'}
  return _without_inventions(
    grouped.rename_columns(
      [renamed.get(name, name) for name in grouped.column_names]
    )
  )


def _without_inventions(means: pa.Table) -> pa.Table:
  """Nulls for what the cells behind a mean do not give."""
  all_have = pc.equal(means['ceiling_count'], means['used'])
  alone = pc.equal(means['used'], 1)
  for name in ('ceiling', *tables.OF_ONE_CELL):
    kept = alone if name in tables.OF_ONE_CELL else all_have
    column = pc.if_else(kept, means[name], pa.scalar(None, pa.float64()))
    means = _replaced(means, name, column)
  return means.drop_columns('ceiling_count')


def _replaced(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
  return table.set_column(table.schema.get_field_index(name), name, column)
