"""What `run` of summary.json says a run cost is what it did."""

import json
import signal
import subprocess
import time

import pytest

from jaxrep.extract import cost
from jaxrep.jobs import definition, extract
from jaxrep.observe import sessions
from tests import checkpoint, command, speech

NAME = 'seamless-m4t-v2-large'


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  base = tmp_path_factory.mktemp('costs')
  model = base / 'model'
  model.mkdir()
  checkpoint.save(model)
  return base, speech.write(base / 'corpus'), model


def flags(world, name):
  base, manifest, model = world
  cache = f'--jax_cache={base / "cache"}'
  given = command.manifest_flags(manifest, model, base / name)
  return *given, '--languages=eng', cache


@pytest.fixture(scope='module')
def cold(world):
  """One process, whose cache is empty."""
  command.succeed('extract', *flags(world, 'cold'))
  return sessions.read(world[0] / 'cold')


@pytest.fixture(scope='module')
def cut(world, cold):
  """One that is killed and goes on, with the programs of the other."""
  kill_at_work(flags(world, 'cut'), world[0] / 'cut')
  command.succeed('extract', *flags(world, 'cut'))
  return sessions.read(world[0] / 'cut')


def kill_at_work(arguments, folder):
  with subprocess.Popen(
    command.line('extract', *arguments),
    env=command.environment(),
    stderr=subprocess.DEVNULL,
  ) as process:
    while process.poll() is None and not noted(folder):
      time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
  assert process.returncode == -signal.SIGKILL


def noted(folder):
  """Rows of speech that the process has noted so far."""
  return any(
    json.loads(path.read_text())['parts']
    .get('models', {})
    .get(f'{NAME} speech', {})
    .get('rows')
    for path in folder.glob('timings/*.json')
  )


@pytest.fixture(scope='module')
def planned(world):
  base, manifest, model = world
  plan = definition.make_plan(
    extract.Config(
      models=(NAME,),
      checkpoints=(f'{NAME}={model}',),
      corpus='manifest',
      corpus_source=manifest,
      languages='eng',
      workdir=str(base / 'planned'),
      unit_size=5,
      batch_seconds=12,
    )
  )
  return {found.title: found for found in cost.costs(plan.entries)}


def test_extraction_is_what_was_planned(cold, planned):
  assert cold['models'].keys() == planned.keys()
  for title, plan in planned.items():
    found = cold['models'][title]
    assert found['rows'] == plan.rows
    assert found['batches'] == sum(plan.shapes.values())
    assert found['audio_seconds'] == pytest.approx(plan.seconds)
    assert found['padding'] == pytest.approx(plan.padding)


def test_a_program_a_shape_is_compiled_once(cold, planned):
  for title, plan in planned.items():
    assert cold['models'][title]['programs'] == len(plan.shapes)
    assert cold['models'][title]['loaded'] == 0


def test_the_stages_are_named_and_add_up(cold):
  expected = {'start', 'plan', 'load weights', 'trace', 'compile', 'device'}
  expected |= {'wait for input', 'write store', 'other'}
  assert cold['stages'].keys() == expected
  check_session(cold, [True])


def check_session(run, ended):
  assert [one['ended'] for one in run['sessions']] == ended
  assert sum(run['stages'].values()) == pytest.approx(run['seconds'])
  assert all(seconds > 0 for seconds in run['stages'].values())
  for one in run['sessions']:
    assert 0 < one['first']['batches']['seconds'] < one['seconds']
    assert one['host_peak_bytes'] > 1e8
    assert one['devices'][0]['device'] == 'cpu:0'


@pytest.mark.slow
def test_a_killed_run_tells_both_of_its_sessions(cut, planned):
  check_session(cut, [False, True])
  title = f'{NAME} speech'
  # The unit in hand was lost: its rows were computed twice.
  assert cut['models'][title]['rows'] >= planned[title].rows
  assert cut['models'][title]['rows'] <= planned[title].rows + 5


@pytest.mark.slow
def test_with_a_cache_programs_are_loaded(cut):
  for found in cut['models'].values():
    assert found['programs'] == found['loaded'] > 0
