"""Controls through extraction, as any model: plan, store, scores' inputs."""

import dataclasses

import numpy as np
import pytest

from jaxrep import store
from jaxrep.jobs import definition, extract
from jaxrep.jobs import list as listing
from jaxrep.store import layout
from jaxrep.types import InputError
from tests import speech

EDITED = 'tiny-untrained@adaptor-residual'
NAMES = ('control-duration', 'control-surface', EDITED)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  base = tmp_path_factory.mktemp('controls')
  return extract.Config(
    models=NAMES,
    corpus='manifest',
    corpus_source=speech.write(base / 'corpus', count=6),
    languages='eng,swh',
    workdir=str(base / 'run'),
  )


@pytest.fixture(scope='module')
def held(config):
  extract.run(config)
  return store.open_store(config.workdir)


@pytest.mark.parametrize('language', ['eng', 'swh'])
def test_the_store_holds_true_lengths(held, language):
  for modality in ('text', 'speech'):
    view = held.view('control-duration', modality, language)
    states = view.read(f'{modality}/surface')
    true = [
      len(row.text) if modality == 'text' else row.samples / 16_000
      for row in view.rows
    ]
    np.testing.assert_allclose(states[:, 0], true, rtol=1e-6)


def test_ngrams_are_the_rows_tokens(held):
  view = held.view('control-surface', 'text', 'swh')
  states = view.read('text/surface')
  for row, vector in zip(view.rows, states, strict=True):
    assert len(row.token_ids) == 3 * len(row.text) - 3
    np.testing.assert_allclose(vector.sum(), 1, rtol=1e-5)
    assert set(np.flatnonzero(vector)) == set(row.token_ids)


def test_a_text_has_no_specials_to_leave_out(config, held, tmp_path):
  changed = dataclasses.replace(
    config,
    models=NAMES[:2],
    modalities=('text',),
    text_specials=False,
    workdir=str(tmp_path),
  )
  extract.run(changed)
  other = store.open_store(str(tmp_path))
  for name in NAMES[:2]:
    np.testing.assert_array_equal(
      *(
        one.view(name, 'text', 'eng').read('text/surface')
        for one in (held, other)
      )
    )


def test_plan_says_which_models_are_controls(config):
  found = definition.make_plan(config).definition['models']
  said = {name: model['control'] for name, model in found.items()}
  assert said['control-duration'] == 'control: one number a sentence'
  assert said[EDITED].startswith('adaptor-residual control: ')
  assert found[EDITED]['adaptor']['before'] == 'speech/pre_adaptor'
  assert found['control-surface']['counterparts'] == {
    'speech/surface': 'text/surface'
  }
  plain = dataclasses.replace(config, models=('tiny-aligned',))
  (model,) = definition.make_plan(plain).definition['models'].values()
  assert model['control'] == ''


def test_a_variant_is_read_from_its_models_checkpoint(config, tmp_path):
  changed = dataclasses.replace(
    config,
    models=('tiny-aligned@adaptor-redrawn',),
    checkpoints=(f'tiny-aligned={tmp_path}',),
  )
  with pytest.raises(InputError, match=str(tmp_path)):
    definition.make_plan(changed)
  (tmp_path / 'config.json').write_text('{"encoder_layers": 3, "layers": 2}')
  with pytest.raises(InputError, match='layers=2: unknown'):
    definition.make_plan(changed)
  changed = dataclasses.replace(changed, checkpoints=('tiny-unaligned=x',))
  with pytest.raises(InputError, match='which --models does not'):
    definition.make_plan(changed)


def test_its_folder_may_be_in_a_bucket():
  path = layout.folder('gs://bucket/run', EDITED, 'speech', 'eng')
  spec = layout.open_files(path).spec().to_json()
  assert spec['bucket'] == 'bucket'
  assert spec['path'] == f'run/store/{EDITED}/speech/eng/'


def test_the_list_names_controls_and_variants():
  *_, last = listing.models()
  for name in ('@untrained', '@adaptor-redrawn', '@adaptor-residual'):
    assert name in last
  (line,) = [x for x in listing.models() if x.startswith('control-duration:')]
  assert 'control: one number a sentence' in line
