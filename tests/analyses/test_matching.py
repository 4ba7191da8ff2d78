import math

import pytest

from jaxrep.analyses import matching
from jaxrep.analyses import run as runs
from tests.analyses import synthetic

NAMES = ('model', 'lang_a', 'lang_b', 'tap_a', 'tap_b')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  definition = synthetic.definition(layers=2, models=('one', 'two'))
  rows = synthetic.rows(definition)
  folder = tmp_path_factory.mktemp('run')
  return runs.load_run(synthetic.write(folder, definition, rows)), rows


def test_cells_are_those_of_matching_layers(made):
  run, rows = made
  found = matching.cells(run, ('cka', 'absent')).to_pylist()
  same = run.definition['models']['one']['counterparts']
  expected = {}
  for row in rows:
    if row['measure'] == 'cka':
      kind = row['modality_a']
      if row['modality_a'] != row['modality_b']:
        alike = row['lang_a'] == row['lang_b']
        kind = 'within' if alike else None
        alike &= same[row['tap_b']] == row['tap_a']
      else:
        alike = row['lang_a'] != row['lang_b'] and row['tap_a'] == row['tap_b']
      if alike:
        expected[kind, *(row[n] for n in NAMES)] = row['value']
  got = {(x['kind'], *(x[n] for n in NAMES)): x['value'] for x in found}
  assert len(found) == len(got)
  assert got == expected


def test_positions_follow_the_shared_axis(made):
  run, _ = made
  axis = matching.stages(run.definition, 'one')
  assert axis == ['embed', '1', '2', 'norm', 'pre-adaptor', 'adaptor', 'output']
  for row in matching.cells(run, ('svcca',)).to_pylist():
    stage = row['tap_b'].partition('/')[2].replace('layer_0', '')
    assert axis[row['position']] == stage.replace('_', '-')


def test_sizes_count_what_the_model_reads(tmp_path):
  definition = synthetic.definition(layers=1)
  definition['models']['tiny']['languages']['speech'] = ['eng', 'deu', 'hin']
  rows = synthetic.rows(definition, measures=('cka',))
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  assert matching.sizes(run) == {
    ('tiny', 'within'): 3,
    ('tiny', 'text'): math.comb(6, 2),
    ('tiny', 'speech'): 3,
  }
