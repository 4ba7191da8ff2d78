"""findings.parquet of known numbers, as the `findings` job writes it."""

import pyarrow as pa
import pyarrow.parquet as pq

from jaxrep.analyses.verdicts import FILES, TESTED_ON

MEASURES = ('svcca', 'svcca_k', 'cka_debiased')
MAIN = ('1', '2', '3', '4')


def row(finding, model, measure, n=118, **more):
  value = 0.1 * int(finding[0]) + n / 1000
  return {
    **{'finding': finding, 'model': model, 'measure': measure},
    **{'value': value, 'ci_low': value - 0.05, 'ci_high': value + 0.05},
    **{'p': 0.01, 'effect': 2.0, 'languages_low': None, 'languages_high': None},
    'calibrated': value / 2,
    'calibrated_low': value / 2 - 0.06,
    'calibrated_high': value / 2 + 0.06,
    **{'calibrated_p': 0.02, 'calibrated_effect': -1.5},
    **{'calibrated_languages_low': None, 'calibrated_languages_high': None},
    **{'n': n, 'k_min': 10, 'k_max': 10, 'languages': 6},
    **{'verdict': 'holds', 'note': ''},
    **more,
  }


def write(folder, models, more=(), tested_on=None):
  """Main findings on all sentences and on half of them, and `more` rows."""
  each = [
    (finding, model, measure)
    for finding in MAIN
    for model in models
    for measure in MEASURES
  ]
  rows = {
    'findings': [*(row(*one) for one in each), *more],
    'by_n': [row(*one, n=59) for one in each],
  }
  for name, file in FILES.items():
    table = pa.Table.from_pylist(rows[name])
    if tested_on is not None:
      table = table.replace_schema_metadata({TESTED_ON: tested_on})
    pq.write_table(table, folder / file)
