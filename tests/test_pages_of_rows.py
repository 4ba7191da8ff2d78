"""What README and CAPACITY.md say of speed is what the committed rows say."""

import pytest

from benchmarks import capacity, tables


def row(seconds, **changes):
  """As `benchmarks.extraction` writes them, with the fields that count."""
  case = {'model': 'm', 'modality': 'text', 'items': 8, 'dtype': 'float32'}
  case['layers'] = 4
  spread = {'min': 1.0, 'median': 2.0, 'max': 3.0}
  return {
    'case': {**case, 'gflop': 50.0, 'matmul_gflop_per_s': 100.0, **changes},
    'timings': {'jaxrep': {'wall': {'median': seconds}}},
    'ratios': {
      side: {'cpu': spread, 'wall': {'min': 4.0, 'median': 5.0, 'max': 6.0}}
      for side in ('best', 'eager')
    },
    'peak_memory_mb': {'jaxrep': 1000.0, 'best': 2000.0, 'eager': 3000.0},
    'first_call': {'jaxrep': 4.0, 'best': 5.0},
    'machine': {
      'device': '1 x cpu',
      'cpu': 'A',
      'cores': 2,
      'jax': '1',
      'torch': '2',
    },
  }


def test_the_pages_say_what_the_rows_say():
  text = tables.README.read_text()
  rows = tables.latest(tables.read('extraction'))
  assert tables.placed(text, tables.overview(rows)) == text
  assert tables.page(rows) == tables.PAGE.read_text()


def test_of_a_case_and_machine_the_last_row_counts():
  rows = [row(1), row(2, dtype='bfloat16'), row(3), row(4, items=1)]
  found = {
    (one['case']['dtype'], one['case']['items']): one
    for one in tables.latest(rows)
  }
  seconds = {
    k: r['timings']['jaxrep']['wall']['median'] for k, r in found.items()
  }
  assert seconds == {
    ('bfloat16', 8): 2,
    ('float32', 8): 3,
    ('float32', 1): 4,
  }


def test_a_line_gives_ratios_memory_and_the_share_of_the_peak():
  rates = {'float32': 200.0}
  spreads = ('2.0× (1.0–3.0)', '5.0× (4.0–6.0)') * 2
  found = tables.line(row(2.0, shapes='equal'), rates)
  assert found == (
    *('m text', 'float32', *spreads),
    *('1.0, 2.0, 3.0', '12%', '4, 5'),
  )
  # Of older rows, what was measured otherwise is left out.
  assert tables.line(row(2.0), rates)[-3:] == ('—', '12%', '—')
  assert tables.line(row(2.0, layers=24), rates)[0] == 'm text, 24 layers'


def test_an_overview_has_a_line_a_case_and_columns_by_machine():
  other = row(1) | {'machine': {**row(1)['machine'], 'cpu': 'B'}}
  other['case']['layers'] = 24
  rows = [row(1), row(1, items=1), row(1, dtype='bfloat16'), other]
  assert tables.overview(tables.latest(rows)).splitlines() == [
    '|  | 2 cores of A, float32 | 2 cores of A, bfloat16 '
    '| 2 cores of B, float32 |',
    '| --- | --- | --- | --- |',
    '| m text | 2.0 / 2.0 | 2.0 / 2.0 | 2.0 / 2.0 |',
    # Alone it is latency that counts.
    '| m text, one item | 5.0 / 5.0 | — | — |',
  ]


def test_the_peak_is_the_best_of_a_machine():
  slow = row(1) | {'case': {**row(1)['case'], 'matmul_gflop_per_s': 50.0}}
  rows = [slow | {'case': {**slow['case'], 'items': 1}}, row(1)]
  assert tables.page(tables.latest(rows)).count('| 50% |') == 2


def test_a_readme_without_marks_is_refused():
  with pytest.raises(ValueError, match='README'):
    tables.placed('no table here', 'table')


def test_capacity_says_what_the_rows_say(monkeypatch):
  monkeypatch.setattr(capacity, 'decoding', lambda: 1e-3)
  made, committed = (
    [
      line
      for line in text.splitlines()
      if 'measured on one CPU core' not in line
    ]
    for text in (capacity.page(), capacity.PAGE.read_text())
  )
  assert made == committed
  assert len(made) > 50


def test_unit_costs_are_those_that_rows_were_made_of(monkeypatch):
  base, pair = 0.01, 0.0004
  case = {'measure': 'cka', 'n': 400, 'd': 1024, 'name': 'cka'}
  made = [
    {
      'case': {**case, 'm': m, 'd': d},
      'timings': {
        'jaxrep': {'wall': {'median': base * m + pair * m * (m + 1) / 2}}
      },
    }
    for m, d in ((8, 1024), (24, 1024), (60, 1024), (60, 64))
  ]
  made[-1]['timings']['jaxrep']['wall']['median'] = 9  # of another width
  monkeypatch.setattr(capacity, 'rows', lambda benchmark: made)
  assert capacity.unit_costs('cka') == pytest.approx((base, pair))
