"""What a run cost, in words and numbers ready to print."""

import collections
from collections.abc import Mapping
from typing import Any

Number = int | float
MOST_PROCESSES = 4  # with a column each


def costs(run: Mapping[str, Any]) -> dict[str, Any]:
  """Of `run` in summary.json: a sentence and the rows of its tables."""
  if not run:
    return {}
  by_process = run['stages_by_process']
  shown = by_process if 1 < len(by_process) <= MOST_PROCESSES else {}
  sessions = run['sessions']
  return {
    'sentence': _sentence(run),
    'processes': list(shown),
    'stages': [
      (
        name,
        *(_seconds(own.get(name)) for own in (run['stages'], *shown.values())),
      )
      for name in _longest_first(run['stages'])
    ],
    'models': [(name, *_model(of)) for name, of in run['models'].items()],
    'measures': [(name, *_measure(of)) for name, of in run['measures'].items()],
    'sessions': [_session(one) for one in sessions]
    if len(sessions) > 1
    else [],
  }


def _longest_first(stages: Mapping[str, Number]) -> list[str]:
  """Those that took any time that is shown."""
  told = [name for name in stages if _seconds(stages[name]) != '0.0']
  return sorted(told, key=lambda name: -stages[name])


def _sentence(run: Mapping[str, Any]) -> str:
  sessions, programs = run['sessions'], run['programs']
  loaded = int(programs.get('loaded', 0))
  made = int(programs.get('programs', 0)) - loaded
  processor = sum(one['cpu_seconds'] for one in sessions)
  host = max(one['host_peak_bytes'] for one in sessions)
  by_process: dict[int, Number] = collections.Counter()
  for one in sessions:
    by_process[one['process']] += one['seconds']
  return (
    f'{_duration(max(by_process.values()))} before this page was written, in '
    f'{_count(len(sessions), "session")} of '
    f'{_count(len(run["stages_by_process"]), "process", "es")}, and '
    f'{_duration(processor)} of processor time. '
    f'{_count(made, "program")} compiled, {loaded} loaded from the cache. '
    f'At most {_size(host)} of host memory{_devices(sessions)}.'
  )


def _devices(sessions: list[Mapping[str, Any]]) -> str:
  """The peak of each device that tells it."""
  peaks: dict[tuple[int, str], int] = {}
  for one in sessions:
    for device in one['devices']:
      key = one['process'], f'{device["device"]} ({device["kind"]})'
      if device['peak_bytes']:
        peaks[key] = max(peaks.get(key, 0), device['peak_bytes'])
  named = [f'{_size(peak)} on {name}' for (_, name), peak in peaks.items()]
  return ''.join(f', {one}' for one in named)


def _model(of: Mapping[str, Number]) -> list[str]:
  return [
    f'{of.get("rows", 0):.0f}',
    _seconds(of.get('audio_seconds') or None),
    _rate(of['rows_per_second']),
    _rate(of['audio_per_second'] or None),
    _share(of['padding']),
    _share(of['starved_share']),
    _seconds(of.get('load_weights_seconds', 0)),
    *_programs(of),
    _seconds(of['running_seconds']),
  ]


def _measure(of: Mapping[str, Number]) -> list[str]:
  return [
    f'{of.get("scores", 0):.0f}',
    *_programs(of),
    _seconds(of.get('compare_seconds', 0)),
  ]


def _programs(of: Mapping[str, Number]) -> list[str]:
  """How many were compiled and loaded, and the seconds that both took."""
  loaded = of.get('loaded', 0)
  seconds = of.get('trace_seconds', 0) + of.get('compile_seconds', 0)
  compiled = of.get('programs', 0) - loaded
  return [f'{compiled:.0f} + {loaded:.0f}', _seconds(seconds)]


def _session(one: Mapping[str, Any]) -> list[str]:
  ended = 'ended' if one['ended'] else 'stopped'
  return [
    one['started'],
    one['job'],
    str(one['process']),
    _seconds(one['seconds']),
    ended,
  ]


def _count(number: int, what: str, plural: str = 's') -> str:
  return f'{number} {what}{"" if number == 1 else plural}'


def _duration(seconds: Number) -> str:
  if seconds < 60:
    return f'{seconds:.0f} s'
  minutes = round(seconds / 60)
  if minutes < 60:
    return f'{minutes} min'
  return f'{minutes // 60} h {minutes % 60} min'


def _seconds(value: Number | None) -> str:
  return '–' if value is None else f'{value:.1f}'


def _rate(value: Number | None) -> str:
  return (
    '–' if value is None else f'{value:.3g}' if value < 1000 else f'{value:.0f}'
  )


def _share(value: Number | None) -> str:
  return '–' if value is None else f'{value:.0%}'


def _size(count: Number) -> str:
  return f'{count / 2**30:.1f} GiB'
