"""Ended in mid-run and resumed: bit for bit what one run gives.

`python -m benchmarks.kills` does this at random moments, on several hosts too.
"""

import shutil
import signal
import subprocess
import time

import pytest

from tests import checkpoint, command, speech

FEW = (
  *('--measures=svcca,svcca_heldout,cka,cka_debiased', '--permutations=2'),
)
ENDS = ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0))


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  base = tmp_path_factory.mktemp('kill')
  model = base / 'model'
  model.mkdir()
  checkpoint.save(model)
  manifest = speech.write(base / 'corpus')
  command.succeed('extract', *flags(base, manifest, 'whole'))
  return base, manifest


def flags(base, manifest, name):
  return command.manifest_flags(manifest, base / 'model', base / name)


def files_of(folder):
  return {
    path.relative_to(folder): path.read_bytes()
    for path in sorted((folder / 'store').rglob('*'))
    if path.is_file()
  }


def finished(folder, pattern):
  """Finished shards or tiles: which file each is, and of when."""
  return {
    path.name if 'npz' in pattern else str(path): (
      path.stat().st_ino,
      path.stat().st_mtime_ns,
    )
    for path in folder.glob(pattern)
    if path.is_file()
  }


def end_after_one_more(arguments, folder, pattern, end):
  """What is finished when a job that had done one more part was ended."""
  before, (what, status) = finished(folder, pattern), end
  with subprocess.Popen(
    command.line(*arguments),
    env=command.environment(),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    while process.poll() is None and len(finished(folder, pattern)) <= len(
      before
    ):
      time.sleep(0.001)
    process.send_signal(what)
    sent = time.monotonic()
    said = process.communicate(timeout=60)[1]
  assert process.returncode == status, said[-3000:]
  if what == signal.SIGTERM:
    assert time.monotonic() - sent < 30
    assert 'Stopped by SIGTERM. The same command goes on' in said
  after = finished(folder, pattern)
  assert after.items() >= before.items()
  assert len(after) > len(before)
  return after


def test_an_extraction_goes_on(world):
  """Killed after a shard, and told to stop after one more."""
  base, manifest = world
  arguments = 'extract', *flags(base, manifest, 'cut')
  folder, pattern = base / 'cut', 'store/**/dim*/c/*/0/0'
  for end in ENDS:
    kept = end_after_one_more(arguments, folder, pattern, end)
  assert len(kept) < 30
  command.succeed(*arguments)
  assert finished(folder, pattern).items() >= kept.items()
  assert files_of(folder) == files_of(base / 'whole')


def test_a_comparison_goes_on(world):
  """As an extraction, whose parts are units, does with its tiles."""
  base, _ = world
  folder, other = base / 'parts', base / 'unbroken'
  for one in (folder, other):
    shutil.copytree(base / 'whole', one)
  arguments = 'compare', f'--workdir={folder}', *FEW
  for end in ENDS:
    end_after_one_more(arguments, folder, 'scores_parts/*.npz', end)
  assert not (folder / 'scores.parquet').exists()
  for one in (folder, other):
    command.succeed('compare', f'--workdir={one}', *FEW)
    assert not (one / 'scores_parts').exists()
  scores = [(one / 'scores.parquet').read_bytes() for one in (folder, other)]
  assert scores[0] == scores[1]
