"""Opens an entry of the store for writing, or makes it.

A folder belongs to the definition that was there first, since its writer may be
at work. Recordings that are still to be read may change.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import tensorstore as ts

from jaxrep.store import layout
from jaxrep.store import rows as rows_lib
from jaxrep.store.writer import Writer
from jaxrep.types import InputError, Modality

_OPEN = (
  'Make room, grant access, or delete that folder, then run the same command '
  'again.'
)


def create_or_open(
  workdir: str,
  model: str,
  modality: Modality,
  language: str,
  *,
  definition: dict[str, Any],
  rows: Sequence[rows_lib.Row],
  taps: Sequence[tuple[str, int]],
  unit_size: int,
  dtype: layout.Dtype = 'float32',
) -> Writer:
  """Opens an entry for writing, and makes it where it does not exist.

  Several processes may do this at once. Unit `u` is the rows
  `[u * unit_size, (u + 1) * unit_size)` of `rows`.

  Args:
    workdir: A local folder or a URL such as gs://bucket/run1.
    model: Names the entry, with `modality` and `language`.
    modality: 'text' or 'speech'.
    language: ISO 639-3.
    definition: Whatever else makes the data what they are, as JSON.
    rows: The examples in store order.
    taps: Names and widths in layer order.
    unit_size: Rows of a unit; the last unit may have fewer.
    dtype: 'bfloat16' can be read by tensorstore only.

  Raises:
    InputError: The folder holds data of another definition, or cannot be
      written.
  """
  _check_rows(rows, f'{model} {modality} {language}')
  entry = layout.Entry(
    model=model,
    modality=modality,
    language=language,
    definition=definition,
    taps=tuple(taps),
    rows=len(rows),
    rows_sha256=rows_lib.digest(rows),
    unit_size=min(unit_size, len(rows)),
    dtype=dtype,
  )
  path = layout.folder(workdir, model, modality, language)
  files = layout.open_files(path)
  with layout.failing_as(f'Cannot write to {path}', _OPEN):
    _create(layout.open_files(path, 'os'), 'entry.json', entry.to_json())
  _check_same(files, entry, path)
  with layout.failing_as(f'Cannot write to {path}', _OPEN):
    _create(files, 'rows.parquet', rows_lib.encode(rows))
  _check_recordings(files, entry, rows, path)
  with layout.failing_as(f'Cannot write to {path}', _OPEN):
    arrays = {
      width: ts.open(
        layout.array_spec(path, entry, width), open=True, create=True
      ).result()
      for width in entry.groups
    }
  return Writer(path, entry, tuple(rows), files, arrays)


def _check_rows(rows: Sequence[rows_lib.Row], title: str) -> None:
  if not rows:
    raise InputError(f'{title}: there is no example to store.')
  seen = set()
  for row in rows:
    if (row.id, row.recording) in seen:
      raise InputError(
        f'{title}: id {row.id!r} has two recordings numbered {row.recording}; '
        'ids must be unique within a language.'
      )
    seen.add((row.id, row.recording))


def _create(files: ts.KvStore, name: str, data: bytes) -> None:
  """Writes a file unless there is one; the first of several writers wins."""
  found = files.read(name).result()
  if found.state == 'missing':
    files.write(name, data, if_equal=found.stamp.generation).result()


def _check_same(files: ts.KvStore, entry: layout.Entry, path: str) -> None:
  data = files.read('entry.json').result().value
  found = layout.entry_from_json(data, f'{path}entry.json')
  if found.key == entry.key:
    return
  old, new = _flat(found.fields()), _flat(entry.fields())
  changes = [
    f'{name}: {_short(old.get(name))} → {_short(new.get(name))}'
    for name in sorted(old.keys() | new.keys())
    if old.get(name) != new.get(name)
  ]
  raise InputError(
    f'{path} holds data of another definition ({"; ".join(changes)}). Use '
    'another --workdir, or delete that folder to compute it anew.'
  )


def _check_recordings(
  files: ts.KvStore,
  entry: layout.Entry,
  rows: Sequence[rows_lib.Row],
  path: str,
) -> None:
  """Takes over what was changed of recordings that are still to be read.

  Rows that cannot be read are written again, since they are known.

  Raises:
    InputError: One that was extracted is another one now.
  """
  try:
    stored = rows_lib.decode(files.read('rows.parquet').result().value)
  except ValueError:
    stored = ()
  if stored == tuple(rows):
    return
  pairs = enumerate(zip(stored, rows, strict=False))
  changed = [i for i, (old, new) in pairs if old.checksum != new.checksum]
  units = {i // entry.unit_size for i in changed}
  done = units - set(layout.remaining_units(files, entry))
  unread = {
    row for unit in done for row in layout.read_dropped(files, entry, unit)
  }
  for i in changed:
    if i // entry.unit_size in done and i not in unread:
      raise InputError(
        f'{path} holds what another recording of id {rows[i].id!r} gave: its '
        'file was changed. Use another --workdir, or delete that folder to '
        'compute it anew.'
      )
  with layout.failing_as(f'Cannot write to {path}', _OPEN):
    files.write('rows.parquet', rows_lib.encode(rows)).result()


def _flat(value: Any, name: str = '') -> dict[str, Any]:
  """Nested dicts as one, under names such as definition.checkpoint."""
  if not isinstance(value, dict):
    return {name: value}
  flat = {}
  for key, inner in value.items():
    flat |= _flat(inner, f'{name}.{key}' if name else key)
  return flat


def _short(value: Any, most: int = 40) -> str:
  """The value's JSON; where it is long, its start and a hash of it all."""
  text = json.dumps(value, ensure_ascii=False)
  if len(text) <= most:
    return text
  mark = hashlib.sha256(text.encode()).hexdigest()[:8]
  return f'{text[: most - 12]}… (hash {mark})'
