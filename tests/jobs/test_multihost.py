"""Two processes that share a workdir do what one does."""

import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import checkpoint, command, speech

PROCESSES = 2


def cluster(number: int) -> dict[str, str]:
  """What Slurm sets, from which JAX finds the other process."""
  return {
    'SLURM_JOB_ID': '4711',
    'SLURM_STEP_NODELIST': 'localhost',
    'SLURM_NTASKS': str(PROCESSES),
    'SLURM_PROCID': str(number),
    'SLURM_LOCALID': str(number),
  }


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  base = tmp_path_factory.mktemp('hosts')
  model = base / 'model'
  model.mkdir()
  checkpoint.save(model)
  manifest = speech.write(base / 'corpus')
  command.succeed(*command.manifest_flags(manifest, model, base / 'one'))
  flags = command.manifest_flags(manifest, model, base / 'two')
  processes = [
    subprocess.Popen(
      command.line(*flags, '--multihost'),
      env=command.environment(**cluster(number)),
      stderr=subprocess.PIPE,
      text=True,
    )
    for number in range(PROCESSES)
  ]
  logs = [process.communicate(timeout=300)[1] for process in processes]
  for process, log in zip(processes, logs, strict=True):
    assert process.returncode == 0, log[-3000:]
  return base / 'one', base / 'two', logs


def test_the_units_were_shared_out(runs):
  """Ten units of five entries: each process did some of every language."""
  for log in runs[2]:
    for language in checkpoint.LANGUAGES:
      assert f'speech {language}: ' in log
      assert f'speech {language}: no unit' not in log


def test_the_same_store_and_scores(runs):
  one, two, _ = runs
  files = [p.relative_to(one) for p in one.glob('store/**/dim*/c/**/*')]
  assert files
  for name in files:
    if (one / name).is_file():
      assert (two / name).read_bytes() == (one / name).read_bytes()
  mine, theirs = (pq.read_table(d / 'scores.parquet') for d in (one, two))
  # A rotation between two bases, each of which is right to 1e-5.
  turned = np.array(mine['measure'].to_pylist()) == 'svcca_heldout'
  allowed = np.where(turned, 1e-5, 1e-6)
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
