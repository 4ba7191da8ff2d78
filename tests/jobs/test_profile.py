"""--profile: traces of the jobs, which change nothing that is computed."""

import jax
import pytest

from jaxrep.jobs import compare, extract
from tests import checkpoint, speech

NAME = 'seamless-m4t-v2-large'
SCOPES = (
  *('front_end', 'embed', 'layer_01', 'attention', 'convolution'),
  *('feed_forward', 'adaptor', 'pooling'),
)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  base = tmp_path_factory.mktemp('profile')
  checkpoint.save(base)
  manifest = speech.write(base / 'corpus')
  for name in ('plain', 'traced'):
    workdir, profile = str(base / name), name == 'traced'
    extract.run(
      extract.Config(
        models=(NAME,),
        checkpoints=(f'{NAME}={base}',),
        corpus='manifest',
        corpus_source=manifest,
        languages='eng',
        workdir=workdir,
        unit_size=8,
        batch_seconds=12,
        profile=profile,
      )
    )
    compare.run(
      compare.Config(
        workdir=workdir, measures=('svcca',), permutations=2, profile=profile
      )
    )
  return base / 'plain', base / 'traced'


def traces(folder):
  found = folder.glob('profile/plugins/profile/*/*.xplane.pb')
  return {path.parent.name: path for path in found}


def names(path):
  """How often each event of a trace occurs."""
  data = jax.profiler.ProfileData.from_file(str(path))
  return {
    event.name
    for plane in data.planes
    for line in plane.lines
    for event in line.events
  }


def test_a_trace_of_each_step_and_each_measure(folders):
  assert not (folders[0] / 'profile').exists()
  assert sorted(traces(folders[1])) == [
    'compare-svcca',
    f'extract-{NAME}-speech-eng',
    f'extract-{NAME}-text-eng',
  ]


def test_stages_of_the_networks_are_named(folders):
  found = traces(folders[1])
  speech_trace = found[f'extract-{NAME}-speech-eng']
  assert 'extract' in names(speech_trace)
  for scope in SCOPES:
    assert f'/{scope}/'.encode() in speech_trace.read_bytes(), scope
  text = found[f'extract-{NAME}-text-eng'].read_bytes()
  assert b'/layer_01/attention/' in text


def test_steps_of_the_comparison_are_named(folders):
  found = traces(folders[1])
  assert {'factor', 'pair'} <= names(found['compare-svcca'])
  for scope in (b'/factor/', b'/pair/'):
    assert scope in found['compare-svcca'].read_bytes()


def test_store_and_scores_stay_bit_for_bit(folders):
  plain, traced = (
    {
      path.relative_to(folder): path.read_bytes()
      for path in [*folder.glob('store/**/*'), folder / 'scores.parquet']
      if path.is_file()
    }
    for folder in folders
  )
  assert len(plain) > 10
  assert plain == traced
