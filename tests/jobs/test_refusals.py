"""What a plan refuses, before anything is computed."""

import pytest

from jaxrep import opened
from jaxrep.jobs import definition, extract
from jaxrep.types import InputError


def plan(workdir, **changes):
  chosen = {'models': ('tiny-untrained',), 'languages': 'eng'}
  definition.make_plan(extract.Config(workdir=str(workdir), **chosen | changes))


def test_a_modality_that_there_is_not_is_told(tmp_path):
  for modalities in (('audio',), ('text', 'audio'), ()):
    with pytest.raises(InputError, match='--modalities takes text, speech, or'):
      plan(tmp_path, modalities=modalities)


def test_languages_that_no_model_covers_are_told(tmp_path):
  manifest = tmp_path / 'manifest.tsv'
  manifest.write_text('id\tlanguage\ttext\n1\tfra\tune maison\n')
  source = {'corpus': 'manifest', 'corpus_source': str(manifest)}
  with pytest.raises(InputError, match='No model covers any of the languages'):
    plan(tmp_path, modalities=('text',), languages='fra', **source)


def test_a_config_that_is_a_list_is_told(tmp_path):
  (tmp_path / 'model.safetensors').touch()
  (tmp_path / 'config.json').write_text('[1, 2]')
  with pytest.raises(InputError, match=r'config\.json holds no fields'):
    opened.open_model('nllb-200-600m', 'text', str(tmp_path))
