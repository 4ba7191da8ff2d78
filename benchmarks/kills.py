"""Kills runs at random moments and lets them go on, on 1, 2 or 4 processes.

    python -m benchmarks.kills --kills=100 --seed=0

Each series is one working folder: a job is started, a random one of its
processes gets SIGKILL, or one or all get SIGTERM, at a random moment; the
others have to end by themselves and say why; then it is started again on as
many or on another number of processes, until it comes to its end. After every
end all files are whole and what was finished is the same file; at last the
store is bit for bit that of an unbroken run of one process, and the scores are
within 1e-6 of its scores (held-out SVCCA, of a rotation between two bases,
1e-5). A row a series; the same command goes on after the last one and ends
with a row of sums. About 40 minutes on two cores.
"""

import collections
import contextlib
import datetime
import json
import pathlib
import random
import shutil
import signal
import tempfile
import time
from typing import Any

from absl import app, flags

from benchmarks import harness, killed
from tests import checkpoint, cluster, command, speech

_KILLS = flags.DEFINE_integer('kills', 100, 'How many, in all series.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of all that is random.')
_FOLDER = flags.DEFINE_string(
  'folder', '', 'Where to work, and to find the unbroken run of before.'
)

# Job, and processes at first.
SERIES = (
  *(('extract', 1), ('extract', 2), ('compare', 1), ('extract', 4)),
  *(('compare', 2), ('extract', 1), ('all', 2), ('compare', 4), ('all', 1)),
)
MOMENTS = {
  'extract': ('start', 'extraction', 'extraction', 'extraction'),
  'compare': ('start', 'scoring', 'scoring', 'scoring'),
  'all': ('extraction', 'extraction', 'scoring', 'scoring', 'report'),
}
MOST = {1: 10, 2: 6, 4: 4}  # kills of a series
GRACE = 30


class World:
  """Two small models and a corpus, and the unbroken run of one process."""

  def __init__(self, base: pathlib.Path):
    self.base = base
    model, manifest = base / 'model', str(base / 'corpus' / 'manifest.tsv')
    if not model.exists():
      model.mkdir(parents=True)
      checkpoint.save(model)
      speech.write(base / 'corpus')
    self.common = (
      *command.manifest_flags(manifest, model, ''),
      '--models=seamless-m4t-v2-large,control-surface',
      f'--jax_cache={base / "cache"}',
      killed.MEASURES,
    )
    self.whole = base / 'whole'
    if not (self.whole / 'report.html').exists():
      self.run('all', 1, self.whole)

  def flags(self, job: str, folder: pathlib.Path) -> tuple[str, ...]:
    names = ('--measures', '--permutations', '--jax_cache')
    known = [
      flag
      for flag in self.common
      if not flag.startswith('--workdir')
      and {
        'all': True,
        'extract': not flag.startswith(
          ('--measures', '--permutations', '--nofind')
        ),
        'compare': flag.startswith(names),
      }[job]
    ]
    return *known, f'--workdir={folder}'

  def start(
    self, job: str, count: int, folder: pathlib.Path
  ) -> cluster.Workers:
    return cluster.start(folder, count, job, *self.flags(job, folder))

  def run(self, job: str, count: int, folder: pathlib.Path) -> None:
    workers = self.start(job, count, folder)
    workers.wait(time.monotonic())
    assert not any(workers.statuses()), (
      workers.statuses(),
      [log.read_text()[-2000:] for log in workers.logs],
    )


def main(_) -> None:
  rows = _rows(harness.in_results('kills.jsonl'))
  done = [row for row in rows if 'series' in row]
  with contextlib.ExitStack() as stack:
    base = _FOLDER.value or stack.enter_context(tempfile.TemporaryDirectory())
    world = World(pathlib.Path(base))
    while sum(len(row['kills']) for row in done) < _KILLS.value:
      row = series(world, len(done))
      done.append(row)
      harness.keep('kills', row)
      print(json.dumps(row), flush=True)
  print(json.dumps(harness.keep('kills', total(done)), indent=2))


def series(world: World, number: int) -> dict[str, Any]:
  """One working folder, killed until it has had enough."""
  rng = random.Random(f'{_SEED.value} {number}')
  job, count = SERIES[number % len(SERIES)]
  folder = world.base / f'series{number}'
  shutil.rmtree(folder, ignore_errors=True)  # of a campaign that was ended
  if job == 'compare':
    shutil.copytree(world.whole / 'store', folder / 'store')
    shutil.copy(world.whole / 'plan.json', folder)
  began, kills, used = time.monotonic(), [], set()
  for _ in range(MOST[count]):
    used.add(count)
    found = attempt(world, job, count, folder, rng)
    if found is None:
      break
    kills.append(found)
    count = count if count == 1 or rng.random() < 0.5 else rng.choice([1, 2, 4])
  kept = killed.shards(folder), killed.tiles(folder)
  world.run(job, count, folder)
  used.add(count)
  killed.check_kept(kept[0], killed.shards(folder))
  row = {
    'benchmark': 'kills',
    'seed': _SEED.value,
    'series': number,
    'job': job,
    'kills': kills,
    'processes_at_last': count,
    'one_process_only': used == {1},
    'seconds': round(time.monotonic() - began, 1),
    'store_identical': killed.same_store(folder, world.whole),
  }
  assert row['store_identical']
  if job != 'extract':
    row['largest_difference'] = killed.largest_difference(folder, world.whole)
    assert row['largest_difference'] <= (0 if used == {1} else 1e-5), row
  shutil.rmtree(folder)
  return row


