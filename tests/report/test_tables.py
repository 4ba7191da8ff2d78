"""Notes, numbers and the files that programs read."""

import json

import pyarrow as pa
import pyarrow.csv
import pytest
from etils import epath

from jaxrep import analyses
from jaxrep.analyses import run as runs
from jaxrep.report import tables
from tests.analyses import synthetic

ROW = {
  **{'value': 0.5, 'floor': 0.25, 'calibrated': -0.0625},
  **{'used': 3, 'used_calibrated': 3, 'of': 4},
  **{'n_min': 90, 'n_max': 118, 'k_min': None, 'k_max': None},
  **{'ceiling': None, 'ci_low': None, 'ci_high': None, 'p': None, 'q': None},
}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  definition = synthetic.definition(layers=2)
  rows = synthetic.rows(definition)
  folder = tmp_path_factory.mktemp('run')
  return runs.load_run(synthetic.write(folder, definition, rows))


def test_hover_and_numbers():
  assert tables.hover('Hindi', ROW) == (
    '<b>Hindi</b><br>raw 0.500 · floor 0.250<br>calibrated −0.062'
    '<br>n 90–118 · k –<br>mean of 3 of 4'
  )
  one = {'ci_low': 0.4, 'ci_high': -0.5, 'p': 0.0004, 'q': 0.04, 'of': 1}
  assert tables.hover('Hindi', ROW | one | {'ceiling': 0.75}) == (
    '<b>Hindi</b><br>raw 0.500 [0.400, −0.500] · floor 0.250'
    '<br>calibrated −0.062 · ceiling 0.750'
    '<br>n 90–118 · k –<br>p < 0.001 · q 0.040'
  )
  assert tables.number(0.0125, signed=True) == '+0.013'
  assert tables.number(None) == '–'
  assert tables.mean_of(ROW | {'of': 3}) == 'mean of 3'


def test_notes_warn_of_unequal_n_and_missing_cells():
  definition = {'measures': {'cka': 'a definition.'}}
  notes = ' '.join(tables.notes([ROW], 'cka', definition))
  assert notes.startswith('A definition. n = 90–118 sentences per cell.')
  assert 'n differs' in notes
  assert 'k differs' not in notes
  assert '1 of 1 points lack cells' in notes


def test_notes_say_what_resource_classes_are():
  definition = {'measures': {'cka': 'x.'}, 'resource_source': 'Our shares.'}
  assert 'Our shares.' not in tables.notes([ROW], 'cka', definition)
  classes = [ROW | {'level': 'class'}]
  assert 'Our shares.' in tables.notes(classes, 'cka', definition)


def test_models_stand_side_by_side_while_there_is_room():
  models = [f'm{i}' for i in range(5)]
  for count, columns, first in (
    (1, 2, [('m0', 'value'), ('m0', 'calibrated')]),
    (2, 2, [('m0', 'value'), ('m1', 'value')]),
    (4, 4, [('m0', 'value'), ('m1', 'value')]),
    (5, 2, [('m0', 'value'), ('m0', 'calibrated')]),
  ):
    names = models[:count]
    titles = {name: {'title': name, 'control': ''} for name in names}
    rows = [ROW | {'model': name} for name in names]
    assert tables.columns(pa.Table.from_pylist(rows)) == columns
    panels = tables.each_panel(
      rows, {'value': 'raw', 'calibrated': 'calibrated'}, {'models': titles}
    )
    assert [(model, what) for model, _, what, _ in panels][:2] == first
    assert len(panels) == 2 * count
    assert all(own[0]['model'] == model for model, own, _, _ in panels)


def test_in_order_follows_the_given_names_not_the_alphabet():
  table = pa.table({'name': ['low', 'high', 'low'], 'at': [2, 1, 1]})
  ordered = tables.in_order(table, {'name': ('high', 'low'), 'at': None})
  assert ordered.to_pydict() == {
    'name': ['high', 'low', 'low'],
    'at': [1, 1, 2],
  }


def test_files_hold_the_scores_the_tables_and_the_headlines(run, tmp_path):
  results = analyses.analyze(run)
  told = {'findings': {'1': {}}, 'run': {'seconds': 3.0}}
  folder = epath.Path(tmp_path)
  tables.write_tables(results, run.scores, run.definition, folder, told)
  scores = pyarrow.csv.read_csv(tmp_path / 'scores.csv')
  assert scores.column_names == run.scores.column_names
  assert scores['value'].to_pylist() == run.scores['value'].to_pylist()
  for result in results:
    table = pyarrow.csv.read_csv(tmp_path / 'tables' / f'{result.name}.csv')
    assert table.column_names == result.table.column_names
    for number in {'value', 'accuracy'}.intersection(table.column_names):
      assert table[number].to_pylist() == result.table[number].to_pylist()
  summary = json.loads((tmp_path / 'summary.json').read_text())
  assert told.items() <= summary.items()
  model = summary['models']['tiny']
  assert model['trained'] is False
  assert model['demonstration'] == ''
  assert model['control'] == 'untrained control: random weights'
  assert set(model['measures']) == set(synthetic.MEASURES)
  assert set(model['measures']['svcca']) == {
    *('text_speech', 'cross_lingual_text', 'cross_lingual_speech'),
    *('adaptor_before', 'adaptor_after', 'adaptor_change'),
  }
  last = next(
    row
    for row in results[0].table.to_pylist()
    if (row['measure'], row['level'], row['tap_speech'])
    == ('svcca', 'all', 'speech/output')
  )
  found = model['measures']['svcca']['text_speech']
  assert {name: found[name] for name in tables.NUMBERS} == {
    name: last[name] for name in tables.NUMBERS
  }
