"""What a run cost, as the page says it."""

import re

import pytest

from jaxrep.analyses import run as runs
from jaxrep.report import costs, page
from tests.analyses import synthetic

EXTRACTED = {
  **{'rows': 40, 'audio_seconds': 125.25, 'programs': 3, 'loaded': 1},
  **{'trace_seconds': 1.5, 'compile_seconds': 4.0, 'running_seconds': 10.0},
  **{'load_weights_seconds': 0.5, 'rows_per_second': 4.0, 'padding': 0.081},
  **{'audio_per_second': 12.525, 'starved_share': 0.25},
}


def session(process, ended, peak=None):
  return {
    **{'job': 'all', 'process': process, 'processes': 2, 'ended': ended},
    **{'started': f'2026-01-0{process + 1}T00:00:00+00:00', 'seconds': 61.0},
    **{'cpu_seconds': 30.0, 'host_peak_bytes': 3 * 2**30, 'first': {}},
    'devices': [
      {'device': 'gpu:0', 'kind': 'H', 'peak_bytes': peak, 'limit_bytes': peak}
    ],
  }


@pytest.fixture
def cost():
  stages = {'device': 9.96, 'compile': 100.0, 'write store': 0.01}
  return {
    **{'seconds': 122.0, 'stages': stages},
    'stages_by_process': {'0': {'device': 4.0}, '1': {'device': 5.96}},
    'models': {'tiny speech': EXTRACTED},
    'measures': {'cka': {'scores': 7, 'compare_seconds': 2.0, 'programs': 1}},
    'programs': {'programs': 4, 'loaded': 1},
    'sessions': [session(0, False, 2**31), session(1, True)],
  }


def test_sentence_and_rows(cost):
  found = costs.costs(cost)
  assert found['sentence'] == (
    '1 min before this page was written, in 2 sessions of 2 processes, and '
    '1 min of processor time. 3 programs compiled, 1 loaded from the cache. '
    'At most 3.0 GiB of host memory, 2.0 GiB on gpu:0 (H).'
  )
  assert found['stages'] == [
    ('compile', '100.0', '–', '–'),
    ('device', '10.0', '4.0', '6.0'),
  ]
  speech = ('tiny speech', '40', '125.2', '4', '12.5', '8%', '25%', '0.5')
  assert found['models'] == [(*speech, '2 + 1', '5.5', '10.0')]
  assert found['measures'] == [('cka', '7', '1 + 0', '0.0', '2.0')]
  assert [one[-1] for one in found['sessions']] == ['stopped', 'ended']


def render(folder, cost):
  definition = synthetic.definition(layers=2, widths=(8, 8))
  rows = synthetic.rows(definition)
  run = runs.load_run(synthetic.write(folder, definition, rows))
  return page.render_page(run.definition, run.scores, [], (), cost)


def test_the_page_shows_every_number(tmp_path, cost):
  text = render(tmp_path, cost).split('id="cost"')[1]
  cells = re.findall('<t[dh][^>]*>([^<]*)</t', text)
  told = costs.costs(cost)
  for kind in ('stages', 'models', 'measures', 'sessions'):
    for row in told[kind]:
      assert set(row[1:]) <= set(cells)
  assert told['sentence'] in text


def test_of_a_run_without_records_nothing_is_said(tmp_path):
  assert 'id="cost"' not in render(tmp_path, {})