def attempt(
  world: World, job: str, count: int, folder: pathlib.Path, rng: random.Random
) -> dict[str, Any] | None:
  """A start that is killed, and its checks; None if it ended before."""
  before = killed.shards(folder), killed.tiles(folder)
  workers = world.start(job, count, folder)
  moment = rng.choice(MOMENTS[job])
  wait_for(workers, moment, folder, before, rng)
  if len(workers.running()) < count:
    workers.wait(time.monotonic())
    assert not any(workers.statuses()), workers.statuses()
    return None
  victim, what, everyone = rng.randrange(count), signal.SIGKILL, False
  if rng.random() < 0.2:
    what, everyone = signal.SIGTERM, rng.random() < 0.5
  stage = stage_of(folder, before, world)
  at = time.monotonic()
  for i in range(count) if everyone else [victim]:
    workers.processes[i].send_signal(what)
  seconds = workers.wait(at)
  statuses = workers.statuses()
  if what == signal.SIGKILL and statuses[victim] == 0:
    return None
  check_ends(workers, victim, what, seconds)
  killed.check_whole(folder)
  killed.check_kept(before[0], killed.shards(folder))
  if killed.tiles(folder):  # they go when the job has come to its end
    killed.check_kept(before[1], killed.tiles(folder))
  return {
    'processes': count,
    'signal': killed.signal_name(what),
    'victim': 'all' if everyone and count > 1 else victim,
    'stage': stage,
    'statuses': statuses,
    'seconds': [round(one, 1) for one in seconds],
    'units': len(killed.shards(folder)),
    'tiles': len(killed.tiles(folder)),
  }


def check_ends(
  workers: cluster.Workers, victim: int, what: int, seconds: list[float]
) -> None:
  """The others ended in time, with a status and a reason that fit."""
  statuses = workers.statuses()
  logs = [log.read_text(errors='replace')[-3000:] for log in workers.logs]
  if what == signal.SIGTERM:
    assert not any(statuses), (statuses, logs)
    assert max(seconds) < GRACE, seconds
  else:
    assert statuses[victim] == -signal.SIGKILL, (statuses, logs)
    assert all(statuses), (statuses, logs)
    assert killed.message_of(workers, victim), logs


def wait_for(
  workers: cluster.Workers,
  moment: str,
  folder: pathlib.Path,
  before: tuple[killed.Snapshot, killed.Snapshot],
  rng: random.Random,
) -> None:
  """Until a random moment of the kind, or until a process has ended."""
  count = len(workers.processes)
  least = rng.randrange(1, 5)
  wait = rng.uniform(0, 0.3)

  def reached() -> bool:
    if moment == 'start':
      return True
    if moment == 'extraction':
      return len(killed.shards(folder)) >= len(before[0]) + least
    if moment == 'scoring':
      return len(killed.tiles(folder)) > len(before[1]) + least // 4
    return (folder / 'scores.parquet').exists()

  if moment == 'start':
    wait = rng.uniform(0, 6)
  elif moment == 'report':
    wait = rng.uniform(0, 4)
  limit = time.monotonic() + cluster.LIMIT
  if count > 1:
    while not all(workers.said(f' of {count}')):
      if len(workers.running()) < count or time.monotonic() > limit:
        return
      time.sleep(0.05)
  while len(workers.running()) == count and time.monotonic() < limit:
    if reached():
      break
    time.sleep(0.03)
  time.sleep(wait)


def stage_of(
  folder: pathlib.Path,
  before: tuple[killed.Snapshot, killed.Snapshot],
  world: World,
) -> str:
  """Where the run was, by its files."""
  units, tiles = killed.shards(folder), killed.tiles(folder)
  if (folder / 'scores.parquet').exists():
    return 'report'
  if len(units) == len(killed.shards(world.whole)):
    return 'before a tile' if len(tiles) == len(before[1]) else 'scoring'
  return 'before a unit' if len(units) == len(before[0]) else 'extraction'


def total(rows: list[dict[str, Any]]) -> dict[str, Any]:
  """Counts by kind, and how long the others took to notice."""
  kills = [kill for row in rows for kill in row['kills']]
  died = [k for k in kills if k['signal'] == 'SIGKILL' and k['processes'] > 1]
  told = [k for k in kills if k['signal'] == 'SIGTERM']
  notice = {
    kind: [max(k['seconds']) for k in died if bool(k['victim']) == other]
    for kind, other in (('first', False), ('another', True))
  }
  differences = [row.get('largest_difference', 0.0) for row in rows]
  return {
    'benchmark': 'kills, in all',
    'date': datetime.date.today().isoformat(),
    'kills': len(kills),
    'by_signal': dict(collections.Counter(k['signal'] for k in kills)),
    'by_processes': dict(collections.Counter(k['processes'] for k in kills)),
    'by_stage': dict(collections.Counter(k['stage'] for k in kills)),
    'series': len(rows),
    'stores_identical': sum(row['store_identical'] for row in rows),
    'scores_identical': sum(not one for one in differences),
    'largest_difference': max(differences),
    'seconds_until_all_ended': {
      f'{kind} process killed': _spread(values)
      for kind, values in notice.items()
    }
    | {'SIGTERM': _spread([max(k['seconds']) for k in told])},
    'machine': harness.machine(),
  }


def _spread(values: list[float]) -> dict[str, float] | None:
  if not values:
    return None
  spread = harness.Spread.of(values)
  return {'min': spread.min, 'median': spread.median, 'max': spread.max}


def _rows(path: pathlib.Path) -> list[dict[str, Any]]:
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == '__main__':
  app.run(main)
