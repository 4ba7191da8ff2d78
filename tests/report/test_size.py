"""How large the page is, and that all pairs do not enter it."""

import json

import pyarrow.parquet as pq
import pytest

from jaxrep import analyses
from jaxrep.analyses import run as runs
from jaxrep.report import embedded, page
from tests.analyses import large
from tests.report import made
from tests.report.test_page import Elements

LIMIT = 15_000_000  # bytes, of 30 languages, three models, five measures
EACH = 30  # bytes a point, packed


def load(folder, languages, layers):
  definition = large.definition(languages, layers)
  (folder / 'plan.json').write_text(json.dumps(definition))
  pq.write_table(large.scores(definition), folder / 'scores.parquet')
  return runs.load_run(folder)


def points(places):
  if isinstance(places, list):
    return sum(map(points, places))
  return 1


def test_a_point_takes_few_bytes(tmp_path):
  run = load(tmp_path, 8, 6)
  results = analyses.analyze(run)
  text = page.render_page(run.definition, run.scores, results)
  count = sum(
    points(trace['text'])
    for panel in Elements(text).panels.values()
    for trace in panel['data']
    if 'text' in trace
  )
  assert count > 3 * 5 * (2 * 8 * 11 + 3 * 8 * 11)
  assert len(embedded.panels_packed(results)) < EACH * count


@pytest.mark.slow
def test_thirty_languages_three_models_and_five_measures_fit(tmp_path):
  run = load(tmp_path, 30, 25)
  results = analyses.analyze(run)
  findings = made.verdicts(run.definition, tuple(large.MEASURES))
  text = page.render_page(run.definition, run.scores, results, findings)
  assert len(text.encode()) < LIMIT
