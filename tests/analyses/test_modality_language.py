import pytest

from jaxrep.analyses import modality_language
from jaxrep.analyses import run as runs
from tests.analyses import synthetic

LANGUAGES = ('eng', 'deu', 'hin')
OWN = {'eng': 0.6, 'deu': 0.5, 'hin': 0.1}
BETWEEN = {('eng', 'deu'): 0.9, ('eng', 'hin'): 0.3, ('deu', 'hin'): 0.6}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  definition = synthetic.definition(layers=1, languages=LANGUAGES)
  rows = []
  for row in synthetic.rows(definition, measures=('svcca',)):
    kinds = row['modality_a'], row['modality_b']
    pair = row['lang_a'], row['lang_b']
    value = None
    if row['tap_a'] == 'text/output' and kinds == ('text', 'speech'):
      value = OWN[pair[0]] if row['tap_b'] == 'speech/output' else None
      value = value if pair[0] == pair[1] else None
    if row['tap_a'] == row['tap_b'] == 'text/output' and pair[0] != pair[1]:
      value = BETWEEN[pair]
    if value is not None:
      row |= {'value': value, 'calibrated': value - 0.1, 'floor': 0.05}
    rows.append(row)
  folder = tmp_path_factory.mktemp('run')
  return runs.load_run(synthetic.write(folder, definition, rows))


def of(table, kind):
  return {r['name']: r for r in table.to_pylist() if r['kind'] == kind}


def test_each_language_has_its_speech_and_the_mean_of_its_translations(run):
  table = modality_language.compute(run)
  speech, translations = (of(table, kind) for kind in modality_language.KINDS)
  assert {name: speech[name]['value'] for name in LANGUAGES} == OWN
  expected = {'eng': 0.6, 'deu': 0.75, 'hin': 0.45}
  for name, value in expected.items():
    assert translations[name]['value'] == pytest.approx(value)
    assert translations[name]['calibrated'] == pytest.approx(value - 0.1)
    assert (translations[name]['used'], translations[name]['of']) == (2, 2)


def test_the_mean_is_over_languages_and_over_pairs(run):
  table = modality_language.compute(run)
  speech, translations = (of(table, kind) for kind in modality_language.KINDS)
  assert speech['all']['value'] == pytest.approx(0.4)
  assert translations['all']['value'] == pytest.approx(0.6)
  assert (translations['all']['used'], translations['all']['of']) == (3, 3)


def test_a_row_goes_from_translations_to_speech(run):
  figure = modality_language.draw(modality_language.compute(run))
  raw, calibrated = figure.views['svcca'].panels
  labels = [row.label for row in raw.rows]
  assert labels == ['mean over languages', 'English', 'German', 'Hindi']
  (hindi,) = (row for row in raw.rows if row.label == 'Hindi')
  assert (hindi.before, hindi.after) == pytest.approx((0.45, 0.1))
  assert hindi.floors == pytest.approx((0.05, 0.05))
  assert calibrated.rows[0].floors == (None, None)
  assert raw.rows[0].emphasis and not hindi.emphasis
  assert 'own speech' in hindi.hover[1]


def test_of_one_language_there_is_nothing_to_compare(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng',))
  rows = synthetic.rows(definition)
  alone = runs.load_run(synthetic.write(tmp_path, definition, rows))
  table = modality_language.compute(alone)
  assert set(table['kind'].to_pylist()) == {'speech'}
  assert not modality_language.draw(table).views
