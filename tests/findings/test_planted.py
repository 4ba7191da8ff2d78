"""What is planted is found, and what is not planted is not."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from benchmarks import planted
from benchmarks.planted import CLASSES, LAYERS, Parts
from jaxrep import similarity
from jaxrep.findings import SMALLEST, statistics
from jaxrep.findings import evaluate as evaluating
from jaxrep.findings.evaluate import SHARES, by_n, evaluate, judge
from jaxrep.findings.scores import MEASURES, Settings

SETTINGS = Settings(k=6, rounds=3, splits=2)
CALIBRATED = (*MEASURES[1:], 'svcca_k')
MAIN = ('1', '2', '3', '4')
WIDE = Settings(k=3, rounds=3, splits=2)


def evaluate_one(model, statistic, measure):
  return list(judge(model, {'1': statistic}, measure, SETTINGS, SMALLEST))


def found(model, settings=SETTINGS, measures=('cka_debiased',)):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(evaluating, 'MEASURES', measures)
    patch.setattr(evaluating, 'UNCENTRED', ())
    rows = evaluate(model, settings)
  return {(row['finding'], row['measure']): row for row in rows}


def as_reported(language, modality, layer):
  """All four findings, as the study reports them.

  Convergence after a dip, an adaptor that helps but for the low class, speech
  with less in common across languages, and more of its own kind than language.
  """
  strength = (0.5, 0.2, 0.3, 0.4, 0.8)[layer]
  if modality == 'text':
    return Parts(common=strength, kind=0.6)
  if layer == LAYERS - 1 and CLASSES[language] == 'low':
    strength = 0.4
  return Parts(common=0.8 * strength, kind=0.2)


@pytest.fixture(scope='module')
def study():
  model = planted.model(as_reported, n=192, adaptor=True)
  return found(model, measures=MEASURES)


@pytest.mark.parametrize('measure', CALIBRATED)
@pytest.mark.parametrize(
  'finding', [*MAIN, '1.dip', '1.rise', '1.resource', '2.resource', '3.last']
)
def test_each_finding_that_is_planted_holds(study, finding, measure):
  row = study[finding, measure]
  assert row['verdict'] == 'holds', row
  assert row['ci_low'] < row['value'] < row['ci_high']
  assert row['calibrated_low'] < row['calibrated'] < row['calibrated_high']
  assert row['calibrated_p'] < 0.05
  assert row['n'] == (96 if finding in ('1.dip', '1.rise') else 192)
  assert row['languages'] == (4 if finding == '1.resource' else 6)


def test_the_layer_of_the_dip_is_found(study):
  for measure in CALIBRATED:
    assert study['1.dip', measure]['note'] == 'picked: speech/1'


def test_a_published_score_is_judged_after_calibration_at_the_fixed_k(study):
  for finding in MAIN:
    published, fixed = (study[finding, m] for m in ('svcca', 'svcca_k'))
    assert published['calibrated'] == fixed['calibrated']
    assert published['value'] != fixed['value']
    assert fixed['k_min'] == fixed['k_max'] == 6
    assert published['k_min'] > 20


def turned(language, modality, layer):
  """The four findings turned round."""
  if modality == 'text':
    return Parts(common=(0.9, 0.7, 0.6, 0.5, 0.5)[layer], own=0.7)
  strength = (0.9, 0.7, 0.6, 0.5, 0.2)[layer]
  return Parts(common=strength, own=0.7, kind=0.8)


def test_what_is_planted_the_other_way_round_is_reversed():
  model = planted.model(turned, n=192, adaptor=True)
  rows = found(model, measures=('svcca', 'cka_debiased'))
  for measure in ('svcca_k', 'cka_debiased'):
    verdicts = {one: rows[one, measure]['verdict'] for one in MAIN}
    assert verdicts == dict.fromkeys(MAIN, 'reversed')


def noisy(language, modality, layer):
  """Text that is the meaning, and speech that is it and noise."""
  return Parts(common=6.0 if modality == 'text' else 0.5)


def test_over_its_ceiling_noise_of_recordings_is_no_spread_of_languages():
  """Speech differs between languages by what it differs from itself by."""
  measures = ('cka_debiased', 'svcca_heldout')
  rows = found(planted.model(noisy, n=192, again=True), WIDE, measures)
  for measure in measures:
    for finding in ('3', '4'):
      plain = rows['3.last' if finding == '3' else '4', measure]
      assert plain['verdict'] == 'holds'
      over = rows[f'{finding}.ceiling', measure]
      assert abs(over['calibrated']) < 0.2 * plain['calibrated']
      assert over['calibrated_low'] < 0.02


def test_without_second_recordings_there_is_no_ceiling(study):
  row = study['3.ceiling', 'cka_debiased']
  assert row['verdict'] == 'not measured'
  assert '--ceiling' in row['note']


def nothing(language, modality, layer):
  return Parts()


def more_components(rows, modality, layer, generator):
  """Two strong directions that fade with depth: k grows, and chance with it."""
  rows = rows.copy()
  rows[:, :2] *= 10 ** (2 - layer / 2)
  return rows


def less_uneven(rows, modality, layer, generator):
  """Norms that are uneven at first: chance grows as they become even."""
  norms = generator.lognormal(0, 0.35 * (LAYERS - 1 - layer), len(rows))
  return rows * norms[:, None]


@pytest.mark.parametrize(
  'shape,measure,rises',
  [(more_components, 'svcca', 0.2), (less_uneven, 'svcca_k', 0.02)],
)
def test_where_raw_svcca_sees_convergence_calibration_sees_none(
  shape, measure, rises
):
  """Nothing is shared at any layer; only what chance gives rises."""
  raw, calibrated = [], []
  for seed in range(6):
    model = planted.model(nothing, n=192, shape=shape, seed=seed)
    cells = statistics.convergence(model.layout)
    rows = evaluate_one(model, cells, 'svcca')
    row = next(row for row in rows if row['measure'] == measure)
    raw.append(row['value'])
    calibrated.append(row['calibrated'])
    if measure == 'svcca':
      assert row['k_max'] > row['k_min'] + 10
      assert row['ci_low'] > 0
  assert min(raw) > rises
  errors = np.std(calibrated, ddof=1) / len(calibrated) ** 0.5
  assert abs(np.mean(calibrated)) < 3 * errors
  assert np.mean(raw) > 2 * abs(np.mean(calibrated))


def test_findings_on_parts_of_the_sentences_are_of_nested_sets(
  study, monkeypatch
):
  monkeypatch.setattr(evaluating, 'MEASURES', ('cka_debiased',))
  model = planted.model(as_reported, n=192, adaptor=True)
  rows = by_n(model, SETTINGS)
  assert {row['n'] for row in rows} == {round(192 * s) for s in SHARES}
  assert {row['finding'] for row in rows} == set(MAIN)
  wide = [
    next(
      row['calibrated_high'] - row['calibrated_low']
      for row in rows
      if (row['finding'], row['measure'], row['n']) == ('1', 'cka_debiased', n)
    )
    for n in (48, 96)
  ]
  whole = study['1', 'cka_debiased']
  assert wide[0] > wide[1] > whole['calibrated_high'] - whole['calibrated_low']


def test_over_hours_it_is_the_slope_for_ten_times_as_many():
  hours = dict(zip(planted.LANGUAGES, (3e4, 1e4, 900, 400, 20, 5), strict=True))

  def learnt(language, modality, layer):
    return Parts(common=0.1 + 0.2 * np.log10(hours[language]))

  model = planted.model(learnt, n=192, adaptor=True)
  model = dataclasses.replace(model, layout=model.layout._replace(hours=hours))
  rows = found(model, WIDE)
  row = rows['1.hours', 'cka_debiased']
  last = model.layout.layers[-1]
  scores = [
    similarity.cka(
      model.sides[one, 'text'].states[last[0]],
      model.sides[one, 'speech'].states[last[1]],
      debiased=True,
    ).value
    for one in planted.LANGUAGES
  ]
  line = stats.linregress(np.log10(list(hours.values())), scores)
  assert row['value'] == pytest.approx(line.slope, abs=1e-5)
  assert row['verdict'] == 'holds'
  assert row['languages'] == 6
  # The adaptor does nothing here.
  assert rows['2.hours', 'cka_debiased']['verdict'] != 'holds'


def test_a_model_without_an_adaptor_or_classes_is_told_so():
  model = planted.model(as_reported, n=48)
  bare = model.layout._replace(classes={})
  rows = found(
    type(model)(model.name, bare, model.sides),
    Settings(k=4, rounds=2, splits=1),
  )
  for finding in ('2', '2.resource', '1.resource', '1.hours', '2.hours'):
    row = rows[finding, 'cka_debiased']
    assert row['verdict'] == 'not measured'
    assert row['note'] == 'the model or its languages do not have this'
    assert row['value'] is None
    assert row['languages'] == 0
    assert row.keys() == rows['1', 'cka_debiased'].keys()
