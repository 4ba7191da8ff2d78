"""The models of the default run: what they are said to be, and to know."""

import collections

import pytest

from jaxrep import languages, models
from jaxrep.data import open_corpus
from jaxrep.jobs import definition, extract, settings
from jaxrep.models import MODELS, RESOURCES
from jaxrep.types import CorpusOptions
from tests import checkpoint

TRAINED = ('tiny-aligned', 'tiny-translation', 'tiny-unaligned')
PROXY = languages.resource_source()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Stands for any SeamlessM4T v2 here: no weights are read."""
  return checkpoint.save(tmp_path_factory.mktemp('model'))


def defined(folder, *names, **changes):
  places = [f'{name}={folder}' for name in names if name != 'tiny-untrained']
  config = extract.Config(
    models=names,
    checkpoints=tuple(places),
    languages='eng,rus,swh',
    modalities=('speech',),
    **changes,
  )
  return definition.make_plan(config).definition


def test_the_default_run_is_of_the_bundled_models():
  names = settings.Selection().models
  assert names == (*TRAINED, 'tiny-untrained')
  assert models.shared_resources(names) == RESOURCES
  assert MODELS['tiny-untrained'].resources is None


def test_the_table_of_training_shares_holds_the_bundled_languages():
  classes = languages.resource_classes(RESOURCES.table)
  corpus = open_corpus('bundled', CorpusOptions())
  assert set(classes) == set(corpus.languages)
  assert set(classes) == set(MODELS['tiny-aligned'].languages)
  counts = collections.Counter(classes.values())
  assert counts == {'high': 3, 'medium': 3, 'low': 2}


@pytest.mark.parametrize('names', [TRAINED[:1], (*TRAINED, 'tiny-untrained')])
def test_classes_are_what_all_models_were_trained_on(folder, names):
  """Russian is the one that the proxy calls high and the table medium."""
  found = defined(folder, *names)
  own = {'eng': 'high', 'rus': 'medium', 'swh': 'low'}
  assert found['resource_classes'] == own
  assert found['resource_source'] == RESOURCES.meaning


@pytest.mark.parametrize(
  'names', [('tiny-untrained',), ('tiny-aligned', 'seamless-m4t-v2-large')]
)
def test_other_runs_keep_the_proxy(folder, names):
  found = defined(folder, *names)
  proxy = languages.resource_classes()
  assert proxy['rus'] == 'high'
  assert found['resource_classes'] == {
    iso: proxy[iso] for iso in ('eng', 'rus', 'swh')
  }
  assert found['resource_source'] == PROXY


def test_a_given_table_comes_first(folder, tmp_path):
  table = tmp_path / 'mine.tsv'
  table.write_text('rus\tlow\n')
  found = defined(folder, 'tiny-aligned', resource_table=str(table))
  assert found['resource_classes'] == {'rus': 'low'}
  assert 'mine.tsv' in found['resource_source']


def test_only_trained_bundled_models_are_for_demonstration(folder):
  found = defined(folder, *TRAINED[:1], 'tiny-untrained')['models']
  assert 'demonstration' in found['tiny-aligned']['demonstration']
  assert found['tiny-untrained']['demonstration'] == ''
  assert not found['tiny-untrained']['trained']
  others = {name for name, row in MODELS.items() if row.demonstration}
  assert others == set(TRAINED)
