"""Token overlap and what is said of it, by hand and on planted relations."""

import itertools

import pytest

from jaxrep.analyses import run as runs
from jaxrep.analyses import token_overlap
from tests.analyses import stored, synthetic

LANGUAGES = ('eng', 'deu', 'hin', 'swh', 'tam')
# One line: pairs differ in how far apart they are, more or less evenly.
PLACES = {'eng': 0, 'deu': 1, 'hin': 3, 'swh': 7, 'tam': 12}


def apart(a, b):
  return abs(PLACES[a] - PLACES[b])


def spelt(language, sentence):
  """<language>, thirteen tokens from its place on, </s>."""
  first = 20 + PLACES[language] + 100 * int(sentence[1:])
  return (900_000 + PLACES[language], *range(first, first + 13), 2)


def load(folder, tokens=spelt, value=None, languages=LANGUAGES, **options):
  definition = synthetic.definition(
    layers=1, languages=languages, widths=(8, 8)
  )
  rows = synthetic.rows(definition, ('svcca',), **options)
  for row in rows:
    if value and row['status'] == 'ok':
      row['value'] = value(row)
  synthetic.write(folder, definition, rows)
  stored.write(folder, definition, tokens=tokens)
  return runs.load_run(folder)


def of_pair(table, a, b, read='last'):
  wanted = (a, b, read)
  return next(
    row
    for row in table.to_pylist()
    if tuple(row[n] for n in ('lang_a', 'lang_b', 'read')) == wanted
  )


def test_overlap_by_hand(tmp_path):
  """Sentence 0 has frames 900 … 2; sentence 1 shares two of four types."""
  said = {
    ('eng', 's000'): (901, 5, 6, 7, 2),
    ('eng', 's001'): (901, 8, 5, 9, 2),
    ('deu', 's000'): (902, 5, 5, 6, 7, 2),
    ('deu', 's001'): (902, 8, 9, 4, 2),
    ('hin', 's000'): (903, 1, 3, 2),
    ('hin', 's001'): (903, 3, 7, 2),
  }
  definition = synthetic.definition(
    layers=1, languages=('eng', 'deu', 'hin'), widths=(8, 8)
  )
  synthetic.write(tmp_path, definition, synthetic.rows(definition))
  stored.write(
    *(tmp_path, definition),
    tokens=lambda language, one: said[language, one],
    ids=('s000', 's001'),
  )
  table = token_overlap.compute(runs.load_run(tmp_path))
  pair = of_pair(table, 'eng', 'deu')
  assert pair['overlap'] == pytest.approx((3 / 3 + 2 / 4) / 2)
  assert pair['vocabulary'] == pytest.approx(5 / 6)  # 4 is German alone
  assert of_pair(table, 'deu', 'hin')['overlap'] == 0
  assert of_pair(table, 'deu', 'hin')['vocabulary'] == pytest.approx(1 / 8)


def test_only_sentences_that_both_have_count(tmp_path):
  definition = synthetic.definition(
    layers=1, languages=('eng', 'deu', 'hin'), widths=(8, 8)
  )
  synthetic.write(tmp_path, definition, synthetic.rows(definition))
  ids = {one: stored.SENTENCES[:30] for one in ('eng', 'hin')}
  stored.write(
    *(tmp_path, definition),
    tokens=lambda language, one: (
      # German shares its tokens with no one where English lacks the sentence.
      (language == 'deu' and one >= 's030') * 500 + int(one[1:]),
      7,
      2 + int(one[1:]) % 2,
    ),
    ids=ids | {'deu': stored.SENTENCES},
  )
  table = token_overlap.compute(runs.load_run(tmp_path))
  pair = of_pair(table, 'eng', 'deu')
  assert (pair['overlap'], pair['vocabulary']) == (1, 1)


