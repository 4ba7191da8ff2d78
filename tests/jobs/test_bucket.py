"""A whole run on gs://, with both of its caches there, over real HTTP.

The server is `tests.store.gcs`: no authentication, no consistency but its own.
"""

import subprocess
import sys

import pytest

from tests import checkpoint, command, speech
from tests.store import gcs

pytestmark = pytest.mark.gcs
COMPARE = ('--measures=svcca,cka_debiased', '--permutations=2')
RUN = 'gs://bucket/run 1'
CACHES = ('--jax_cache=gs://bucket/jax', '--weights_cache=gs://bucket/weights')


def below(objects, prefix):
  return {
    name.removeprefix(prefix): data
    for name, data in objects.items()
    if name.startswith(prefix)
  }


def local(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def named(files):
  """Their names; sessions, whose names tell the time, by their number."""
  return sorted(
    f'timings/{i}' if name.startswith('timings/') else name
    for i, name in enumerate(sorted(files, key=lambda n: 'timings/' not in n))
  )


def test_a_run_in_a_bucket_is_the_run_on_a_disk(tmp_path):
  (tmp_path / 'model').mkdir()
  checkpoint.save(tmp_path / 'model')
  manifest = speech.write(tmp_path / 'corpus')

  def flags(workdir):
    return command.manifest_flags(manifest, tmp_path / 'model', workdir)

  command.succeed('extract', *flags(tmp_path / 'run'))
  for job, more in (('compare', COMPARE), ('report', ())):
    command.succeed(job, f'--workdir={tmp_path / "run"}', *more)
  expected = local(tmp_path / 'run')
  with gcs.serve() as (url, objects):
    environment = gcs.environment(url)
    for run in (RUN, 'gs://bucket/again'):
      arguments = (*flags(run), *CACHES)
      told = command.run('extract', *arguments, **environment)
      assert told.returncode == 0, told.stderr
      how = 'kept in' if run == RUN else 'restored from'
      assert told.stderr.count(f'{how} gs://bucket/weights') == 2
    assert any(name.endswith('-cache') for name in below(objects, 'jax/'))
    for job, more in (('compare', COMPARE), ('report', ())):
      command.succeed(job, f'--workdir={RUN}', *more, **environment)
    found = below(objects, 'run 1/')
    assert named(found) == named(expected)
    stored = [name for name in found if name.startswith('store/')]
    for name in (*stored, 'scores.parquet', 'scores.csv'):
      assert found[name] == expected[name], name
    again = below(objects, 'again/store/')
    assert again == below(objects, 'run 1/store/')


def test_a_damaged_cache_and_a_bucket_that_cannot_be_written(tmp_path):
  flags = ('--models=tiny-aligned', '--languages=eng', '--modalities=text')
  flags = (*flags, '--weights_cache=gs://bucket/weights')
  with gcs.serve() as (url, objects):
    environment = gcs.environment(url)

    def extract(workdir):
      line = ('extract', *flags, f'--workdir={workdir}')
      return command.run(*line, **environment)

    assert extract(tmp_path / 'one').returncode == 0
    largest = max(
      below(objects, 'weights/'),
      key=lambda name: len(objects[f'weights/{name}']),
    )
    whole = objects.pop(f'weights/{largest}')
    told = extract(tmp_path / 'two')
    assert told.returncode == 1
    assert 'error: --weights_cache: what gs://bucket/weights/' in told.stderr
    assert 'Traceback' not in told.stderr
    objects[f'weights/{largest}'] = whole
    for status in (401, 403):
      objects.closed = status
      told = extract('gs://bucket/run')
      assert told.returncode == 1
      assert 'error: Cannot write to gs://bucket/run/store/' in told.stderr
      assert 'Traceback' not in told.stderr


def test_every_answer_of_a_closed_bucket_is_one_error():
  """gcsfs has errors of its own for what is neither missing nor forbidden."""
  writing = """
from jaxrep import files
from jaxrep.types import InputError
try:
  files.write('gs://bucket/plan.json', 'x')
except InputError as error:
  print(error)
"""
  with gcs.serve() as (url, objects):
    for objects.closed in (400, 403):
      told = subprocess.run(
        [sys.executable, '-c', writing],
        env=command.environment(**gcs.environment(url)),
        capture_output=True,
        text=True,
        check=False,
      )
      assert 'Cannot write gs://bucket/plan.json' in told.stdout, told.stderr
