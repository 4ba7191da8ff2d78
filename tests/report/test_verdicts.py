"""Verdicts on the page, in summary.json and as CSV."""

import json

import pyarrow.csv
import pytest
from etils import epath

from jaxrep import analyses
from jaxrep.analyses import run as runs
from jaxrep.report import page, plots, tables, verdicts
from tests.analyses import synthetic
from tests.report import made
from tests.report.test_page import Elements, render, words


@pytest.fixture(scope='module')
def definition():
  return synthetic.definition(layers=1, models=('one', 'two'))


@pytest.fixture(scope='module')
def findings(definition):
  return made.verdicts(definition)


@pytest.fixture(scope='module')
def elements(definition, findings, tmp_path_factory):
  return render(tmp_path_factory.mktemp('run'), definition, findings)


def test_the_first_screen_has_a_verdict_a_finding_model_and_measure(
  elements, findings
):
  head = words(elements).split('Text against speech, by layer')[0]
  for claim in (made.CLAIMS[name] for name in ('1', '2', '3', '4')):
    assert head.count(claim) == 3  # once a measure
  assert made.CLAIMS['1.dip'] not in head
  main = [v.verdict for v in findings if '.' not in v.finding]
  for word in set(main):
    symbol = verdicts.MARKS[word].symbol
    assert head.count(f'{symbol} {word}') == main.count(word), word


def test_a_measure_without_a_figure_can_still_be_chosen(elements):
  shown = [a['data-show'] for _, a in elements.tags if 'data-show' in a]
  assert shown == ['svcca', 'cka', 'cka_debiased', 'retrieval_r1']
  found = words(elements)
  assert 'No verdict was reached under CKA' in found
  assert found.count('Not drawn under R@1.') == 7


def test_all_rows_stand_in_the_full_table_with_numbers_to_sort_by(
  elements, findings
):
  cells = [a.get('data-sort') for tag, a in elements.tags if tag == 'td']
  sortable = [float(one) for one in cells if one and not one.startswith('−')]
  for v in findings:
    if v.value is not None:
      assert v.value in sortable
  full = words(elements).split('The findings in full')[-1]
  assert full.count('The model has no length adaptor.') == sum(
    v.verdict == 'not measured' for v in findings
  )
  assert 'The statistic of 2.resource.' in full


def test_the_calibrated_statistic_decides_and_agreement_is_counted(definition):
  rows = [
    made.verdict('1', 'one', 'svcca', 'holds', 0.25),
    made.verdict('1', 'one', 'svcca_k', 'reversed', 0.25),
    made.verdict('1', 'one', 'cka', 'holds', 0.5),
    made.verdict('1', 'one', 'cka_debiased', 'no effect'),
    made.verdict('1', 'one', 'retrieval_r1', 'not measured'),
    made.verdict('2', 'one', 'svcca', 'holds', 0.25, calibrated=None),
  ]
  board = verdicts.board(rows, ['svcca', 'cka', 'retrieval_r1'], definition)
  (first, absent), (second, _) = (row['cells'] for row in board['svcca'])
  assert first['estimate'] == '+0.125 [0.105, 0.145]'
  assert first['agreement'] == '2/3'
  assert board['cka'][0]['cells'][0]['agreement'] == '2/3'
  assert second['estimate'] == 'raw +0.250 [0.210, 0.290]'
  assert second['agreement'] == ''
  assert absent['verdict'] == 'not measured'
  assert board['retrieval_r1'][0]['cells'][0]['agreement'] == ''


def test_summary_json_and_csv_carry_them(definition, findings, tmp_path):
  rows = synthetic.rows(definition)
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  page.write_report(
    run, analyses.analyze(run, ['text_speech']), tmp_path, findings
  )
  summary = json.loads((tmp_path / 'summary.json').read_text())['findings']
  assert set(summary) == set(made.CLAIMS)
  table = pyarrow.csv.read_csv(tmp_path / 'tables' / 'findings.csv')
  assert table.num_rows == len(findings)
  for v, row in zip(findings, table.to_pylist(), strict=True):
    own = summary[v.finding][v.model][v.measure]
    assert own['verdict'] == row['verdict'] == v.verdict
    assert own['raw']['statistic'] == v.value == row['value']
    assert own['calibrated']['p'] == v.calibrated_p
    assert own['statistic'] == v.calibrated
    assert own['ci_low'] == v.calibrated_low
  bare = made.verdict('1', 'one', 'cka', 'holds', calibrated=None)
  own = verdicts.summary([bare])['1']['one']['cka']
  assert (own['statistic'], own['p']) == (0.12, 0.0004)


def test_without_findings_the_page_does_not_speak_of_verdicts(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng', 'hin'))
  found = words(render(tmp_path, definition))
  assert 'verdict' not in found.lower()
  assert 'The findings in full' not in found
  assert 'summary.json' in found


def test_every_verdict_is_told_by_shape_word_and_style():
  marks = verdicts.MARKS.values()
  assert len({m.symbol for m in marks}) == len({m.style for m in marks}) == 7
  assert {one for both in verdicts.RULE.values() for one in both} == (
    set(verdicts.MARKS) - {'not measured'}
  )


def test_a_figure_that_no_measure_changes_is_always_shown(definition, tmp_path):
  rows = synthetic.rows(definition)
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  (result,) = analyses.analyze(run, ['layer_map'])
  view = result.figure.views['cka']
  same = tables.Result(
    *('probes', 'Probes', 'Explained.', 'nothing', result.table),
    plots.Figure(3, {'': view}),
    (),
  )
  found = Elements(page.render_page(run.definition, run.scores, [same, result]))
  parts = [a for _, a in found.tags if a.get('data-measure') == '']
  assert len(parts) == 1
  assert 'hidden' not in parts[0]
  assert 'probes-1' in found.panels
  assert '' not in {a.get('data-show') for _, a in found.tags}
  page.write_figures([same], epath.Path(tmp_path) / 'figures')
  assert (tmp_path / 'figures' / 'probes.pdf').exists()
