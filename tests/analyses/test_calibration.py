import pytest

from jaxrep.analyses import calibration
from jaxrep.analyses import run as runs
from tests.analyses import synthetic


def load(folder, change=lambda row: {}, models=('tiny',), **options):
  definition = synthetic.definition(layers=2, models=models)
  rows = synthetic.rows(definition, **options)
  rows = [row | change(row) for row in rows]
  return runs.load_run(synthetic.write(folder, definition, rows)), rows


def panels(run, measure='svcca'):
  view = calibration.draw(calibration.compute(run)).views[measure]
  return view.panels


def test_the_table_holds_the_single_cells(tmp_path):
  run, rows = load(tmp_path)
  table = calibration.compute(run).to_pylist()
  assert len(table) == 3 * 6 * 7  # measures, languages, taps of speech
  cells = {
    (r['measure'], r['lang_a'], r['tap_a'], r['tap_b']): r
    for r in rows
    if r['lang_a'] == r['lang_b'] and r['modality_a'] != r['modality_b']
  }
  for row in table:
    key = (row['measure'], row['language'], row['tap_text'], row['tap_speech'])
    for name in calibration.CELL[6:]:
      assert row[name] == cells[key][name]
  assert [row['language'] for row in table[:6]] == list(synthetic.LANGUAGES)


def test_a_rise_of_the_floor_alone_is_seen_as_one(tmp_path):
  def rising(row):
    """k grows with the layer and the floor with it; nothing else does."""
    depth = {'layer_01': 1, 'layer_02': 2}
    at = depth.get(row['tap_b'].partition('/')[2], 0)
    floor, k = 0.3 + 0.2 * at, 20 + 10 * at
    value = floor + (1 - floor) * 0.1
    numbers = {'value': value, 'floor': floor, 'calibrated': 0.1}
    return numbers | {'k': k, 'k_a': k, 'k_b': k + 5}

  raw, calibrated, kept = panels(load(tmp_path, rising)[0])
  value, floor = (line.y[:3] for line in raw.lines)
  assert value == pytest.approx((0.37, 0.55, 0.73))
  assert floor == pytest.approx((0.3, 0.5, 0.7))
  assert calibrated.lines[0].y[:3] == pytest.approx((0.1, 0.1, 0.1))
  text, speech = (line.y[:3] for line in kept.lines)
  assert text == (20, 30, 40)
  assert speech == (25, 35, 45)
  assert [band[1:] for band in kept.band[:3]] == [(20, 20), (30, 30), (40, 40)]
  low = {band[1] for band in raw.band}
  assert low == {raw.limits[0]}
  assert [band[2] for band in raw.band[:3]] == pytest.approx([0.3, 0.5, 0.7])
  assert calibrated.band == ()


def test_k_ranges_over_the_languages(tmp_path):
  def by_language(row):
    k = 10 + 5 * synthetic.LANGUAGES.index(row['lang_a'])
    return {'k': k, 'k_a': k, 'k_b': 2 * k}

  _, _, kept = panels(load(tmp_path, by_language)[0])
  assert kept.band[0][1:] == (10, 35)
  assert [line.y[0] for line in kept.lines] == [22.5, 45]
  assert kept.limits[1] > 45


def test_measures_without_components_have_no_panel_of_k(tmp_path):
  run, _ = load(tmp_path)
  assert len(panels(run, 'svcca')) == 3
  assert len(panels(run, 'cka')) == 2


def test_ceilings_are_drawn_where_there_are_some(tmp_path):
  run, _ = load(tmp_path, lambda row: {'ceiling': 0.97})
  raw = panels(run)[0]
  (line,) = (line for line in raw.lines if line.key.role == 'ceiling')
  assert line.y == pytest.approx((0.97,) * 7)
  assert raw.limits[1] > 0.97
  plain = panels(load(tmp_path)[0])[0]
  assert all(line.key.role != 'ceiling' for line in plain.lines)


def test_an_undefined_cell_leaves_the_mean_of_the_others(tmp_path):
  run, rows = load(tmp_path, undefined=lambda row: row['lang_a'] == 'khm')
  raw = panels(run)[0]
  mean = [
    r['value']
    for r in rows
    if (r['measure'], r['tap_a'], r['tap_b'])
    == ('svcca', 'text/embed', 'speech/embed')
    and r['lang_a'] == r['lang_b'] != 'khm'
  ]
  assert raw.lines[0].y[0] == pytest.approx(sum(mean) / 5)
  assert 'mean of 5 of 6' in raw.lines[0].hover[0]


def test_models_stand_side_by_side_until_there_are_many(tmp_path):
  run, _ = load(tmp_path, models=('a', 'b'))
  figure = calibration.draw(calibration.compute(run))
  titles = [panel.title for panel in figure.views['svcca'].panels]
  assert figure.columns == 2
  for left, right in zip(titles[::2], titles[1::2], strict=True):
    assert left.replace('The a', 'The b') == right
  run, _ = load(tmp_path, models=('a', 'b', 'c', 'd', 'e'), measures=['svcca'])
  figure = calibration.draw(calibration.compute(run))
  titles = [panel.title for panel in figure.views['svcca'].panels]
  assert figure.columns == 3
  assert all('The b' in title for title in titles[3:6])
