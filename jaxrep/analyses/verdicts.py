"""What the `findings` job has found, as the report shows it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging
from etils import epath

from jaxrep.findings import FINDINGS
from jaxrep.report.verdicts import Verdict
from jaxrep.types import InputError

FILES = {'findings': 'findings.parquet', 'by_n': 'findings_by_n.parquet'}
TESTED_ON = b'tested_on'  # in the files' metadata
_ON = (
  *('corpus', 'models', 'sentences', 'compared_languages', 'recordings'),
  *('ceiling', 'resource_classes', 'resource_hours'),
)
_SAME = (
  *('finding', 'model', 'measure', 'value', 'ci_low', 'ci_high', 'p'),
  *('calibrated', 'calibrated_low', 'calibrated_high', 'calibrated_p'),
  *('n', 'languages', 'verdict'),
)

_COLUMNS = (*_SAME, 'k_min', 'k_max', 'note', 'calibrated_effect')


def tested_on(definition: Mapping[str, Any]) -> bytes:
  """A name for what of a run its findings depend on."""
  part = {name: definition.get(name) for name in _ON}
  return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).digest()


def read(
  workdir: epath.PathLike, definition: Mapping[str, Any]
) -> tuple[Verdict, ...]:
  """The verdicts of a working folder, none before the job has run."""
  return tuple(verdict(row) for row in rows(workdir, 'findings', definition))


def rows(
  workdir: epath.PathLike, name: str, definition: Mapping[str, Any]
) -> list[dict[str, Any]]:
  """The rows of one of `FILES`; none if it is not there, or of another run.

  Raises:
    InputError: it cannot be read, or has findings that are not known.
  """
  path = epath.Path(workdir) / FILES[name]
  if not path.exists():
    return []
  again = f'run `python run.py findings --workdir={workdir}` again.'
  try:
    with path.open('rb') as file:
      table = pq.read_table(file, page_checksum_verification=True)
      found = table.to_pylist()
  except (pa.ArrowException, OSError, ValueError) as error:
    raise InputError(f'{path} cannot be read ({error}): {again}') from error
  told = (table.schema.metadata or {}).get(TESTED_ON)
  if told not in (None, tested_on(definition)):
    logging.warning('%s was tested on another comparison: %s', path, again)
    return []
  missing = [name for name in _COLUMNS if name not in table.column_names]
  if missing:
    raise InputError(f'{path} lacks the columns {", ".join(missing)}: {again}')
  unknown = {str(row['finding']) for row in found} - set(FINDINGS)
  if unknown:
    raise InputError(
      f'{path} has findings of another version ({", ".join(sorted(unknown))}): '
      + again
    )
  return found


def verdict(row: dict[str, Any]) -> Verdict:
  """A row with what its finding claims; `effect` is the calibrated one."""
  finding = FINDINGS[row['finding']]
  low, high = row['k_min'], row['k_max']
  notes = [row['note']] if row['note'] else []
  if low != high:
    notes.append(f'raw: k from {low} to {high}')
  return Verdict(
    claim=finding.claim,
    statistic=finding.meaning,
    effect=row['calibrated_effect'],
    k=low if low == high else None,
    note='; '.join(notes),
    **{name: row[name] for name in _SAME},
  )
