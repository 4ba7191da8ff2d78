import itertools

import numpy as np
import pytest

from jaxrep.analyses import language_map
from jaxrep.analyses import run as runs
from jaxrep.languages import LANGUAGES
from jaxrep.report import plots
from tests.analyses import synthetic

LAST = ('text/output', 'speech/output')
KIN = ('eng', 'deu', 'nld', 'fra', 'spa', 'tam', 'kan')
PAIR = ('measure', 'modality_a', 'modality_b', 'lang_a', 'lang_b')
GAP = {'centroid_distance': 'Centroid distance: between the mean rows.'}


def planted(a, b):
  """0.8 within a branch, 0.5 within a family, 0.2 elsewhere."""
  return {'branch': 0.8, 'family': 0.5}.get(language_map.kinship(a, b), 0.2)


def jitter(row):
  """A little that differs between pairs, so that none tie."""
  places = [KIN.index(row[f'lang_{side}']) for side in 'ab']
  return 0.001 * places[0] + 0.003 * places[1]


def kin_run(folder, change=lambda row: {}, measures=('cka_debiased',)):
  texts = synthetic.MEASURES | GAP
  definition = synthetic.definition(
    languages=KIN, layers=0, measures={name: texts[name] for name in measures}
  )
  rows = []
  for row in synthetic.rows(definition, measures=measures):
    if (
      row['modality_a'] == row['modality_b'] and row['lang_a'] != row['lang_b']
    ):
      value = planted(row['lang_a'], row['lang_b']) + jitter(row)
      row |= {'value': value, 'calibrated': value}
    rows.append(row | change(row))
  return runs.load_run(synthetic.write(folder, definition, rows)), rows


def view_of(run, measure='cka_debiased'):
  return language_map.draw(language_map.compute(run)).views[measure]


def names(panel):
  """The left tree's leaves from the top."""
  leaves = [x for x in panel.labels if x.x < 0.5]
  known = {synthetic.NAMES.get(one, one): one for one in KIN}
  return [known[x.text] for x in leaves]


def test_the_table_holds_every_pair_at_the_last_taps(tmp_path):
  definition = synthetic.definition(layers=2)
  rows = synthetic.rows(definition)
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  table = language_map.compute(run).to_pylist()
  assert len(table) == 3 * (15 + 15 + 36)
  cells = {
    tuple(
      r[n] for n in ('measure', 'modality_a', 'modality_b', 'lang_a', 'lang_b')
    ): r
    for r in rows
    if r['tap_a'] in LAST and r['tap_b'] in LAST
  }
  for row in table:
    key = tuple(row[n] for n in PAIR)
    for name in ('value', 'floor', 'calibrated', 'ci_low', 'q'):
      assert row[name] == cells[key][name]
    assert row['k_min'] == row['k_max'] == cells[key]['k']


@pytest.mark.parametrize(
  ('a', 'b', 'expected'),
  [
    *(('eng', 'deu', 'branch'), ('eng', 'fra', 'family')),
    *(
      ('eng', 'tam', 'none'),
      ('eng', 'eng', 'itself'),
      ('eng', 'xxx', 'unknown'),
    ),
    ('hun', 'fin', 'family'),  # the table gives Hungarian no branch
  ],
)
def test_kinship(a, b, expected):
  assert language_map.kinship(a, b) == expected
  assert expected in language_map.KINSHIP


def test_a_map_has_text_below_and_speech_above_its_diagonal(tmp_path):
  def known(row):
    kind = row['modality_a'], row['modality_b']
    value = {
      ('text', 'text'): 0.7,
      ('speech', 'speech'): 0.4,
      ('text', 'speech'): 0.1 if row['lang_a'] == row['lang_b'] else 0.99,
    }[kind]
    return {'value': value}

  raw, *_ = view_of(kin_run(tmp_path, known)[0]).panels
  z = np.array(raw.z[::-1])  # from the top
  assert z.shape == (7, 7)
  assert set(z[np.tril_indices(7, -1)]) == {0.7}
  assert set(z[np.triu_indices(7, 1)]) == {0.4}
  assert set(np.diag(z)) == {0.1}
  assert raw.limits[1] < 0.99  # of text with another language's speech


def test_cells_stand_in_the_rows_of_their_languages(tmp_path):
  run, rows = kin_run(tmp_path)
  raw, *_ = view_of(run).panels
  order = [label for _, label in sorted(raw.yticks, reverse=True)]
  known = {synthetic.NAMES.get(one, one): one for one in KIN}
  order = [known[label] for label in order]
  cells = {
    (r['modality_a'], frozenset((r['lang_a'], r['lang_b']))): r['value']
    for r in rows
    if r['tap_a'] == r['tap_b'] and r['tap_a'] in LAST
  }
  for (i, a), (j, b) in itertools.combinations(enumerate(order), 2):
    pair = frozenset((a, b))
    assert raw.z[6 - j][i] == cells['text', pair]
    assert raw.z[6 - i][j] == cells['speech', pair]
    hover = raw.hover[6 - j][i]
    assert a in hover and b in hover and 'text' in hover
    assert f'{cells["text", pair]:.3f}' in hover
    assert 'n 118' in hover


def test_relatives_stand_together_and_their_trees_agree(tmp_path):
  run, _ = kin_run(tmp_path)
  raw, calibrated, text, speech = view_of(run).panels
  assert isinstance(calibrated, plots.Heatmap)
  for tree in (text, speech):
    order = names(tree)
    for group in ({'eng', 'deu', 'nld'}, {'fra', 'spa'}, {'tam', 'kan'}):
      places = sorted(order.index(one) for one in group)
      assert places == list(range(places[0], places[0] + len(group)))
    ends = sorted(tie.y for tie in tree.ties)
    assert [right for _, right in ends] == sorted(right for _, right in ends)
  assert raw.title.startswith('Raw, text below the diagonal')


