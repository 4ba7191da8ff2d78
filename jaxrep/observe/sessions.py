"""What a run cost: the sessions of all its processes, added up."""

import collections
import json
from collections.abc import Iterable, Mapping
from typing import Any

from absl import logging
from etils import epath

from jaxrep.observe import recorder
from jaxrep.observe.recorder import Number

_FACTS = (
  *('job', 'process', 'processes', 'started', 'ended', 'seconds'),
  *('first', 'cpu_seconds', 'host_peak_bytes', 'devices'),
)


# Of the stages of an extraction, those that are not preparation.
_RUNNING = ('device', 'wait_for_input', 'write_store')


def read(workdir: epath.PathLike) -> dict[str, Any]:
  """What `summary.json` has under `run`; nothing where nothing was recorded.

  Sums over sessions and processes, in seconds and bytes: `sessions` lists
  whose they are, and `stages_by_process` has each process' own. Of a session
  that is not `ended` that is what it had written when it was killed.
  """
  session = recorder.current()
  if session:
    session.write()
  found = [*_sessions(epath.Path(workdir) / recorder.FOLDER)]
  if not found:
    return {}
  parts = {
    kind: _added(s['parts'].get(kind, {}) for s in found)
    for kind in ('models', 'measures')
  }
  processes = sorted({s['process'] for s in found})
  of = {p: [s['stages'] for s in found if s['process'] == p] for p in processes}
  return {
    'seconds': sum(s['seconds'] for s in found),
    'stages': _sum(s['stages'] for s in found),
    'stages_by_process': {str(p): _sum(of[p]) for p in processes},
    'models': {name: _model(part) for name, part in parts['models'].items()},
    'measures': parts['measures'],
    'programs': _sum(
      {n: part.get(n, 0) for n in ('programs', 'loaded')}
      for s in found
      for kind in s['parts'].values()
      for part in kind.values()
    ),
    'sessions': [{name: s[name] for name in _FACTS} for s in found],
  }


def _sessions(folder: epath.Path) -> Iterable[dict[str, Any]]:
  """In the order of their beginnings, which are their names."""
  if not folder.exists():
    return
  for path in sorted(folder.glob('*.json'), key=lambda path: path.name):
    try:
      found = json.loads(path.read_text())
      lacking = {*_FACTS, 'stages', 'parts'}.difference(found)
      if lacking:
        raise ValueError(f'it lacks {", ".join(sorted(lacking))}')
    except (OSError, ValueError, TypeError) as error:
      logging.warning('%s cannot be read and is left out: %s', path, error)
    else:
      yield found


def _sum(counts: Iterable[Mapping[str, Number]]) -> dict[str, Number]:
  total: dict[str, Number] = collections.Counter()
  for one in counts:
    for name, value in one.items():
      total[name] += value
  return dict(total)


def _added(
  parts: Iterable[Mapping[str, Mapping[str, Number]]],
) -> dict[str, dict[str, Number]]:
  by_name: dict[str, list[Mapping[str, Number]]] = {}
  for one in parts:
    for name, quantities in one.items():
      by_name.setdefault(name, []).append(quantities)
  return {name: _sum(own) for name, own in by_name.items()}


def _model(part: Mapping[str, Number]) -> dict[str, Number | None]:
  """With the shares and rates of what was computed.

  `running_seconds` leave out weights and programs; in `starved_share` of them
  the devices waited for input, at most.
  """
  got: dict[str, Number] = collections.Counter(part)
  running = sum(got[f'{stage}_seconds'] for stage in _RUNNING)
  return {
    **part,
    **{name: got[name] for name in ('programs', 'loaded')},
    'running_seconds': running,
    'rows_per_second': _over(got['rows'], running),
    'audio_per_second': _over(got['audio_seconds'], running),
    'padding': 1 - got['used'] / got['computed'] if got['computed'] else None,
    'starved_share': _over(got['starved_seconds'], running),
  }


def _over(amount: Number, seconds: Number) -> Number | None:
  return amount / seconds if seconds > 0 else None
