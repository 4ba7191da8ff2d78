import pytest

from jaxrep.analyses import adaptor
from jaxrep.analyses import run as runs
from tests.analyses import synthetic

KNOWN = {  # (language, speech tap): value, floor, calibrated
  ('eng', 'speech/pre_adaptor'): (0.50, 0.40, 0.10),
  ('eng', 'speech/adaptor'): (0.70, 0.50, 0.30),
  ('deu', 'speech/pre_adaptor'): (0.20, 0.10, 0.05),
  ('deu', 'speech/adaptor'): (0.30, 0.10, 0.15),
  ('hin', 'speech/pre_adaptor'): (0.90, 0.50, 0.80),
  ('hin', 'speech/adaptor'): (None, None, None),
}
NAMES = ('value', 'floor', 'calibrated')


@pytest.fixture
def run(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng', 'deu', 'hin'))
  rows = []
  for row in synthetic.rows(definition, measures=('svcca',)):
    known = KNOWN.get((row['lang_a'], row['tap_b']))
    if row['lang_a'] == row['lang_b'] and row['tap_a'] == 'text/output':
      row |= dict(zip(NAMES, known, strict=True)) if known else {}
    rows.append(row)
  return runs.load_run(synthetic.write(tmp_path, definition, rows))


def by_name(table, stage):
  return {r['name']: r for r in table.to_pylist() if r['stage'] == stage}


def numbers(row):
  return [row[name] for name in NAMES]


def test_change_of_each_language(run):
  change = by_name(adaptor.compute(run), 'change')
  assert numbers(change['eng']) == pytest.approx([0.2, 0.1, 0.2])
  assert numbers(change['deu']) == pytest.approx([0.1, 0.0, 0.1])
  assert numbers(change['hin']) == [None, None, None]


def test_class_means_and_their_change(run):
  table = adaptor.compute(run)
  before, after = by_name(table, 'before'), by_name(table, 'after')
  change = by_name(table, 'change')
  assert numbers(before['high']) == pytest.approx([0.35, 0.25, 0.075])
  assert numbers(after['high']) == pytest.approx([0.5, 0.3, 0.225])
  assert numbers(change['high']) == pytest.approx([0.15, 0.05, 0.15])


def test_a_language_undefined_on_one_side_enters_no_mean(run):
  table = adaptor.compute(run)
  before, change = by_name(table, 'before'), by_name(table, 'change')
  assert before['hin']['value'] == 0.9  # stays visible by itself
  assert before['medium']['value'] is None
  assert numbers(before['all']) == pytest.approx([0.35, 0.25, 0.075])
  assert numbers(change['all']) == pytest.approx([0.15, 0.05, 0.15])
  assert (change['all']['used'], change['all']['of']) == (2, 3)


def test_rows_go_class_by_class_with_the_mean_first(run):
  view = adaptor.draw(adaptor.compute(run)).views['svcca']
  raw, calibrated = view.panels
  assert [row.label for row in raw.rows] == [
    *('high-resource mean', 'English', 'German'),
    *('medium-resource mean', 'Hindi'),
  ]
  english = raw.rows[1]
  assert (english.before, english.after) == (0.5, 0.7)
  assert english.floors == (0.4, 0.5)
  assert calibrated.rows[1].floors == (None, None)
  assert raw.rows[4].after is None


def test_headlines_give_both_sides_and_the_change(run):
  lines = {x.quantity: x for x in adaptor.headlines(adaptor.compute(run))}
  assert lines['adaptor_before'].row['value'] == pytest.approx(0.35)
  assert lines['adaptor_change'].row['value'] == pytest.approx(0.15)
  assert lines['adaptor_change'].taps == (
    'text/output with speech/pre_adaptor → speech/adaptor'
  )


def test_a_model_without_an_adaptor_shows_nothing(tmp_path):
  definition = synthetic.definition(layers=1)
  definition['models']['tiny']['adaptor'] = None
  rows = synthetic.rows(definition)
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  table = adaptor.compute(run)
  assert len(table) == 0
  assert not adaptor.draw(table).views
  assert adaptor.headlines(table) == ()


def test_intervals_are_of_languages_and_not_of_means_or_changes(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng', 'deu', 'hin'))
  rows = [row | {'ceiling': 0.9} for row in synthetic.rows(definition)]
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  table = adaptor.compute(run)
  for row in table.to_pylist():
    alone = row['name'] in ('eng', 'deu', 'hin', 'medium')
    there = alone and row['stage'] != 'change'
    if row['measure'] == 'cka':
      assert (row['ci_low'] is not None) == there
    assert (row['p'] is not None) == (row['q'] is not None) == there
    assert (row['ceiling'] is None) == (row['stage'] == 'change')
  views = adaptor.draw(table).views
  raw, calibrated = views['cka'].panels
  low, high = raw.rows[1].intervals[0]
  assert (raw.rows[1].before - low, high - raw.rows[1].before) == (
    pytest.approx(0.03),
    pytest.approx(0.04),
  )
  assert raw.rows[0].intervals == ((None, None), (None, None))
  assert calibrated.rows[1].intervals == ()
  assert raw.limits[0] < low
  assert any(key.role == 'bar' for key in views['cka'].legend)
  assert all(key.role != 'bar' for key in views['svcca'].legend)
