"""Stages are the whole and no more; what a killed process noted stays."""

import functools
import json
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import monitoring

from jaxrep.observe import programs, recorder, sessions

MODEL = ('models', 'one speech')


@pytest.fixture(autouse=True)
def defined(tmp_path):
  """A run, without which nothing is kept."""
  (tmp_path / 'plan.json').write_text('{}')


def files(folder):
  return sorted((folder / recorder.FOLDER).glob('*'))


def test_every_moment_belongs_to_the_innermost_stage(tmp_path):
  with recorder.recording(tmp_path, 'extract', age=5.0) as session:
    with recorder.stage('device', MODEL):
      time.sleep(0.05)
      with recorder.stage('write store'):
        time.sleep(0.1)
        recorder.add(rows=3)
    time.sleep(0.02)
  run = sessions.read(tmp_path)
  stages = run['stages']
  assert stages == session.stages
  assert 0.05 <= stages['device'] < 0.1 <= stages['write store']
  assert stages['other'] >= 0.02
  assert 5.0 <= stages['start'] < 5.05
  assert sum(stages.values()) == pytest.approx(run['seconds'], abs=1e-6)
  part = run['models'][MODEL[1]]
  assert part['rows'] == 3
  assert part['write_store_seconds'] == stages['write store']
  assert part['device_seconds'] == stages['device']


def test_programs_are_taken_out_of_the_stage_that_makes_them(tmp_path):
  @jax.jit
  def inner(x):
    return jnp.tanh(x @ x)

  @jax.jit
  def outer(x):
    return inner(x) + inner(2 * x)

  with recorder.recording(tmp_path, 'extract') as session:
    began = time.monotonic()
    with recorder.stage('device', MODEL):
      x = np.ones((64, 64), np.float32)
      for _ in range(3):
        outer(x).block_until_ready()
      outer(x[:32, :32]).block_until_ready()
    took = time.monotonic() - began
  made = ('device', 'trace', 'compile')
  assert min(session.stages[name] for name in made) > 0
  assert sum(session.stages[name] for name in made) <= took
  part = sessions.read(tmp_path)['models'][MODEL[1]]
  assert part['programs'] == 2  # shapes
  assert part['loaded'] == 0
  assert part['running_seconds'] == pytest.approx(session.stages['device'])


def test_what_is_traced_inside_is_told_once():
  told = []
  heard = programs.Programs(lambda stage, seconds, **_: told.append(seconds))
  tell = functools.partial(
    monitoring.record_event_duration_secs,
    '/jax/core/compile/jaxpr_trace_duration',
  )
  with heard.heard():
    time.sleep(0.05)
    tell(0.02)
    tell(0.05)
    other = threading.Thread(target=tell, args=(1.0,))
    other.start()
    other.join()
  tell(9.0)
  assert told == [0.02, pytest.approx(0.03)]


def test_without_a_session_nothing_is_noted(tmp_path):
  with recorder.stage('device', MODEL):
    recorder.add(rows=1)
  assert recorder.current() is None
  assert sessions.read(tmp_path) == {}


def test_sessions_add_up_and_tell_which_one_was_killed(tmp_path):
  def work(rows, killed=False):
    with recorder.recording(tmp_path, 'extract') as session:
      with recorder.stage('device', MODEL):
        recorder.add(rows=rows, used=rows, computed=2 * rows)
      if killed:
        raise KeyboardInterrupt
    return session

  with pytest.raises(KeyboardInterrupt):
    work(3, killed=True)
  work(4)
  for name, text in (('damaged', '{"job": '), ('older', '{"job": "all"}')):
    files(tmp_path)[0].with_name(f'{name}.json').write_text(text)
  run = sessions.read(tmp_path)
  assert [one['ended'] for one in run['sessions']] == [False, True]
  assert run['models'][MODEL[1]]['rows'] == 7
  assert run['models'][MODEL[1]]['padding'] == 0.5
  assert run['seconds'] == sum(one['seconds'] for one in run['sessions'])
  assert sum(run['stages'].values()) == pytest.approx(run['seconds'], abs=1e-6)


def test_processes_keep_their_own_stages(tmp_path):
  for number in (1, 0):
    with recorder.recording(tmp_path, 'extract'):
      recorder.about(process=number, processes=2)
      with recorder.stage('device', MODEL):
        time.sleep(0.02 * (1 + number))
  run = sessions.read(tmp_path)
  by_process = run['stages_by_process']
  assert list(by_process) == ['0', '1']
  assert 0.02 <= by_process['0']['device'] < 0.04 <= by_process['1']['device']
  total = sum(own['device'] for own in by_process.values())
  assert run['stages']['device'] == pytest.approx(total)


def test_a_process_notes_while_it_works(tmp_path):
  with recorder.recording(tmp_path, 'extract'):
    for _ in range(2):
      with recorder.stage('device', MODEL):
        recorder.add(rows=1)
      time.sleep(0.3)
    (path,) = files(tmp_path)
    noted = json.loads(path.read_text())
    assert not noted['ended']
    assert noted['parts']['models'][MODEL[1]]['rows'] >= 1


def test_a_folder_that_no_job_has_made_stays_unmade(tmp_path):
  with recorder.recording(tmp_path / 'never', 'extract'):
    pass
  assert not (tmp_path / 'never').exists()


def test_what_cannot_be_written_ends_nothing(tmp_path):
  (tmp_path / recorder.FOLDER).write_text('a file in the place of the folder')
  with (
    recorder.recording(tmp_path, 'extract') as session,
    recorder.stage('device', MODEL),
  ):
    recorder.add(rows=1)
  assert session.stages['device'] > 0


def test_errors_of_a_bucket_end_nothing_either(tmp_path, monkeypatch):
  def failing(path, data):
    raise RuntimeError('503')

  monkeypatch.setattr(recorder.files, 'write', failing)
  with recorder.recording(tmp_path, 'extract') as session:
    recorder.add(rows=1)
  assert session.parts
