import pytest

from jaxrep.analyses import gap
from jaxrep.analyses import run as runs
from jaxrep.report import plots
from tests.analyses import synthetic


def load(folder, measures=gap.MEASURES, models=('one', 'two'), **options):
  texts = {name: synthetic.GAP[name] for name in measures}
  definition = synthetic.definition(layers=1, measures=texts, models=models)
  rows = synthetic.rows(definition, measures=measures, **options)
  return runs.load_run(synthetic.write(folder, definition, rows)), rows


def view_of(run):
  return gap.draw(gap.compute(run)).views[plots.EVERY_MEASURE]


def test_means_equal_a_plain_loop(tmp_path):
  run, rows = load(tmp_path, models=('one',))
  table = gap.compute(run).to_pylist()
  assert len(table) == 3 * (6 + 3 + 6)
  for row in table:
    cells = [
      cell['value']
      for cell in rows
      if all(cell[n] == row[n] for n in ('measure', 'tap_a', 'tap_b'))
      and (cell['lang_a'] == cell['lang_b']) == (row['kind'] == 'within')
    ]
    assert row['used'] == row['of'] == len(cells)
    assert len(cells) == (6 if row['kind'] == 'within' else 15)
    assert row['value'] == pytest.approx(sum(cells) / len(cells))
    assert (row['floor'] is None) == (row['measure'] != 'cosine_gap')


def test_a_line_of_panels_per_number_a_column_per_model(tmp_path):
  run, _ = load(tmp_path)
  figure = gap.draw(gap.compute(run))
  assert figure.columns == 2
  panels = figure.views[plots.EVERY_MEASURE].panels
  assert [panel.ylabel for panel in panels] == [
    *('centroid distance', 'centroid distance', 'norm ratio', 'norm ratio'),
    *('cosine gap', 'cosine gap'),
  ]
  assert panels[0].limits == panels[1].limits
  one, _ = load(tmp_path, models=('one',))
  assert gap.draw(gap.compute(one)).columns == 3


def test_many_models_have_a_line_each(tmp_path):
  run, _ = load(tmp_path, models=('a', 'b', 'c', 'd', 'e'))
  figure = gap.draw(gap.compute(run))
  titles = [p.title for p in figure.views[plots.EVERY_MEASURE].panels]
  assert figure.columns == 3
  assert all('The b encoder' in title for title in titles[3:6])


def test_where_no_gap_is_stands_in_the_figure(tmp_path):
  run, _ = load(tmp_path, models=('one',))
  distance, ratio, cosine = view_of(run).panels
  level = {
    panel.ylabel: [set(x.y) for x in panel.lines if x.key.role == 'floor']
    for panel in (distance, ratio, cosine)
  }
  assert level == {
    'centroid distance': [{0.0}],
    'norm ratio': [{1.0}],
    'cosine gap': [{0.0}],
  }
  assert ratio.limits[0] >= 0 and ratio.limits[1] > 1
  assert distance.limits[0] < 0


def test_sides_of_different_width_have_no_line(tmp_path):
  def wide(row):
    other = row['modality_a'] != row['modality_b']
    return other and row['measure'] != 'norm_ratio'

  run, _ = load(tmp_path, models=('one',), undefined=wide)
  counts = [
    sum(line.key.role == 'mean' for line in panel.lines)
    for panel in view_of(run).panels
  ]
  assert counts == [2, 3, 2]
  assert any('lack cells' in note for note in view_of(run).notes)


def test_each_number_is_defined_in_the_notes(tmp_path):
  run, _ = load(tmp_path, measures=('norm_ratio', 'cosine_gap'))
  view = view_of(run)
  notes = ' '.join(view.notes)
  for name in ('norm_ratio', 'cosine_gap'):
    assert synthetic.GAP[name] in notes
  assert view.subtitle.startswith('norm ratio, cosine gap · ')
