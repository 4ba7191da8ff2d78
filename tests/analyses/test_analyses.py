"""What every row of ANALYSES owes."""

import importlib
import json

import pytest

from jaxrep import analyses
from jaxrep.analyses import run as runs
from jaxrep.report import plots
from jaxrep.types import InputError
from tests.analyses import stored, synthetic

# Figures that are the same under every measure, and what they need.
ALWAYS = {'retrieval': synthetic.RETRIEVAL, 'gap': synthetic.GAP}
OF_STATES = ('probes',)
OF_FINDINGS = ('by_n',)  # tests/analyses/test_by_n.py
DRAWN = [name for name in analyses.ANALYSES if name not in OF_FINDINGS]
BY_MEASURE = [name for name in DRAWN if name not in (*ALWAYS, *OF_STATES)]


def load(folder, measures=synthetic.MEASURES, **options):
  definition = synthetic.definition(
    layers=1, measures=measures, widths=(8, 8), **options
  )
  rows = synthetic.rows(definition, measures=measures)
  stored.write(folder, definition)
  return runs.load_run(synthetic.write(folder, definition, rows))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  definition = synthetic.definition(
    layers=2, models=('one', 'two'), widths=(8, 8)
  )
  folder = tmp_path_factory.mktemp('run')
  rows = synthetic.rows(definition)
  stored.write(folder, definition)
  return runs.load_run(synthetic.write(folder, definition, rows))


@pytest.mark.parametrize('name', analyses.ANALYSES)
def test_a_row_names_a_module_and_says_what_it_shows(name):
  row = analyses.ANALYSES[name]
  module = importlib.import_module(row.module)
  assert callable(module.compute)
  assert callable(module.draw)
  assert row.explanation.endswith('.')
  assert len(row.title) < 60


@pytest.mark.parametrize('name', BY_MEASURE)
def test_every_measure_and_model_is_drawn_svcca_first(run, name):
  (result,) = analyses.analyze(run, [name])
  assert list(result.figure.views) == ['svcca', 'cka', 'cka_debiased']
  for view in result.figure.views.values():
    titles = [panel.title for panel in view.panels]
    for title in ('The one encoder', 'The two encoder'):
      own = [t for t in titles if t.startswith(f'{title} (untrained control)')]
      assert len(own) >= 2
    assert 'synthetic speech' in view.subtitle


def test_probes_are_one_view(run):
  (result,) = analyses.analyze(run, OF_STATES)
  assert list(result.figure.views) == [plots.EVERY_MEASURE]


@pytest.mark.parametrize('name', ALWAYS)
def test_a_figure_under_every_measure_is_one_view(tmp_path, run, name):
  special = load(tmp_path, ALWAYS[name], models=('one', 'two'))
  (result,) = analyses.analyze(special, [name])
  ((measure, view),) = result.figure.views.items()
  assert measure == plots.EVERY_MEASURE
  for title in ('The one encoder', 'The two encoder'):
    own = [panel for panel in view.panels if panel.title.startswith(title)]
    assert len(own) == len(view.panels) / 2
  assert 'n = 118 sentences' in ' '.join(view.notes)
  (nothing,) = analyses.analyze(run, [name])  # none of its measures is there
  assert not nothing.figure.views
  assert all(measure in nothing.needs for measure in ALWAYS[name])


@pytest.mark.parametrize('name', DRAWN)
def test_a_trained_model_and_human_speech_are_not_labelled(tmp_path, name):
  measures = ALWAYS.get(name, synthetic.MEASURES)
  run = load(tmp_path, measures, trained=True, synthetic=False)
  (result,) = analyses.analyze(run, [name])
  text = repr(result.figure)
  assert 'untrained' not in text
  assert 'synthetic' not in text
  assert 'The tiny encoder' in text


@pytest.mark.parametrize('name', BY_MEASURE)
def test_notes_state_the_definition_n_and_k(run, name):
  (result,) = analyses.analyze(run, [name])
  svcca = ' '.join(result.figure.views['svcca'].notes)
  assert synthetic.MEASURES['svcca'] in svcca
  assert 'n = 118 sentences' in svcca
  # Which have one k here.
  last = name in ('language_map', 'modality_language')
  assert ('k differs between cells' in svcca) != last
  assert 'components kept' not in ' '.join(result.figure.views['cka'].notes)


@pytest.mark.parametrize('name', analyses.ANALYSES)
def test_a_run_of_text_alone_in_one_language_shows_nothing(tmp_path, name):
  measures = ALWAYS.get(name, synthetic.MEASURES)
  definition = synthetic.definition(
    layers=1, languages=('eng',), measures=measures
  )
  model = definition['models']['tiny']
  model['languages']['speech'] = []
  model['taps']['speech'] = []
  model['counterparts'] = {}
  rows = synthetic.rows(definition, measures=measures)
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  (result,) = analyses.analyze(run, [name])
  assert not result.figure.views
  assert result.headlines == ()


@pytest.mark.parametrize('name', [*BY_MEASURE, *OF_STATES])
def test_scores_without_their_store_still_make_a_report(tmp_path, name):
  definition = synthetic.definition(layers=1)
  rows = synthetic.rows(definition)
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  (result,) = analyses.analyze(run, [name])
  assert bool(result.figure.views) != ('the store' in result.needs)


def test_tables_carry_no_text_that_is_not_data(run):
  for result in analyses.analyze(run):
    json.dumps(result.table.to_pylist(), allow_nan=False)
    assert len(set(result.table.column_names)) == result.table.num_columns


def test_an_unknown_analysis_names_the_known_ones(run):
  with pytest.raises(InputError, match='Did you mean layer_map'):
    analyses.analyze(run, ['layer_maps'])
