"""scores.parquet: what its columns hold, and what its flags refuse."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxrep import mesh, similarity
from jaxrep.jobs import compare, plan, scoring, sides
from jaxrep.types import InputError
from tests.jobs import stored

MATCHING = {
  'speech/embed': 'text/embed',
  'speech/output': 'text/output',
  'speech/adaptor': 'text/output',
}
MEASURES = (
  *('svcca', 'cka', 'cka_debiased', 'norm_ratio'),
  *('retrieval_r1', 'retrieval_r1_back'),
)


def states(rng, kind, taps, n=40, width=12):
  """A recording whose taps are ever less of a shared content."""
  shared = np.random.default_rng(9).standard_normal((n, width))
  found = {f's{i:04}': {} for i in range(n)}
  for depth, tap in enumerate(taps):
    x = shared + (0.4 + depth) * rng.standard_normal((n, width))
    for row, one in zip(x, found.values(), strict=True):
      one[f'{kind}/{tap}'] = row
  return [found]


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """Two languages, text of two layers and speech of three."""
  rng = np.random.default_rng(0)
  folder = tmp_path_factory.mktemp('run')
  sides = {
    **{(one, 'text'): ('embed', 'output') for one in ('eng', 'fra')},
    ('eng', 'speech'): ('embed', 'output', 'adaptor'),
  }
  sides = {key: states(rng, key[1], taps) for key, taps in sides.items()}
  return folder, sides, stored.write(folder, sides, counterparts=MATCHING)


@pytest.fixture(scope='module')
def rows(written):
  folder, _, definition = written
  calibration = similarity.Calibration(permutations=40, joint=40, replicates=12)
  choice = stored.choice(folder, measures=MEASURES, calibration=calibration)
  found = scoring.score_run(definition, choice, mesh.local_mesh())
  return found.table.to_pylist()


def of(rows, measure):
  return [row for row in rows if row['measure'] == measure]


def test_columns_are_those_that_analyses_read(rows):
  from jaxrep.analyses import run

  assert set(rows[0]) == set(run.COLUMNS)
  assert len(rows) == len(MEASURES) * (3 + 3 + 6 + 4 + 2 * 6)
  assert all(row['status'] == 'ok' for row in rows)
  assert {row['n'] for row in rows} == {40}
  assert {(row['modality_a'], row['modality_b']) for row in rows} == {
    *(('text', 'text'), ('text', 'speech'), ('speech', 'speech'))
  }


@pytest.mark.parametrize('measure', MEASURES)
def test_q_is_by_benjamini_and_hochberg_over_the_measure(rows, measure):
  """The smallest level at which the step-up rule rejects a cell."""
  cells = of(rows, measure)

  def counts(row):
    ends = (
      tuple(row[f'{name}_{end}'] for name in ('tap', 'lang', 'modality'))
      for end in 'ab'
    )
    return row['p'] is not None and len({*ends}) == 2

  p = sorted(row['p'] for row in cells if counts(row))
  for row in cells:
    expected = None
    if counts(row):
      levels = [
        one * len(p) / rank for rank, one in enumerate(p, 1) if one >= row['p']
      ]
      expected = pytest.approx(min(1, *levels), rel=1e-12)
    assert row['q'] == expected
  assert any(row['q'] is not None for row in cells) == (measure != 'norm_ratio')


def test_a_measure_without_a_floor_has_its_value_alone(rows):
  for row in of(rows, 'norm_ratio'):
    assert 0 < row['value'] <= 1.0001
    for name in ('floor', 'floor_sd', 'calibrated', 'z', 'p', 'p_map', 'q'):
      assert row[name] is None
    assert row['k'] is row['k_a'] is row['ceiling'] is None


def test_p_of_a_map_is_at_least_that_of_its_cell(rows):
  """Drawn in steps of 1 / 41; the map is of one pair of sides."""
  for row in of(rows, 'svcca'):
    assert row['p_map'] * 41 == pytest.approx(round(row['p_map'] * 41))
    assert 1 / 41 <= row['p_map'] <= 1
  noise = [row for row in rows if row['p'] and row['p'] > 0.2]
  assert noise
  assert all(row['p_map'] >= row['p'] - 0.2 for row in noise)


def retrieved(x, y):
  """Share of rows of x whose most alike row of y is their own."""
  x, y = (side - side.mean(axis=0) for side in (x, y))
  x, y = (side / np.linalg.norm(side, axis=1)[:, None] for side in (x, y))
  return np.mean(np.argmax(x @ y.T, axis=1) == np.arange(len(x)))


def test_a_direction_goes_from_the_side_in_front(written, rows):
  sides = written[1]

  def at(end, row):
    found = sides[row[f'lang_{end}'], row[f'modality_{end}']][0]
    return np.float32([one[row[f'tap_{end}']] for one in found.values()])

  differ = 0
  there, back = of(rows, 'retrieval_r1'), of(rows, 'retrieval_r1_back')
  for row, other in zip(there, back, strict=True):
    x, y = at('a', row), at('b', row)
    expected = retrieved(x, y), retrieved(y, x)
    assert (row['value'], other['value']) == pytest.approx(expected, abs=1e-6)
    differ += expected[0] != expected[1]
  assert differ > 5


def test_intervals_by_replicates_are_of_counterparts(rows):
  """CKA has them everywhere; SVCCA where a layer meets its counterpart."""
  for row in of(rows, 'cka'):
    ends = [[row[f'{n}_{end}'] for n in ('lang', 'tap')] for end in 'ab']
    assert (row['ci_low'] is None) == (ends[0] == ends[1])
    assert row['ci_low'] is None or row['ci_low'] < row['ci_high']
  there = {
    (row['modality_a'], row['tap_a'], row['tap_b'])
    for row in of(rows, 'svcca')
    if row['ci_low'] is not None
  }
  assert there == {
    *(('text', tap, tap) for tap in ('text/embed', 'text/output')),
    *(('text', text, speech) for speech, text in MATCHING.items()),
  }
  for row in of(rows, 'svcca'):
    if row['ci_low'] is not None:
      assert row['ci_low'] < row['value'] < row['ci_high']


@pytest.mark.parametrize(('replicates', 'calls'), [(0, 1), (12, 2)])
def test_cells_are_scored_once_but_for_replicates(
  written, monkeypatch, replicates, calls
):
  folder, _, definition = written
  score, seen = similarity.score_pairs, []

  def counted(states, pairs, **options):
    seen.append((len(pairs), options['calibration'].replicates))
    assert options['ids'] == tuple(f's{i:04}' for i in range(40))
    if not options['calibration'].replicates:
      assert len(set(options['maps'])) == 6  # pairs of sides
    return score(states, pairs, **options)

  monkeypatch.setattr(similarity, 'score_pairs', counted)
  calibration = similarity.Calibration(permutations=2, replicates=replicates)
  choice = stored.choice(
    folder, measures=('svcca',), calibration=calibration, common_ids='all'
  )
  found = scoring.score_run(definition, choice, mesh.local_mesh())
  assert seen == [(28, 0), (2 + 6, replicates)][:calls]
  there = len(found.table) - found.table['ci_low'].null_count
  assert there == (8 if replicates else 0)


def test_definitions_say_how_each_number_was_made(written):
  folder, _, definition = written
  config = compare.Config(
    workdir=str(folder), measures=('svcca', 'cka'), replicates=12
  )
  compare.run(config)
  defined = json.loads((folder / 'plan.json').read_text())
  assert defined['models'] == definition['models']
  assert defined['ceiling'] is False
  for part in ('principal components', 'floor: Wachter', ' 12 '):
    assert part in defined['measures']['svcca']
  for part in ('biased', 'floor: exact mean', 'jackknife'):
    assert part in defined['measures']['cka']
  assert 'ceiling' not in defined['measures']['cka']
  kinds = {field.name: field.type for field in scoring.SCHEMA}
  words = {
    n: pa.string() for n, k in kinds.items() if pa.types.is_dictionary(k)
  }
  read = pq.read_table(folder / 'scores.parquet')
  assert read.schema == pa.schema(kinds | words)
  assert not (folder / scoring.PARTS).exists()


@pytest.mark.parametrize(
  ('flag', 'value', 'words'),
  [
    ('measures', ('svcca', 'ckaa'), "Unknown measure 'ckaa'. Did you mean cka"),
    ('measures', (), '--measures'),
    ('measures', ('cka', 'svcca', 'cka'), '--measures names cka twice'),
    ('svcca_variance', 1.5, '--svcca_variance=1.5'),
    ('svcca_k', -1, '--svcca_k=-1'),
    ('ridge', -0.5, '--ridge=-0.5'),
    ('heldout_splits', 0, '--heldout_splits=0'),
    ('neighbours', 0, '--neighbours=0'),
    ('minimum_ids', 2, '--minimum_ids=2'),
    ('permutations', 0, '--permutations=0'),
    ('joint_permutations', -1, '--joint_permutations=-1'),
    ('replicates', 3, '--replicates=3'),
    ('replicates', -1, '--replicates=-1'),
    ('seed', -1, '--seed=-1'),
    ('seed', 2**31, '--seed=2147483648: give a number from 0 to 2147483647'),
  ],
)
@pytest.mark.parametrize('job', [compare, plan])
def test_a_wrong_flag_is_named_before_anything_is_read(
  tmp_path, job, flag, value, words
):
  config = job.Config(workdir=str(tmp_path / 'none'), **{flag: value})
  with pytest.raises(InputError) as caught:
    job.run(config)
  assert words in str(caught.value)
  assert not (tmp_path / 'none').exists()


def test_means_of_recordings_have_no_ceiling(tmp_path):
  stored.write(
    tmp_path,
    {('eng', 'text'): states(np.random.default_rng(0), 'text', ('output',))},
    recordings='mean',
  )
  with pytest.raises(InputError, match='--recordings=first'):
    compare.compare(compare.Config(workdir=str(tmp_path), ceiling=True))
  config = plan.Config(workdir=str(tmp_path), ceiling=True, recordings='mean')
  with pytest.raises(InputError, match='--recordings=first'):
    plan.run(config)


def definition_of(**covered):
  """A run of models, and the languages that each reads by modality."""
  every = [
    iso for model in covered.values() for c in model.values() for iso in c
  ]
  return {
    'languages': list(dict.fromkeys(every)),
    'models': {
      name: {
        'modalities': list(model),
        'languages': {'text': [], 'speech': [], **model},
      }
      for name, model in covered.items()
    },
  }


def test_the_languages_that_all_models_read_in_all_their_modalities():
  made = definition_of(
    one={'text': ['eng', 'fra', 'amh'], 'speech': ['eng', 'fra']},
    two={'text': ['eng', 'fra', 'swh', 'amh']},
  )
  assert sides.compared(made, 'common') == ['eng', 'fra']
  assert sides.compared(made, 'own') == ['eng', 'fra', 'amh', 'swh']
  none = definition_of(one={'text': ['eng'], 'speech': []})
  with pytest.raises(InputError, match=r'one speech: none.*--language_set=own'):
    sides.compared(none, 'common')


def test_other_languages_are_neither_read_nor_scored(tmp_path):
  rng = np.random.default_rng(0)
  made = {
    ('eng', 'text'): states(rng, 'text', ('output',)),
    ('fra', 'text'): states(rng, 'text', ('output',)),
    ('eng', 'speech'): states(rng, 'speech', ('output',)),
  }
  definition = stored.write(tmp_path, made)
  found = {}
  for chosen in ('common', 'own'):
    choice = stored.choice(tmp_path, language_set=chosen)
    table = scoring.score_run(definition, choice, mesh.local_mesh()).table
    found[chosen] = set(table['lang_a'].to_pylist()) | set(
      table['lang_b'].to_pylist()
    )
  assert found == {'common': {'eng'}, 'own': {'eng', 'fra'}}


def test_a_score_without_a_value_has_no_sizes_and_is_counted(tmp_path, caplog):
  """Of 12 sentences all components are kept: every pairing is as good."""
  rng = np.random.default_rng(0)
  made = {
    ('eng', kind): states(rng, kind, ('output',), n=12)
    for kind in ('text', 'speech')
  }
  stored.write(tmp_path, made)
  config = compare.Config(
    workdir=str(tmp_path),
    measures=('svcca',),
    svcca_variance=0.99999,
    minimum_ids=3,
  )
  with caplog.at_level('WARNING'):
    compare.run(config)
  rows = pq.read_table(tmp_path / 'scores.parquet').to_pylist()
  (row,) = (row for row in rows if row['modality_a'] != row['modality_b'])
  assert (row['value'], row['k'], row['k_a'], row['k_b']) == (None,) * 4
  assert row['n'] == 12
  assert '3 of 3 scores have no value; most often: every pairing' in caplog.text


def test_a_model_without_a_compared_language_is_passed_over(tmp_path, caplog):
  rng, models = np.random.default_rng(0), {}
  for name, language in (('one', 'eng'), ('two', 'fra')):
    made = {(language, 'text'): states(rng, 'text', ('output',))}
    definition = stored.write(tmp_path, made, model=name)
    models |= definition['models']
  definition |= {'models': models, 'languages': ['eng']}
  choice = stored.choice(tmp_path, language_set='own')
  table = scoring.score_run(definition, choice, mesh.local_mesh()).table
  assert table['model'].to_pylist() == ['one']
  assert 'two reads no language that is compared' in caplog.text
  definition |= {'languages': ['swh']}
  with pytest.raises(InputError, match=r'no model reads one of .* swh'):
    scoring.score_run(definition, choice, mesh.local_mesh())


def test_a_plan_leaves_a_run_whose_scores_outlived_its_store(tmp_path):
  (tmp_path / 'plan.json').write_text('{"of": "the scores"}')
  (tmp_path / 'scores.parquet').touch()
  plan.run(
    plan.Config(
      workdir=str(tmp_path), models=('control-surface',), languages='eng'
    )
  )
  assert (tmp_path / 'plan.json').read_text() == '{"of": "the scores"}'


def test_the_states_of_one_model_at_a_time_are_held(tmp_path, monkeypatch):
  """Those of a model are given up before the next one's are read."""
  import gc
  import weakref

  rng, models, alive = np.random.default_rng(0), {}, []
  for name in ('one', 'two', 'three'):
    sides = {('eng', 'text'): states(rng, 'text', ('output',))}
    definition = stored.write(tmp_path, sides, model=name)
    models |= definition['models']
  read = scoring.sides.read

  def watched(*args):
    gc.collect()
    assert not [x for ref in alive if (x := ref()) is not None]
    held = read(*args)
    alive.extend(
      weakref.ref(x) for one in held.values() for x in one.states.values()
    )
    return held

  monkeypatch.setattr(scoring.sides, 'read', watched)
  scoring.score_run(
    {**definition, 'models': models}, stored.choice(tmp_path), mesh.local_mesh()
  )
  assert len(alive) == 3
