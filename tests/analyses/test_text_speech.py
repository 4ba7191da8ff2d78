import pytest

from jaxrep.analyses import run as runs
from jaxrep.analyses import text_speech
from tests.analyses import synthetic

GAP = {'lang_a': 'khm', 'tap_b': 'speech/layer_02'}


def load(tmp_path, definition, **options):
  rows = synthetic.rows(definition, **options)
  return runs.load_run(synthetic.write(tmp_path, definition, rows)), rows


def is_gap(row):
  return all(row[name] == value for name, value in GAP.items())


def test_class_means_equal_a_plain_loop(tmp_path):
  definition = synthetic.definition()
  run, rows = load(tmp_path, definition, undefined=is_gap)
  table = text_speech.compute(run).to_pylist()
  counterparts = definition['models']['tiny']['counterparts']
  checked = 0
  for row in table:
    if row['level'] != 'class':
      continue
    cells = [
      r
      for r in rows
      if r['lang_a'] == r['lang_b']
      and r['tap_b'] == row['tap_speech']
      and r['tap_a'] == counterparts[row['tap_speech']]
      and r['measure'] == row['measure']
      and synthetic.CLASSES[r['lang_a']] == row['name']
      and r['value'] is not None
    ]
    assert row['used'] == len(cells)
    assert row['of'] == 2
    for name in ('value', 'floor', 'calibrated'):
      mean = sum(cell[name] for cell in cells) / len(cells)
      assert row[name] == pytest.approx(mean, abs=1e-12)
    checked += 1
  assert checked == 3 * 3 * 9  # measures, classes, speech taps


def test_only_counterparts_are_compared_in_layer_order(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng',))
  run, _ = load(tmp_path, definition)
  rows = text_speech.compute(run).to_pylist()
  svcca = [r for r in rows if r['measure'] == 'svcca' and r['level'] == 'all']
  assert [(r['position'], r['tap_speech'], r['tap_text']) for r in svcca] == [
    (0, 'speech/embed', 'text/embed'),
    (1, 'speech/layer_01', 'text/layer_01'),
    (2, 'speech/norm', 'text/output'),
    (3, 'speech/pre_adaptor', 'text/output'),
    (4, 'speech/adaptor', 'text/output'),
    (5, 'speech/output', 'text/output'),
  ]


def test_an_undefined_cell_is_a_gap_and_is_counted(tmp_path):
  run, _ = load(tmp_path, synthetic.definition(), undefined=is_gap)
  figure = text_speech.draw(text_speech.compute(run))
  view = figure.views['svcca']
  raw, calibrated = view.panels
  for panel in (raw, calibrated):
    members = [line for line in panel.lines if line.key.role == 'member']
    gaps = [line.y.index(None) for line in members if None in line.y]
    assert gaps == [2]  # Khmer at layer 2, nowhere else
  low = next(line for line in raw.lines if 'low' in line.key.label)
  assert None not in low.y
  assert 'mean of 1 of 2' in low.hover[2]
  assert any('lack cells' in note for note in view.notes)


def test_floor_is_drawn_beside_the_raw_values_only(tmp_path):
  run, rows = load(tmp_path, synthetic.definition())
  raw, calibrated = (
    text_speech.draw(text_speech.compute(run)).views['svcca'].panels
  )
  floor = next(line for line in raw.lines if line.key.role == 'floor')
  cells = [
    r['floor']
    for r in rows
    if (r['measure'], r['tap_a'], r['tap_b'])
    == ('svcca', 'text/embed', 'speech/embed')
    and r['lang_a'] == r['lang_b']
  ]
  assert floor.y[0] == pytest.approx(sum(cells) / 6)
  assert raw.band[0][1:] == (min(cells), max(cells))
  assert not calibrated.band
  assert all(line.key.role != 'floor' for line in calibrated.lines)


def test_without_floors_the_values_are_still_drawn(tmp_path):
  definition = synthetic.definition(layers=1)
  rows = [
    row | {'floor': None, 'calibrated': None}
    for row in synthetic.rows(definition)
  ]
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  view = text_speech.draw(text_speech.compute(run)).views['svcca']
  assert all(line.key.role != 'floor' for line in view.panels[0].lines)
  assert any('This measure has no floor' in note for note in view.notes)
  assert [panel.title for panel in view.panels] == ['Raw']


def test_ceiling_is_drawn_where_every_cell_has_one(tmp_path):
  definition = synthetic.definition(layers=1)
  rows = [
    row | {'ceiling': 0.8 if row['lang_a'] == 'eng' else 0.9}
    for row in synthetic.rows(definition)
    if row['tap_b'] != 'speech/norm'
  ]
  for row in rows:
    if (row['lang_a'], row['tap_b']) == ('khm', 'speech/layer_01'):
      row['ceiling'] = None
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  raw, calibrated = (
    text_speech.draw(text_speech.compute(run)).views['cka'].panels
  )
  (line,) = (line for line in raw.lines if line.key.role == 'ceiling')
  mean = pytest.approx((0.8 + 5 * 0.9) / 6)
  assert line.y == (mean, None, mean, mean, mean)
  assert raw.limits[1] > 0.9
  assert 'ceiling 0.883' in line.hover[0]
  assert all(line.key.role != 'ceiling' for line in calibrated.lines)


def test_a_single_cell_shows_its_interval_and_p(tmp_path):
  run, rows = load(tmp_path, synthetic.definition(layers=1))
  lines = (
    text_speech.draw(text_speech.compute(run)).views['cka'].panels[0].lines
  )
  one = next(line for line in lines if line.key.role == 'member').hover[0]
  cell = next(
    row
    for row in rows
    if (row['measure'], row['lang_a'], row['tap_a'], row['lang_b'])
    == ('cka', 'eng', 'text/embed', 'eng')
    and row['tap_b'] == 'speech/embed'
  )
  assert f'[{cell["ci_low"]:.3f}, {cell["ci_high"]:.3f}]' in one
  assert 'p < 0.001 · q < 0.001' in one
  mean = next(line for line in lines if line.key.role == 'mean').hover[0]
  assert '[' not in mean
  assert ' q ' not in mean


def test_headline_is_the_last_layer_over_all_languages(tmp_path):
  run, rows = load(tmp_path, synthetic.definition())
  lines = text_speech.headlines(text_speech.compute(run))
  assert [line.measure for line in lines] == ['svcca', 'cka', 'cka_debiased']
  assert lines[0].taps == 'text/output with speech/output'
  cells = [
    r['value']
    for r in rows
    if (r['measure'], r['tap_a'], r['tap_b'])
    == ('svcca', 'text/output', 'speech/output')
    and r['lang_a'] == r['lang_b']
  ]
  assert lines[0].row['value'] == pytest.approx(sum(cells) / 6)
  assert lines[0].row['of'] == 6
