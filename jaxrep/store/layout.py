"""Where the parts of the activation store lie, and how they are opened.

An entry holds the pooled states of one model for one language and modality, in
`<workdir>/store/<model>/<modality>/<language>/`:

    entry.json            what made the data, and its hash; written first
    rows.parquet          one row an example, in the order of the arrays
    dim<d>/               zarr3 array [rows, taps of width d, d]
    dropped/<unit>.json   row → reason; only where there is some
    complete.json         written last

One shard of an array is one unit of work: `unit_size` rows of all its taps. It
is written whole and once, so the list of shards is the progress of the job.
Within a shard each tap is a chunk of its own: reading one tap reads no other.
float32 and float16 arrays open with any zarr3 library; bfloat16 is an extension
that only tensorstore reads. Values never written, and rows dropped, are NaN.

A workdir is a local path or a URL that tensorstore knows (gs://bucket/run1).
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from typing import Any, Literal

import tensorstore as ts

from jaxrep.types import InputError, Modality

FORMAT = 2

Dtype = Literal['float32', 'float16', 'bfloat16']
Locking = Literal['none', 'os']
_DAMAGED = (ValueError, TypeError, RecursionError)


@dataclasses.dataclass(frozen=True)
class Entry:
  """What an entry's data are and what made them.

  `definition` is the caller's: anything of JSON that, if it changed, would
  change the data. `taps` are (name, width) in layer order.
  """

  model: str
  modality: Modality
  language: str
  definition: dict[str, Any]
  taps: tuple[tuple[str, int], ...]
  rows: int
  rows_sha256: str
  unit_size: int
  dtype: Dtype

  @property
  def key(self) -> str:
    """SHA-256 of the whole definition."""
    return hashlib.sha256(_canonical(self.fields()).encode()).hexdigest()

  @property
  def units(self) -> int:
    return math.ceil(self.rows / self.unit_size)

  @property
  def groups(self) -> dict[int, tuple[str, ...]]:
    """Width → names of the taps of that width, in layer order."""
    widths = sorted({dim for _, dim in self.taps})
    return {
      width: tuple(name for name, dim in self.taps if dim == width)
      for width in widths
    }

  @property
  def title(self) -> str:
    return f'{self.model} {self.modality} {self.language}'

  def unit_rows(self, unit: int) -> range:
    """The rows of a unit, as indices into the entry."""
    if not 0 <= unit < self.units:
      raise ValueError(f'{self.title} has units 0 to {self.units - 1}: {unit}.')
    start = unit * self.unit_size
    return range(start, min(start + self.unit_size, self.rows))

  def fields(self) -> dict[str, Any]:
    """Everything that the key covers, as JSON holds it."""
    fields = {'format': FORMAT, **dataclasses.asdict(self)}
    return json.loads(_canonical(fields))

  def to_json(self) -> bytes:
    return json.dumps({**self.fields(), 'key': self.key}, indent=2).encode()


def entry_from_json(data: bytes, path: str) -> Entry:
  """Reads `entry.json`; `path` is for the message where it is not readable."""
  try:
    fields = json.loads(data)
    key, version = fields.pop('key'), fields.pop('format')
    fields['taps'] = tuple((name, dim) for name, dim in fields['taps'])
    entry = Entry(**fields)
    whole = version == FORMAT and key == entry.key
  except (*_DAMAGED, KeyError, AttributeError) as error:
    raise InputError(
      f'{path} cannot be read ({error}): delete its folder and run again.'
    ) from error
  if not whole:
    raise InputError(
      f'{path} was edited, or written by another version of jaxrep: use '
      'another --workdir, or delete that folder to compute it anew.'
    )
  return entry


def folder(workdir: str, *parts: str) -> str:
  """The path or URL of `<workdir>/store/<parts>/`, with the slash."""
  for part in parts:
    if part in ('', '.', '..') or '/' in part:
      raise ValueError(f'{part!r} cannot be the name of a folder.')
  root = workdir if '://' in workdir else os.path.abspath(workdir)
  return '/'.join((root.rstrip('/'), 'store', *parts, ''))


def kvstore(path: str, locking: Locking = 'none') -> str | dict[str, Any]:
  """The tensorstore spec of a folder given as a path or a URL.

  Without locks a file is written under a name of its own and then renamed. With
  them all writers share one temporary file, which is what a conditional write
  needs; but what a killed writer left in it stays behind a shorter text.
  """
  if '://' in path:
    return path
  return {'driver': 'file', 'path': path, 'file_io_locking': {'mode': locking}}


def open_files(path: str, locking: Locking = 'none') -> ts.KvStore:
  return ts.KvStore.open(kvstore(path, locking)).result()


def array_name(width: int) -> str:
  return f'dim{width}'


def array_spec(path: str, entry: Entry, width: int) -> dict[str, Any]:
  """The zarr3 array of all taps of one width."""
  taps = entry.groups[width]
  checked = [
    {'name': 'bytes', 'configuration': {'endian': 'little'}},
    {'name': 'crc32c'},
  ]
  sharding = {
    'chunk_shape': [entry.unit_size, 1, width],
    'codecs': checked,
    'index_codecs': checked,
  }
  shard = {'chunk_shape': [entry.unit_size, len(taps), width]}
  metadata = {
    'shape': [entry.rows, len(taps), width],
    'data_type': entry.dtype,
    'fill_value': 'NaN',
    'dimension_names': ['row', 'tap', 'dim'],
    'chunk_grid': {'name': 'regular', 'configuration': shard},
    'codecs': [{'name': 'sharding_indexed', 'configuration': sharding}],
    'attributes': {
      'model': entry.model,
      'modality': entry.modality,
      'language': entry.language,
      'taps': list(taps),
      'key': entry.key,
    },
  }
  return {
    'driver': 'zarr3',
    'kvstore': kvstore(f'{path}{array_name(width)}/'),
    'metadata': metadata,
  }


def dropped_name(unit: int) -> str:
  return f'dropped/{unit}.json'


def read_dropped(files: ts.KvStore, entry: Entry, unit: int) -> dict[int, str]:
  """Row index → reason of a unit's dropped rows; none if there is no file.

  Raises:
    InputError: The file is damaged.
  """
  found = files.read(dropped_name(unit)).result()
  if found.state == 'missing':
    return {}
  try:
    reasons = json.loads(found.value)
    rows = {int(row): str(reason) for row, reason in reasons.items()}
    if rows.keys() <= set(entry.unit_rows(unit)):
      return rows
    why = 'it names rows of another unit'
  except (*_DAMAGED, AttributeError) as error:
    why = str(error)
  raise InputError(
    f'{files.url}{dropped_name(unit)} cannot be read ({why}): delete its '
    'folder and run again.'
  )


def remaining_units(files: ts.KvStore, entry: Entry) -> list[int]:
  """The units of which a shard is still to be written."""
  keys = {key.decode() for key in files.list().result()}
  missing = [
    unit
    for unit in range(entry.units)
    if not keys.issuperset(
      f'{array_name(width)}/c/{unit}/0/0' for width in entry.groups
    )
  ]
  # A shard of nothing but the fill value is never stored.
  return [
    unit
    for unit in missing
    if dropped_name(unit) not in keys
    or len(read_dropped(files, entry, unit)) < len(entry.unit_rows(unit))
  ]


@contextlib.contextmanager
def failing_as(what: str, remedy: str) -> Iterator[None]:
  """Turns tensorstore's error into one that says what to do."""
  try:
    yield
  except (ValueError, RuntimeError, OSError) as error:
    raise InputError(f'{what}: {reason(error)}. {remedy}') from error


def reason(error: Exception) -> str:
  """What went wrong, in a line: of tensorstore's error, the system's words."""
  text = str(error)
  code = re.search(r"\[os_error_code='(\d+)'", text)
  path = re.search(r'"(/[^"]+)"', text)
  if code and path:
    return f'{os.strerror(int(code[1]))} ({path[1]})'
  # Then follows the array's spec.
  return text.partition(' [')[0].partition('\n')[0]


def _canonical(value: Any) -> str:
  return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