def test_a_fork_is_the_mean_over_the_pairs_across_it(tmp_path):
  run, rows = kin_run(tmp_path)
  *_, text, _ = view_of(run).panels
  cells = {
    frozenset((r['lang_a'], r['lang_b'])): r['value']
    for r in rows
    if r['tap_a'] == r['tap_b'] == 'text/output'
  }

  def mean(*groups):
    pairs = [cells[frozenset(pair)] for pair in itertools.product(*groups)]
    return sum(pairs) / len(pairs)

  expected = [
    cells[frozenset(('fra', 'spa'))],
    cells[frozenset(('tam', 'kan'))],
    mean(('eng', 'deu', 'nld'), ('fra', 'spa')),
    mean(('eng', 'deu', 'nld', 'fra', 'spa'), ('tam', 'kan')),
  ]
  found = {x.hover for x in text.branches if x.hover.startswith('calibrated')}
  assert len(found) == 6
  levels = [float(hover.rpartition(' ')[2]) for hover in found]
  for level in expected:
    assert min(abs(level - one) for one in levels) < 0.00051


def test_of_a_distance_the_near_are_joined_first(tmp_path):
  def away(row):
    return {
      'value': 1 - row['value'],
      **dict.fromkeys(('floor', 'floor_sd', 'calibrated', 'p', 'q')),
    }

  run, _ = kin_run(tmp_path, away, ('centroid_distance',))
  raw, text, _ = view_of(run, 'centroid_distance').panels
  assert isinstance(raw, plots.Heatmap)
  assert isinstance(text, plots.Trees)
  assert {'eng', 'deu', 'nld', 'fra', 'spa'} in (
    set(names(text)[:5]),
    set(names(text)[2:]),
  )
  forks = [x.hover for x in text.branches if x.hover.startswith('centroid')]
  levels = [float(hover.rpartition(' ')[2]) for hover in forks]
  assert levels == sorted(levels)


def test_a_language_that_lacks_pairs_is_last_and_in_no_tree(tmp_path):
  def missing(row):
    pair = {row['lang_a'], row['lang_b']}
    if 'deu' in pair and pair & {'tam', 'fra'}:
      return dict.fromkeys(('value', 'calibrated'))
    return {}

  run, _ = kin_run(tmp_path, missing)
  view = view_of(run)
  raw, _, text, _ = view.panels
  assert sorted(names(text)) == sorted(set(KIN) - {'deu'})
  assert raw.yticks[-1] == (0, 'German')
  undefined = [h for line in raw.hover for h in line if h.endswith('undefined')]
  assert len(undefined) == 4
  assert [key.role for key in view.legend] == ['band']


def test_maps_stand_over_their_trees_unless_there_is_one(tmp_path):
  kinds = {}
  for measure in ('cka', 'norm_ratio'):
    options = {'measures': {measure: 'A measure.'}}
    definition = synthetic.definition(
      layers=0, models=('one', 'two'), **options
    )
    rows = synthetic.rows(definition, **options)
    run = runs.load_run(synthetic.write(tmp_path, definition, rows))
    panels = view_of(run, measure).panels
    kinds[measure] = ''.join(type(panel).__name__[0] for panel in panels)
  assert kinds == {'cka': 'HHTTHHTT', 'norm_ratio': 'HHTTTT'}


def test_two_languages_have_a_map_without_trees(tmp_path):
  definition = synthetic.definition(layers=0, languages=('eng', 'deu'))
  rows = synthetic.rows(definition)
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  view = view_of(run)
  assert [type(panel) for panel in view.panels] == [plots.Heatmap] * 2


def test_of_text_alone_the_other_half_is_open(tmp_path):
  definition = synthetic.definition(languages=KIN, layers=0)
  definition['models']['tiny']['taps']['speech'] = []
  definition['models']['tiny']['counterparts'] = {}
  rows = synthetic.rows(definition, measures=('cka',))
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  view = view_of(run, 'cka')
  raw, _, tree = view.panels
  z = np.array(raw.z[::-1], float)
  assert np.isnan(z[np.triu_indices(7)]).all()
  assert not np.isnan(z[np.tril_indices(7, -1)]).any()
  assert tree.title.startswith('Text')


def test_notes_give_the_means_by_kinship(tmp_path):
  run, rows = kin_run(tmp_path)
  notes = ' '.join(view_of(run).notes)
  cells = [r for r in rows if r['tap_a'] == r['tap_b'] == 'speech/output']
  branch = [
    r['value']
    for r in cells
    if r['lang_a'] != r['lang_b'] and planted(r['lang_a'], r['lang_b']) == 0.8
  ]
  assert len(branch) == 3 + 1 + 1
  mean = sum(branch) / len(branch)
  line = notes.partition('Speech, mean calibrated')[2]
  assert f'{mean:.3f} within a branch of a family (pairs: 5)' in line
  assert '(pairs: 6)' in line and '(pairs: 10)' in line


def test_hovers_are_short(tmp_path):
  definition = synthetic.definition(layers=0)
  rows = synthetic.rows(definition)
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  for panel in view_of(run, 'svcca').panels[:2]:
    assert max(len(h) for line in panel.hover for h in line) <= 75


def test_the_planted_languages_are_in_the_table():
  assert set(KIN) <= set(LANGUAGES)
