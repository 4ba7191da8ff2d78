"""Loading a run, and the means that every analysis is made of."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jaxrep.analyses import run as runs
from jaxrep.jobs import definition
from jaxrep.types import InputError
from tests.analyses import stored, synthetic


def test_loads_what_compare_wrote(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng', 'hin'))
  rows = synthetic.rows(definition)
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  assert run.definition == definition
  assert run.scores.to_pylist() == rows
  assert run.orders['measure'][0] == 'svcca'


@pytest.mark.parametrize(
  ('name', 'job'), [('plan.json', 'extract'), ('scores.parquet', 'compare')]
)
@pytest.mark.parametrize('content', [None, b'{"jaxr'])
def test_missing_or_torn_file_names_itself_and_its_job(
  tmp_path, name, job, content
):
  definition = synthetic.definition(layers=1, languages=('eng',))
  synthetic.write(tmp_path, definition, synthetic.rows(definition))
  (tmp_path / name).unlink()
  if content is not None:
    (tmp_path / name).write_bytes(content)
  with pytest.raises(InputError) as caught:
    runs.load_run(tmp_path)
  assert str(tmp_path / name) in str(caught.value)
  assert f'`python run.py {job} --workdir={tmp_path}`' in str(caught.value)


def test_scores_of_several_row_groups_are_one_table(tmp_path):
  """Each row group has words of its own, in an order of its own."""
  definition = synthetic.definition(layers=1, languages=('eng', 'hin'))
  rows = synthetic.rows(definition)
  path = synthetic.write(tmp_path, definition, rows) / 'scores.parquet'
  pq.write_table(pq.read_table(path), path, row_group_size=3)
  run = runs.load_run(tmp_path)
  assert run.scores.to_pylist() == rows
  counts = run.scores.group_by('tap_b').aggregate([('tap_b', 'count')])
  assert sum(counts['tap_b_count'].to_pylist()) == len(rows)
  chosen = run.cells(pc.field('lang_b') == 'hin')
  assert chosen.to_pylist() == [row for row in rows if row['lang_b'] == 'hin']
  assert chosen.schema.field('lang_b').type == pa.string()


def test_a_plan_made_after_the_scores_asks_for_a_new_comparison(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng',))
  rows = synthetic.rows(definition)
  del definition['measures']
  synthetic.write(tmp_path, definition, rows)
  with pytest.raises(InputError, match='newer than the scores'):
    runs.load_run(tmp_path)


def test_a_plan_of_an_earlier_version_asks_for_the_whole_run(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng',))
  rows = synthetic.rows(definition)
  for model in definition['models'].values():
    del model['control']
  synthetic.write(tmp_path, definition, rows)
  with pytest.raises(InputError, match='of an earlier jaxrep: run'):
    runs.load_run(tmp_path)


def test_scores_of_another_layout_name_the_missing_columns(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng',))
  synthetic.write(tmp_path, definition, synthetic.rows(definition))
  path = tmp_path / 'scores.parquet'
  pq.write_table(pq.read_table(path).drop_columns(['floor', 'k_a']), path)
  with pytest.raises(InputError, match='lacks the columns floor, k_a'):
    runs.load_run(tmp_path)


def test_text_speech_cells_are_one_language_in_two_modalities(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng', 'hin'))
  rows = synthetic.rows(definition)
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  cells = run.text_speech_cells().to_pylist()
  expected = [
    row
    for row in rows
    if row['modality_a'] != row['modality_b'] and row['lang_a'] == row['lang_b']
  ]
  assert len(cells) == len(expected) == 2 * 3 * 6 * 3
  assert {c['tap_text'].split('/')[0] for c in cells} == {'text'}
  assert {c['tap_speech'].split('/')[0] for c in cells} == {'speech'}


def test_languages_must_have_every_modality_asked_for(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng', 'hin', 'tam'))
  definition['models']['tiny']['languages']['speech'] = ['tam', 'eng']
  run = runs.load_run(
    synthetic.write(tmp_path, definition, synthetic.rows(definition))
  )
  assert run.languages('tiny', 'text') == ['eng', 'hin', 'tam']
  assert run.languages('tiny', 'text', 'speech') == ['eng', 'tam']


def test_means_by_level_by_hand(tmp_path):
  definition = synthetic.definition(languages=('eng', 'deu', 'hin', 'xxa'))
  del definition['resource_classes']['xxa']
  run = runs.load_run(synthetic.write(tmp_path, definition, []))
  cells = pa.table(
    {
      'model': ['tiny'] * 4,
      'language': ['eng', 'deu', 'hin', 'xxa'],
      'value': [0.5, 0.7, None, 0.3],
      'floor': [0.1, 0.3, None, None],
      'calibrated': [0.4, 0.6, None, None],
      'n': [10, 20, 1, 30],
      'k': [3, 2, None, 4],
      'ceiling': [0.9, 0.7, 0.8, None],
      'ci_low': [0.4, 0.6, None, 0.2],
      'ci_high': [0.6, 0.8, None, 0.4],
      'p': [0.01, 0.02, None, 0.03],
      'q': [0.02, 0.04, None, 0.06],
    }
  )
  means = runs.by_level(run, cells, ['model'], ('all', 'class')).to_pylist()
  found = {row['name']: row for row in means}
  assert found['all']['value'] == pytest.approx(0.5)
  assert found['all']['floor'] == pytest.approx(0.2)
  assert found['high'] | {'value': 0.6, 'floor': 0.2, 'calibrated': 0.5} == {
    'model': 'tiny',
    **{'level': 'class', 'name': 'high'},
    **{'value': 0.6, 'floor': 0.2, 'calibrated': 0.5},
    **{'used': 2, 'used_calibrated': 2, 'of': 2},
    **{'n_min': 10, 'n_max': 20, 'k_min': 2, 'k_max': 3},
    **{'ceiling': pytest.approx(0.8)},
    **dict.fromkeys(('ci_low', 'ci_high', 'p', 'q')),
  }
  assert found['high']['value'] == pytest.approx(0.6)
  assert found['high']['calibrated'] == pytest.approx(0.5)
  assert found['medium'] == {
    'model': 'tiny',
    **{'level': 'class', 'name': 'medium'},
    **{'value': None, 'floor': None, 'calibrated': None},
    **{'used': 0, 'used_calibrated': 0, 'of': 1},
    **{'n_min': None, 'n_max': None, 'k_min': None, 'k_max': None},
    **dict.fromkeys(('ceiling', 'ci_low', 'ci_high', 'p', 'q')),
  }
  assert found['unclassified']['used'] == 1
  assert found['unclassified']['used_calibrated'] == 0
  alone = found['unclassified']
  assert [alone[name] for name in ('ci_low', 'ci_high', 'p', 'q')] == [
    *(0.2, 0.4, 0.03, 0.06)
  ]
  assert alone['ceiling'] is None
  assert found['all']['ceiling'] is None  # not every defined cell has one


def test_the_store_gives_rows_and_states_of_the_run(tmp_path):
  definition = synthetic.definition(
    layers=1, languages=('eng', 'hin'), widths=(8, 8)
  )
  synthetic.write(tmp_path, definition, [])
  stored.write(tmp_path, definition)
  run = runs.load_run(tmp_path)
  assert run.stored('tiny', 'text', 'speech')
  view = run.view('tiny', 'text', 'hin')
  assert view.ids == stored.SENTENCES
  assert view.rows[3].text == 'hin s003'
  assert view.rows[3].token_ids == stored.spelt('hin', 's003')
  expected = stored.placed('tiny', 'text', 'hin', 'text/output', view.ids)
  np.testing.assert_allclose(view.read('text/output'), expected, rtol=1e-6)


def test_recordings_are_those_of_the_run(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng',), widths=(8, 8))
  synthetic.write(tmp_path, definition | {'recordings': 'mean'}, [])
  stored.write(tmp_path, definition)
  view = runs.load_run(tmp_path).view('tiny', 'speech', 'eng')
  assert view.recordings == 'mean'


def test_a_store_that_lacks_a_compared_language_is_told(tmp_path):
  definition = synthetic.definition(
    layers=1, languages=('eng', 'hin'), widths=(8, 8)
  )
  synthetic.write(tmp_path, definition, [])
  stored.write(tmp_path, definition)
  gone = tmp_path / 'store' / 'tiny' / 'speech' / 'hin'
  gone.rename(tmp_path / 'elsewhere')
  run = runs.load_run(tmp_path)
  assert run.stored('tiny', 'text')
  assert not run.stored('tiny', 'speech')
  definition['compared_languages'] = ['eng']
  synthetic.write(tmp_path, definition, [])
  assert runs.load_run(tmp_path).stored('tiny', 'speech')


@pytest.mark.parametrize(
  'change',
  [
    {'models': [1]},
    {'models': {'tiny': True}},
    {'models': {'tiny': {'languages': {'text': ['eng']}}}},
    {
      'models': {
        'tiny': {'control': '', 'languages': {'text': 1, 'speech': []}}
      }
    },
    {'compared_languages': 'eng'},
    {'measures': []},
  ],
)
def test_a_plan_of_other_fields_names_itself(tmp_path, change):
  made = synthetic.definition()
  synthetic.write(tmp_path, made, synthetic.rows(made))
  for text in (json.dumps(made | change), '[' * 100_000, '7'):
    (tmp_path / 'plan.json').write_text(text)
    for read in (runs.load_run, definition.read):
      with pytest.raises(InputError, match=r'plan\.json is '):
        read(str(tmp_path))


def test_scores_of_which_a_page_was_changed_name_themselves(tmp_path):
  made = synthetic.definition()
  synthetic.write(tmp_path, made, synthetic.rows(made))
  path = tmp_path / 'scores.parquet'
  pq.write_table(pq.read_table(path), path, write_page_checksum=True)
  data = bytearray(path.read_bytes())
  data[200] ^= 255
  path.write_bytes(data)
  with pytest.raises(InputError, match=r'scores\.parquet cannot be read'):
    runs.load_run(tmp_path)
