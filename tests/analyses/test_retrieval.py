import pytest

from jaxrep.analyses import retrieval
from jaxrep.analyses import run as runs
from jaxrep.report import plots
from tests.analyses import synthetic

TO, BACK = retrieval.MEASURES
KNOWN = {  # (measure, kind of pair): R@1
  (TO, 'text', 'speech'): 0.6,
  (BACK, 'text', 'speech'): 0.2,
  (TO, 'text', 'text'): 0.9,
  (BACK, 'text', 'text'): 0.7,
  (TO, 'speech', 'speech'): 0.5,
  (BACK, 'speech', 'speech'): 0.4,
}


def load(folder, measures=retrieval.MEASURES, **options):
  texts = {name: synthetic.RETRIEVAL[name] for name in measures}
  definition = synthetic.definition(layers=1, measures=texts, **options)
  rows = [
    row | {'value': KNOWN[row['measure'], row['modality_a'], row['modality_b']]}
    for row in synthetic.rows(definition, measures=measures)
  ]
  return runs.load_run(synthetic.write(folder, definition, rows)), rows


def test_directions_stay_apart_within_a_language_only(tmp_path):
  table = retrieval.compute(load(tmp_path)[0]).to_pylist()
  expected = {
    'text → speech': (0.6, 6),
    'speech → text': (0.2, 6),
    'text → text': (0.8, 2 * 15),
    'speech → speech': (0.45, 2 * 15),
  }
  assert {row['direction'] for row in table} == set(expected)
  for row in table:
    value, count = expected[row['direction']]
    assert row['value'] == pytest.approx(value)
    assert row['used'] == row['of'] == count
    assert row['floor'] == pytest.approx(1 / 118)
  assert len(table) == 6 + 6 + 3 + 6  # taps of speech, and of text


def test_one_panel_per_model_with_chance(tmp_path):
  run, _ = load(tmp_path, models=('one', 'two', 'three'))
  figure = retrieval.draw(retrieval.compute(run))
  assert figure.columns == 3
  view = figure.views[plots.EVERY_MEASURE]
  assert len(view.panels) == 3
  for panel in view.panels:
    levels = {line.key.label: set(line.y) for line in panel.lines}
    assert len(levels) == 5
    assert max(levels['chance: 1/n']) == pytest.approx(1 / 118)
    assert min(levels['speech → text, same language']) == pytest.approx(0.2)
    assert panel.limits[0] < 0 and panel.limits[1] > 0.8
  assert [key.label for key in view.legend][-1] == 'chance: 1/n'
  assert 'found first in b' in view.notes[0]


def test_one_direction_alone_is_shown_as_such(tmp_path):
  run, _ = load(tmp_path, measures=(BACK,))
  table = retrieval.compute(run)
  rows = {row['direction']: row for row in table.to_pylist()}
  assert set(rows) == {'speech → text', 'text → text', 'speech → speech'}
  assert rows['text → text']['value'] == pytest.approx(0.7)
  assert rows['text → text']['used'] == rows['text → text']['of'] == 15
  (panel,) = retrieval.draw(table).views[plots.EVERY_MEASURE].panels
  assert len(panel.lines) == 4


def test_a_text_model_has_lines_of_text_alone(tmp_path):
  _, rows = load(tmp_path)
  rows = [row for row in rows if row['modality_b'] == 'text']
  definition = synthetic.definition(layers=1, measures=synthetic.RETRIEVAL)
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  view = retrieval.draw(retrieval.compute(run)).views[plots.EVERY_MEASURE]
  assert [key.label for key in view.legend] == [
    *('text → text, other language', 'chance: 1/n')
  ]
