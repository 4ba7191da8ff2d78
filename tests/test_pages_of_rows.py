"""What README and CAPACITY.md say of speed is what the committed rows say."""

import pytest

from benchmarks import capacity, tables


def row(seconds, **changes):
  """As `benchmarks.extraction` writes them, with the fields that count."""
  case = {'model': 'm', 'modality': 'text', 'items': 8, 'dtype': 'float32'}
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
    'machine': {'device': '1 x cpu'},
  }


def test_the_readme_says_what_the_rows_say():
  text = tables.README.read_text()
  rows = tables.latest(tables.read('extraction'))
  assert tables.placed(text, tables.table(rows)) == text


def test_of_a_case_the_last_row_counts():
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
  assert tables.line(row(2.0)) == (
    '| m text | float32 | 2.0× (1.0–3.0) | 2.0× (1.0–3.0) | 1.0, 2.0, 3.0 '
    '| 25% | 4 against 5 |'
  )
  # Alone it is latency that counts.
  assert tables.line(row(2.0, items=1)).startswith(
    '| m text, one item | float32 | 5.0× (4.0–6.0) |'
  )


def test_a_readme_without_marks_is_refused():
  with pytest.raises(ValueError, match='README'):
    tables.placed('no table here', 'table')


def test_capacity_says_what_the_rows_say(monkeypatch):
  monkeypatch.setattr(
    capacity, 'decoding', lambda: 1e-3
  )  # timed anew each time
  made, committed = (
    [line for line in text.splitlines() if line.startswith('|')]
    for text in (capacity.page(), capacity.PAGE.read_text())
  )
  assert made == committed
  assert len(made) > 10


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
