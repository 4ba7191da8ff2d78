import pytest

from jaxrep.analyses import cross_lingual
from jaxrep.analyses import run as runs
from tests.analyses import synthetic


def load(tmp_path, definition, **options):
  rows = synthetic.rows(definition, **options)
  return runs.load_run(synthetic.write(tmp_path, definition, rows)), rows


def test_means_equal_a_plain_loop_over_language_pairs(tmp_path):
  run, rows = load(tmp_path, synthetic.definition(layers=2))
  table = cross_lingual.compute(run).to_pylist()
  assert len(table) == 3 * (4 + 7)  # measures, taps of text and speech
  for row in table:
    cells = [
      r
      for r in rows
      if r['lang_a'] != r['lang_b']
      and r['tap_a'] == r['tap_b'] == row['tap']
      and r['measure'] == row['measure']
    ]
    assert row['used'] == row['of'] == len(cells) == 15
    for name in ('value', 'floor', 'calibrated'):
      mean = sum(cell[name] for cell in cells) / 15
      assert row[name] == pytest.approx(mean, abs=1e-12)


def test_three_known_pairs_by_hand(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng', 'hin', 'tam'))
  known = {('eng', 'hin'): 0.2, ('eng', 'tam'): 0.6, ('hin', 'tam'): None}
  rows = [
    row | {'value': known[row['lang_a'], row['lang_b']]}
    for row in synthetic.rows(definition)
    if row['tap_a'] == row['tap_b'] == 'speech/norm'
  ]
  rows.append(rows[0] | {'lang_b': rows[0]['lang_a'], 'value': 1.0})  # itself
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  row = cross_lingual.compute(run).to_pylist()[0]
  assert row['value'] == pytest.approx(0.4)
  assert (row['used'], row['of']) == (2, 3)


def test_both_modalities_share_one_layer_axis(tmp_path):
  definition = synthetic.definition(layers=2)
  taps = definition['models']['tiny']['taps']
  taps['text'].insert(3, ['text/final_norm', 64])
  run, _ = load(tmp_path, definition)
  table = cross_lingual.compute(run).to_pylist()
  at = {row['tap']: row['position'] for row in table}
  assert at == {
    **{'text/embed': 0, 'speech/embed': 0},
    **{'text/layer_01': 1, 'speech/layer_01': 1},
    **{'text/layer_02': 2, 'speech/layer_02': 2, 'text/final_norm': 3},
    **{'speech/norm': 4, 'speech/pre_adaptor': 5, 'speech/adaptor': 6},
    **{'text/output': 7, 'speech/output': 7},
  }
  panel = cross_lingual.draw(cross_lingual.compute(run)).views['cka'].panels[0]
  text = next(line for line in panel.lines if line.key.label.startswith('text'))
  assert len(text.x) == 5
  assert None not in text.y


def test_a_layer_without_any_defined_pair_is_a_gap(tmp_path):
  run, _ = load(
    tmp_path,
    synthetic.definition(layers=2),
    undefined=lambda row: row['tap_b'] == 'speech/layer_01',
  )
  view = cross_lingual.draw(cross_lingual.compute(run)).views['svcca']
  speech = next(
    line for line in view.panels[0].lines if 'speech, mean' in line.key.label
  )
  assert [i for i, y in enumerate(speech.y) if y is None] == [1]


def test_headlines_are_the_last_layers(tmp_path):
  run, _ = load(tmp_path, synthetic.definition(layers=2))
  lines = cross_lingual.headlines(cross_lingual.compute(run))
  assert [(x.quantity, x.taps) for x in lines if x.measure == 'svcca'] == [
    ('cross_lingual_text', 'text/output'),
    ('cross_lingual_speech', 'speech/output'),
  ]
