"""Processes that share a workdir do what one does, whoever of them is lost."""

import functools
import signal
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxrep import hosts
from jaxrep.jobs import extract
from tests import checkpoint, cluster, command, speech


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """One process' run; what two began, of which one was killed, and four ended.

  With the two, and the seconds for which the other one went on.
  """
  base = tmp_path_factory.mktemp('hosts')
  flags_of = made(base)
  command.succeed(*flags_of(base / 'one'))
  flags = flags_of(base / 'more')
  two = cluster.start(base / 'more', 2, *flags)
  seconds = end_one(two, base / 'more', signal.SIGKILL)
  said = two.logs[0].read_text()
  kept = shards(base / 'more')
  four = cluster.start(base / 'more', 4, *flags)
  four.wait(time.monotonic())
  logs = [log.read_text() for log in four.logs]
  assert not any(four.statuses()), [log[-2000:] for log in logs]
  assert shards(base / 'more').items() > kept.items()
  return base / 'one', base / 'more', logs, (two.statuses(), said, seconds)


def made(base):
  """A model and a corpus; gives the flags of a run on them in a workdir."""
  (base / 'model').mkdir()
  model = checkpoint.save(base / 'model')
  manifest = speech.write(base / 'corpus')
  return functools.partial(command.manifest_flags, manifest, model)


def shards(folder):
  found = folder.glob('store/**/dim*/c/*/0/0')
  return {path: path.stat().st_mtime_ns for path in found}


def end_one(workers, folder, what):
  """Sends it to the last process amid its work; seconds until all ended."""
  limit = time.monotonic() + cluster.LIMIT
  while len(shards(folder)) < 4 and time.monotonic() < limit:
    assert len(workers.running()) == len(workers.processes)
    time.sleep(0.005)
  at = time.monotonic()
  workers.processes[-1].send_signal(what)
  return max(workers.wait(at))


def test_the_units_were_shared_out(runs):
  for log in runs[2]:
    assert ' rows/s' in log


def test_the_others_end_where_one_was_killed(runs):
  statuses, said, seconds = runs[3]
  assert statuses == [1, -signal.SIGKILL]
  assert 'error: Process 1 of 2 died' in said
  assert 'Start all again with the same command' in said
  assert 'Traceback' not in said.partition('error: ')[0]
  assert seconds < 60


@pytest.mark.slow
def test_all_end_where_one_is_told_to_stop(tmp_path):
  flags = made(tmp_path)(tmp_path / 'run')
  workers = cluster.start(tmp_path / 'run', 2, *flags)
  assert end_one(workers, tmp_path / 'run', signal.SIGTERM) < 30
  assert workers.statuses() == [0, 0]
  said = [log.read_text() for log in workers.logs]
  assert 'Process 1 of 2 was stopped by SIGTERM, and so is this one' in said[0]
  assert 'Stopped by SIGTERM' in said[1]


@pytest.mark.slow
def test_a_folder_that_is_not_shared_is_told(tmp_path):
  """Each has a disk of its own, as the hosts of a slice without a bucket."""
  workers = cluster.start(
    tmp_path / 'apart', 2, *made(tmp_path)('run'), apart=True
  )
  workers.wait(time.monotonic())
  assert workers.statuses() == [1, 1]
  assert any(workers.said('Give a --workdir that all of them share'))


@pytest.mark.parametrize(
  ('variables', 'devices'),
  [
    ({}, None),
    ({'SLURM_STEP_NUM_TASKS': '4', 'SLURM_STEP_NUM_NODES': '4'}, []),
    ({'SLURM_STEP_NUM_TASKS': '8', 'SLURM_STEP_NUM_NODES': '4'}, None),
    ({'OMPI_COMM_WORLD_LOCAL_SIZE': '1'}, []),
    ({'OMPI_COMM_WORLD_LOCAL_SIZE': '2'}, None),
    (
      {
        'OMPI_COMM_WORLD_LOCAL_SIZE': '8',
        'SLURM_STEP_NUM_TASKS': '4',
        'SLURM_STEP_NUM_NODES': '4',
      },
      None,
    ),
    ({'OMPI_COMM_WORLD_LOCAL_SIZE': '1', 'JAX_LOCAL_DEVICE_IDS': '0'}, None),
  ],
)
def test_a_process_alone_on_a_machine_has_all_its_devices(
  monkeypatch, variables, devices
):
  for name in ('SLURM_STEP_NUM_TASKS', 'SLURM_STEP_NUM_NODES'):
    monkeypatch.delenv(name, raising=False)
  for name, value in variables.items():
    monkeypatch.setenv(name, value)
  assert hosts._devices() == devices


PLACING = """
import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxrep import hosts, mesh
from jaxrep.similarity import tiles

def refused(*_):
  raise AssertionError('all processes sent all to all')

with hosts.joined(True):
  multihost_utils.assert_equal = refused
  x = np.arange(24.0).reshape(4, 6)
  found = tiles._place(x, mesh.global_mesh(), tiles._SHARED)
  for shard in found.addressable_shards:
    np.testing.assert_array_equal(shard.data, x[shard.index])
  assert not found.is_fully_addressable
"""


def test_what_is_scored_is_not_sent_between_processes(tmp_path):
  workers = cluster.start(tmp_path / 'run', 2, program=PLACING)
  workers.wait(time.monotonic())
  said = [log.read_text()[-2000:] for log in workers.logs]
  assert workers.statuses() == [0, 0], said


class Entry:
  def __init__(self, units, remaining):
    self.entry, self.units, self.remaining = self, units, remaining

  def remaining_units(self):
    return self.remaining


def test_all_have_work_however_few_units_an_entry_has(monkeypatch):
  entries = [Entry(1, [0]), Entry(3, [1, 2]), Entry(2, []), Entry(1, [0])]
  shares = []
  for index in range(4):
    monkeypatch.setattr(hosts, 'process', lambda index=index: (index, 4))
    shares.append(extract._shares(entries))
  assert shares == [
    *([[0], [], [], []], [[], [1], [], []]),
    *([[], [2], [], []], [[], [], [], [0]]),
  ]


def test_the_same_store_and_scores(runs):
  one, two, *_ = runs
  files = [p.relative_to(one) for p in one.glob('store/**/dim*/c/**/*')]
  assert files
  for name in files:
    if (one / name).is_file():
      assert (two / name).read_bytes() == (one / name).read_bytes()
  mine, theirs = (pq.read_table(d / 'scores.parquet') for d in (one, two))
  allowed = 1e-6
  scaled = dict.fromkeys('zpq', allowed / np.nanmin(numbers(mine, 'floor_sd')))
  scaled['calibrated'] = allowed / (1 - numbers(mine, 'floor'))
  for field in mine.schema:
    if field.type == pa.float64():
      ours, others = (numbers(table, field.name) for table in (mine, theirs))
      assert (np.isnan(ours) == np.isnan(others)).all()
      atol = np.nan_to_num(scaled.get(field.name, allowed))
      off = np.nan_to_num(np.abs(ours - others) - 1e-6 * np.abs(ours))
      assert (off <= atol).all(), (field.name, off.max())
    else:
      assert mine[field.name].to_pylist() == theirs[field.name].to_pylist()


def numbers(table, column):
  return np.array(table[column].to_pylist(), float)
