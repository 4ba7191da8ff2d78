"""Every finding against n."""

import pytest

from jaxrep import analyses
from jaxrep.analyses import by_n
from jaxrep.analyses import run as runs
from jaxrep.findings import FINDINGS
from tests.analyses import findings, synthetic

MODELS = ('one', 'two')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  definition = synthetic.definition(layers=1, models=MODELS)
  rows = synthetic.rows(definition)
  findings.write(folder, MODELS, [findings.row('1.dip', 'one', 'cka_debiased')])
  return runs.load_run(synthetic.write(folder, definition, rows))


def test_the_table_holds_main_findings_on_parts_and_on_all(run):
  table = by_n.compute(run).to_pylist()
  assert len(table) == 2 * 4 * 2 * 3
  assert {row['n'] for row in table} == {59, 118}
  assert {row['finding'] for row in table} == set(findings.MAIN)


def test_a_panel_a_finding_with_a_line_a_model_between_its_ends(run):
  (result,) = analyses.analyze(run, ['by_n'])
  assert list(result.figure.views) == ['svcca', 'cka_debiased']
  view = result.figure.views['cka_debiased']
  assert [panel.title for panel in view.panels] == [
    f'{one}. {FINDINGS[one].claim}' for one in findings.MAIN
  ]
  low, high, middle = view.panels[0].lines[:3]
  assert middle.x == (59.0, 118.0)
  assert middle.y == pytest.approx(((0.1 + 0.059) / 2, (0.1 + 0.118) / 2))
  for a, b, c in zip(low.y, middle.y, high.y, strict=True):
    assert (b - a, c - b) == pytest.approx((0.06, 0.06))
  assert 'The one encoder' in middle.hover[0]
  assert len(view.panels[0].lines) == 3 * len(MODELS)


def test_under_svcca_stands_what_has_one_k_at_every_n(run):
  (result,) = analyses.analyze(run, ['by_n'])
  assert 'with k = 10 at every n' in result.figure.views['svcca'].notes[0]


def test_before_the_job_has_run_it_is_named(tmp_path):
  definition = synthetic.definition(layers=1)
  rows = synthetic.rows(definition)
  bare = runs.load_run(synthetic.write(tmp_path, definition, rows))
  (result,) = analyses.analyze(bare, ['by_n'])
  assert not result.figure.views and not len(result.table)
  assert 'python run.py findings' in result.needs