def test_scores_are_the_last_taps_and_the_mean_over_taps(tmp_path):
  run = load(tmp_path)
  table = token_overlap.compute(run)
  assert len(table) == 2 * 10
  cells = [
    row
    for row in run.scores.to_pylist()
    if (row['lang_a'], row['lang_b']) == ('eng', 'swh')
    and row['tap_a'] == row['tap_b']
    and row['modality_a'] == row['modality_b'] == 'text'
  ]
  assert len(cells) == 3
  last, mean = (of_pair(table, 'eng', 'swh', read) for read in ('last', 'mean'))
  assert (last['used'], mean['used'], mean['of']) == (1, 3, 3)
  for name in ('value', 'floor', 'calibrated'):
    assert last[name] == pytest.approx(cells[-1][name])
    assert mean[name] == pytest.approx(sum(c[name] for c in cells) / 3)


def test_a_planted_relation_is_found_with_mantels_p(tmp_path):
  table = token_overlap.compute(
    load(tmp_path, value=lambda row: 0.9 - 0.02 * apart(*_pair(row)))
  )
  first = table.to_pylist()[0]
  assert first['raw_r'] == pytest.approx(1, abs=0.02)  # Jaccard bends
  assert first['rank_r'] == pytest.approx(1)
  assert first['relabellings'] == 120
  # The places are asymmetric, so that no other order of five fits as well.
  assert first['raw_p'] == first['raw_p_two_sided'] == pytest.approx(1 / 120)
  assert first['raw_p_naive'] < 1e-6


def test_without_a_relation_p_is_not_small(tmp_path):
  other = dict(zip(LANGUAGES, (4, 12, 0, 9, 2), strict=True))
  table = token_overlap.compute(
    load(
      tmp_path,
      value=lambda row: 0.9 - 0.02 * abs(_difference(other, row)),
    )
  )
  first = table.to_pylist()[0]
  assert abs(first['raw_r']) < 0.6
  assert first['raw_p_two_sided'] > 0.1


def _pair(row):
  return row['lang_a'], row['lang_b']


def _difference(places, row):
  a, b = _pair(row)
  return places[a] - places[b]


def test_every_pair_is_a_point_with_its_names(tmp_path):
  table = token_overlap.compute(load(tmp_path))
  view = token_overlap.draw(table).views['svcca']
  last, mean = view.panels
  assert last.title.startswith('Last layer, r\xa0')
  assert '(naive\xa0' in last.title
  assert mean.title.startswith('Mean over layers, r\xa0')
  heads = [point.hover.split('<br>')[0] for point in last.points]
  names = [synthetic.NAMES[one] for one in LANGUAGES]
  assert heads == [
    f'<b>{a} and {b}</b>' for a, b in itertools.combinations(names, 2)
  ]
  row = of_pair(table, 'eng', 'deu')
  assert (last.points[0].x, last.points[0].y) == (row['overlap'], row['value'])
  of_one_script = [p for p in last.points if p.key.role == 'filled']
  assert len(of_one_script) == 3  # English, German and Swahili
  notes = ' '.join(view.notes)
  for phrase in ('Jaccard', '120 relabellings', '(all;', '10 pairs of 5'):
    assert phrase in notes


def test_an_undefined_pair_is_left_out_of_r_and_open_in_the_plot(tmp_path):
  run = load(tmp_path, undefined=lambda row: _pair(row) == ('eng', 'deu'))
  table = token_overlap.compute(run)
  assert of_pair(table, 'eng', 'deu')['value'] is None
  assert table['raw_r'].null_count == 0
  view = token_overlap.draw(table).views['svcca']
  assert [p.y for p in view.panels[0].points].count(None) == 1


def test_r_without_any_score_is_null_and_says_so(tmp_path):
  table = token_overlap.compute(load(tmp_path, undefined=lambda row: True))
  assert table['raw_r'].null_count == len(table)
  view = token_overlap.draw(table).views['svcca']
  assert view.panels[0].title == 'Last layer, r undefined'


def test_two_languages_or_a_deleted_store_show_nothing(tmp_path):
  for name, languages in (('two', LANGUAGES[:2]), ('five', LANGUAGES)):
    run = load(tmp_path / name, languages=languages)
    if name == 'five':
      (tmp_path / name / 'store').rename(tmp_path / 'elsewhere')
    table = token_overlap.compute(run)
    assert len(table) == 0
    assert not token_overlap.draw(table).views
