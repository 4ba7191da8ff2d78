"""Killed at random moments and resumed: bit for bit what one run gives."""

import random
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from jaxrep import store
from tests import checkpoint, command, speech

KILLS = 10
FEW = (
  *('--measures=svcca,svcca_heldout,cka,cka_debiased', '--permutations=2'),
)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  base = tmp_path_factory.mktemp('kill')
  model = base / 'model'
  model.mkdir()
  checkpoint.save(model)
  return base, speech.write(base / 'corpus'), model


def flags(world, name):
  base, manifest, model = world
  cache = f'--jax_cache={base / "cache"}'
  return *command.manifest_flags(manifest, model, base / name), cache


def files_of(folder):
  return {
    path.relative_to(folder): path.read_bytes()
    for path in sorted((folder / 'store').rglob('*'))
    if path.is_file()
  }


def shards(folder):
  return sum(1 for _ in folder.glob('store/**/dim*/c/**/*'))


def test_kills_leave_no_trace(world):
  """A run that ends before all kills were dealt is followed by another."""
  base = world[0]
  began = time.monotonic()
  command.succeed('extract', *flags(world, 'whole'))
  duration = time.monotonic() - began
  rng, killed, seen, names = random.Random(0), 0, set(), []
  while killed < KILLS:
    names.append(f'cut{len(names)}')
    folder = base / names[-1]
    ended = False
    while killed < KILLS and not ended:
      code = kill_once(flags(world, names[-1]), folder, duration, rng)
      ended = code == 0
      killed += code == -signal.SIGKILL
      seen.add(shards(folder))
  assert len(seen) > 3, f'kills hit only the states {seen}'
  command.succeed('extract', *flags(world, names[-1]))
  for name in names:
    assert files_of(base / name) == files_of(base / 'whole')
  scores = [score(base / name) for name in ('whole', names[-1])]
  assert scores[0] == scores[1]


def score(folder):
  """The bytes of the scores of a folder's store."""
  command.succeed('compare', f'--workdir={folder}', *FEW)
  return (folder / 'scores.parquet').read_bytes()


def kill_once(arguments, folder, duration, rng):
  """The exit status of an extraction that was killed, or came to its end."""
  with subprocess.Popen(
    command.line('extract', *arguments),
    env=command.environment(),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  ) as process:
    # Start-up takes most of a run; most kills are aimed behind it.
    wait_for_work(process, folder, duration, rng, rng.random() < 0.8)
    process.send_signal(signal.SIGKILL)
  return process.returncode


def wait_for_work(process, folder, duration, rng, late):
  """Until a random moment: anywhere, or soon after one more shard came."""
  if not late:
    time.sleep(rng.uniform(0, duration / 2))
    return
  before, limit = shards(folder), time.monotonic() + 4 * duration
  while process.poll() is None and time.monotonic() < limit:
    if shards(folder) > before:
      time.sleep(rng.uniform(0, 0.02))
      return
    time.sleep(0.002)


def test_a_killed_comparison_keeps_its_tiles(world):
  """Killed after a tile, and again after one more: none is made twice."""
  base = world[0]
  folder, other = base / 'parts', base / 'unbroken'
  command.succeed('extract', *flags(world, 'parts'))
  shutil.copytree(folder, other)
  kept: dict[str, int] = {}
  for _ in range(2):
    kept |= kill_after_a_tile(folder, set(kept))
    assert tiles(folder).items() >= kept.items()
  assert not (folder / 'scores.parquet').exists()
  for one in (folder, other):
    command.succeed('compare', f'--workdir={one}', *FEW)
    assert not (one / 'scores_parts').exists()
  scores = [(one / 'scores.parquet').read_bytes() for one in (folder, other)]
  assert scores[0] == scores[1]


def tiles(folder):
  """Finished tiles of a comparison, and when each was written."""
  found = (folder / 'scores_parts').glob('*.npz')
  return {path.name: path.stat().st_mtime_ns for path in found}


def kill_after_a_tile(folder, before):
  """The tiles that are there when one more was."""
  with subprocess.Popen(
    command.line('compare', f'--workdir={folder}', *FEW),
    env=command.environment(),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  ) as process:
    while process.poll() is None and tiles(folder).keys() <= before:
      time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
  assert process.returncode == -signal.SIGKILL
  return tiles(folder)


def test_sigterm_ends_cleanly_and_the_run_goes_on(world):
  base = world[0]
  process = subprocess.Popen(
    command.line('extract', *flags(world, 'term')), env=command.environment()
  )
  while process.poll() is None and not shards(base / 'term'):
    time.sleep(0.005)
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=60) == 0
  command.succeed('extract', *flags(world, 'term'))
  opened = store.open_store(str(base / 'term'))
  view = opened.view('seamless-m4t-v2-large', 'speech', 'swh')
  assert len(view.ids) == 24
  assert np.isfinite(view.read('speech/output')).all()
