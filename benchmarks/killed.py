"""What has to be true of a run's folder after a kill, and at last."""

import io
import json
import pathlib
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jaxrep import store
from tests.cluster import Workers

MEASURES = '--measures=svcca,svcca_heldout,cka,cka_debiased'

Snapshot = dict[str, tuple[int, int]]


def shards(folder: pathlib.Path) -> Snapshot:
  return _snapshot(folder, 'store/**/dim*/c/**/*')


def tiles(folder: pathlib.Path) -> Snapshot:
  return _snapshot(folder, 'scores_parts/*.npz')


def _snapshot(folder: pathlib.Path, pattern: str) -> Snapshot:
  """Finished files: which file it is, and when it was written."""
  found = {}
  for path in folder.glob(pattern):
    try:
      state = path.stat()
    except FileNotFoundError:  # it had another name a moment ago
      continue
    if path.is_file() and not path.name.endswith('.__lock'):
      name = str(path.relative_to(folder))
      found[name] = (state.st_ino, state.st_mtime_ns)
  return found


def check_whole(folder: pathlib.Path) -> None:
  """Every file that is there can be read, and no finished unit has holes."""
  if (folder / 'store').exists():
    opened = store.open_store(str(folder))
    for entry in opened.entries():
      part = folder / 'store' / entry.model / entry.modality / entry.language
      if not (part / 'rows.parquet').exists():
        continue  # killed between the first two files
      if not all((part / f'dim{w}/zarr.json').exists() for w in entry.groups):
        continue
      view = opened.view(
        entry.model, entry.modality, entry.language, allow_incomplete=True
      )
      if view.ids:
        for tap, _ in entry.taps:
          assert np.isfinite(view.read(tap)).all(), (entry.title, tap)
  for tile in folder.glob('scores_parts/*.npz'):
    with np.load(io.BytesIO(tile.read_bytes())) as arrays:
      assert len(dict(arrays)) > 3, tile
  for name in ('plan.json', 'summary.json'):
    if (folder / name).exists():
      json.loads((folder / name).read_text())
  if (folder / 'scores.parquet').exists():
    pq.read_table(folder / 'scores.parquet')
  if (folder / 'report.html').exists():
    assert (folder / 'report.html').read_text().rstrip().endswith('</html>')


def check_kept(before: Snapshot, after: Snapshot) -> None:
  """What was finished is the same file, written at the same moment."""
  again = [name for name, state in before.items() if after.get(name) != state]
  assert not again, f'done again or lost: {again}'


def same_store(folder: pathlib.Path, whole: pathlib.Path) -> bool:
  ours, theirs = (
    {
      path.relative_to(one): path.read_bytes()
      for path in (one / 'store').rglob('*')
      if path.is_file()
    }
    for one in (folder, whole)
  )
  return ours == theirs


def largest_difference(folder: pathlib.Path, whole: pathlib.Path) -> float:
  """Of values and floors; 0 if the files are the same to the byte."""
  paths = [one / 'scores.parquet' for one in (folder, whole)]
  if paths[0].read_bytes() == paths[1].read_bytes():
    return 0.0
  ours, theirs = map(pq.read_table, paths)
  worst = 0.0
  for field in theirs.schema:
    if field.name in ('value', 'floor'):
      x, y = (
        np.array(one[field.name].to_pylist(), float) for one in (ours, theirs)
      )
      assert (np.isnan(x) == np.isnan(y)).all(), field.name
      worst = max(worst, float(np.nanmax(np.abs(x - y))))
    elif field.type != pa.float64():
      assert ours[field.name].equals(theirs[field.name]), field.name
  return worst


def message_of(workers: Workers, victim: int) -> bool:
  """Whether every other process said why it ended."""
  words = (
    'died: no sign of life',
    'another task died',
    'was stopped by SIGTERM',
    'Stopped by SIGTERM',
    'failed; what it printed says why',
  )
  said = [workers.said(one) for one in words]
  return all(
    any(one[i] for one in said)
    for i in range(len(workers.processes))
    if i != victim
  )


def signal_name(number: int) -> str:
  return signal.Signals(number).name
