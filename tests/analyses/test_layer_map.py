import pytest

from jaxrep.analyses import layer_map
from jaxrep.analyses import run as runs
from tests.analyses import synthetic


def load(tmp_path, definition, rows):
  return runs.load_run(synthetic.write(tmp_path, definition, rows))


def test_every_tap_pair_is_the_mean_over_languages(tmp_path):
  definition = synthetic.definition(layers=2)
  rows = synthetic.rows(definition)
  table = layer_map.compute(load(tmp_path, definition, rows)).to_pylist()
  assert len(table) == 3 * 4 * 7  # measures, text taps, speech taps
  for row in table:
    cells = [
      r
      for r in rows
      if r['lang_a'] == r['lang_b']
      and (r['tap_a'], r['tap_b']) == (row['tap_text'], row['tap_speech'])
      and r['measure'] == row['measure']
    ]
    for name in ('value', 'floor', 'calibrated'):
      mean = sum(cell[name] for cell in cells) / 6
      assert row[name] == pytest.approx(mean, abs=1e-12)


def test_maps_hold_their_cells_and_share_a_scale(tmp_path):
  definition = synthetic.definition(layers=2)
  rows = synthetic.rows(
    definition,
    undefined=lambda row: (
      (row['tap_a'], row['tap_b']) == ('text/layer_01', 'speech/output')
    ),
  )
  table = layer_map.compute(load(tmp_path, definition, rows))
  view = layer_map.draw(table).views['svcca']
  raw, floor, calibrated = view.panels
  assert raw.limits == floor.limits
  values = [v for panel in (raw, floor) for line in panel.z for v in line if v]
  assert raw.limits[0] < min(values) < max(values) < raw.limits[1]
  assert calibrated.limits[0] == -calibrated.limits[1]
  cells = {
    (row['tap_text'], row['tap_speech']): row
    for row in table.to_pylist()
    if row['measure'] == 'svcca'
  }
  assert raw.z[2][3] == cells['text/layer_02', 'speech/norm']['value']
  assert floor.z[2][3] == cells['text/layer_02', 'speech/norm']['floor']
  for panel in view.panels:
    gaps = [
      (y, x)
      for y, line in enumerate(panel.z)
      for x, value in enumerate(line)
      if value is None
    ]
    assert gaps == [(1, 6)]
  assert [key.label for key in view.legend] == ['undefined']


def test_matching_layers_alone_leave_the_rest_open(tmp_path):
  definition = synthetic.definition(layers=2)
  same = definition['models']['tiny']['counterparts']
  rows = [
    row
    for row in synthetic.rows(definition)
    if same.get(row['tap_b']) == row['tap_a'] or row['tap_a'] == row['tap_b']
  ]
  table = layer_map.compute(load(tmp_path, definition, rows))
  z = layer_map.draw(table).views['cka'].panels[0].z
  assert sum(value is not None for line in z for value in line) == 7
