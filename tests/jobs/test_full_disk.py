"""Runs whose disk fills up or is read-only: one error, and nothing is lost."""

import shutil

import pytest

from tests import checkpoint, command, disk, speech

COMPARE = ('--measures=svcca,cka_debiased', '--permutations=2')


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  """The flags of a run in a folder, and one that had room."""
  base = tmp_path_factory.mktemp('disk')
  (base / 'model').mkdir()
  checkpoint.save(base / 'model')
  manifest = speech.write(base / 'corpus')

  def flags(workdir):
    return command.manifest_flags(manifest, base / 'model', workdir)

  command.succeed('extract', *flags(base / 'whole'))
  command.succeed('compare', f'--workdir={base / "whole"}', *COMPARE)
  return flags, base / 'whole'


def files(folder):
  """Path → bytes of all files below."""
  return {
    path.relative_to(folder): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def refused(workdir, reason, *line):
  """It fails in one line that names a file, why, and what to do."""
  message = command.fail(*line).strip()
  assert message.startswith('Cannot write ') and str(workdir) in message
  assert reason in message and 'run the same command again' in message
  assert '\n' not in message and len(message) < 600, message


def test_extract_and_compare_go_on_when_there_is_room(world, tmp_path):
  flags, whole = world
  with disk.mounted(tmp_path / 'disk', 10_000) as small:
    workdir = small.path / 'run'
    extract = ('extract', *flags(workdir))
    small.resize(170)
    refused(workdir, 'No space left on device', *extract)
    before = files(workdir / 'store')
    assert any('dim32/c' in str(path) for path in before)
    small.resize(10_000)
    with small.read_only():
      refused(workdir, 'Read-only file system', *extract)
    command.succeed(*extract)
    stored = files(workdir / 'store')
    assert stored == files(whole / 'store')
    assert all(stored[path] == data for path, data in before.items())
    compare = ('compare', f'--workdir={workdir}', *COMPARE)
    small.fill(100)
    refused(workdir, 'No space left on device', *compare)
    tiles = files(workdir / 'scores_parts')
    assert tiles, 'none was finished before the disk was full'
    small.resize(10_000)
    command.succeed(*compare)
    scores = [one / 'scores.parquet' for one in (workdir, whole)]
    assert scores[0].read_bytes() == scores[1].read_bytes()


@pytest.mark.slow
def test_a_report_that_finds_no_room(world, tmp_path):
  whole = world[1]
  with disk.mounted(tmp_path / 'disk', 20_000) as small:
    workdir = small.path / 'run'
    shutil.copytree(whole, workdir)
    report = ('report', f'--workdir={workdir}')
    for spare in (0, 1000):
      small.fill(spare)
      refused(workdir, 'No space left on device', *report)
      assert not (workdir / 'report.html').exists()
    small.resize(20_000)
    with small.read_only():
      refused(workdir, 'Read-only file system', *report)
    for one in (workdir, whole):
      command.succeed('report', f'--workdir={one}')
    for name in ('scores.csv', 'report.html'):
      pages = [(one / name).read_text() for one in (workdir, whole)]
      # What the runs cost comes last, and differs.
      assert pages[0].split('id="cost"')[0] == pages[1].split('id="cost"')[0]


@pytest.mark.slow
def test_full_caches_do_not_end_a_run(world, tmp_path):
  """Nor do they change it, or leave what a later run could trip over."""
  flags, whole = world
  with disk.mounted(tmp_path / 'disk', 100) as small:
    cached = ('--jax_cache={0}/jax', '--weights_cache={0}/weights')
    cached = [flag.format(small.path) for flag in cached]

    def extracted(name, **environment):
      arguments = (*flags(tmp_path / name), *cached)
      result = command.run('extract', *arguments, **environment)
      assert result.returncode == 0, result.stderr
      assert 'Traceback' not in result.stderr
      assert files(tmp_path / name / 'store') == files(whole / 'store')
      return result.stderr

    told = extracted('full')
    assert f'cannot write to {small.path}/weights' in told
    assert 'Error writing persistent compilation cache' in told
    small.resize(20_000)
    with small.read_only():
      assert 'Read-only file system' in extracted('read_only')
    assert 'kept in' in extracted('room')
    told = extracted('again')
    assert told.count('restored from') == 2
