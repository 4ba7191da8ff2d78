"""Probes of planted languages and modalities, over a real store."""

import numpy as np
import pytest

from jaxrep.analyses import probes
from jaxrep.analyses import run as runs
from tests.analyses import stored, synthetic

LANGUAGES = ('eng', 'deu', 'hin', 'swh')
WIDTH = 6
KNOWN = {  # tap: how far apart its languages are, its modalities
  'text/embed': (8.0, 0.0),
  'text/layer_01': (0.0, 0.0),
  'text/output': (0.7, 4.0),
  'speech/embed': (0.0, 0.0),
  'speech/layer_01': (8.0, 9.0),
  'speech/adaptor': (0.0, 0.0),
}


def planted(model, modality, language, tap, ids):
  """Sentences that languages and modalities share, noise, and KNOWN."""
  apart, between = KNOWN.get(tap, (0.0, 0.0))
  content = np.array(
    [stored.random('content', one).standard_normal(WIDTH) for one in ids]
  )
  noise = stored.random(model, modality, language, tap)
  x = content + noise.standard_normal((len(ids), WIDTH))
  x += apart * stored.random(tap, language).standard_normal(WIDTH)
  return x + between * (1 if modality == 'text' else -1)


def load(folder, widths=(WIDTH, WIDTH), languages=LANGUAGES, **options):
  definition = synthetic.definition(
    layers=1, languages=languages, widths=widths
  )
  synthetic.write(folder, definition, [])
  stored.write(folder, definition, planted, **options)
  return runs.load_run(folder)


@pytest.fixture(scope='module')
def table(tmp_path_factory):
  return probes.compute(load(tmp_path_factory.mktemp('run')))


def found(table, target, modality):
  """Tap → row; of a probe of modality, by the speech tap."""
  return {
    row['tap_speech'] or row['tap_text']: row
    for row in table.to_pylist()
    if (row['target'], row['modality']) == (target, modality)
  }


def test_language_is_read_where_it_is_and_at_chance_elsewhere(table):
  text = found(table, 'language', 'text')
  speech = found(table, 'language', 'speech')
  for tap, row in {**text, **speech}.items():
    apart = KNOWN.get(tap, (0.0, 0.0))[0]
    assert row['chance'] == 0.25
    if apart == 8:
      assert row['accuracy'] > 0.97, tap
      assert row['ci_low'] > 0.9
    elif apart == 0:
      assert row['accuracy'] < 0.38, tap
      assert row['ci_low'] < 0.3
  assert 0.38 < text['text/output']['accuracy'] < 0.97


def test_modality_is_read_between_a_speech_tap_and_its_counterpart(table):
  rows = found(table, 'modality', 'both')
  assert len(rows) == 6
  for tap, row in rows.items():
    assert row['chance'] == 0.5
    assert row['tap_text'] == {
      'speech/embed': 'text/embed',
      'speech/layer_01': 'text/layer_01',
    }.get(tap, 'text/output')
  # Their places differ: text/output stands at +4, the speech taps at 0.
  assert rows['speech/output']['accuracy'] > 0.97
  assert rows['speech/layer_01']['accuracy'] > 0.97


def test_nothing_is_read_where_there_is_nothing(tmp_path):
  definition = synthetic.definition(
    layers=1, languages=LANGUAGES, widths=(WIDTH, WIDTH)
  )
  synthetic.write(tmp_path, definition, [])
  stored.write(
    tmp_path,
    definition,
    lambda model, modality, language, tap, ids: stored.random(
      modality, language, tap
    ).standard_normal((len(ids), WIDTH)),
  )
  outside = 0
  for row in probes.compute(runs.load_run(tmp_path)).to_pylist():
    assert abs(row['accuracy'] - row['chance']) < 0.15
    outside += not row['ci_low'] <= row['chance'] <= row['ci_high']
  assert outside <= 1  # of 15, by intervals that are rather too wide


def test_counts_and_order(table):
  row = found(table, 'language', 'text')['text/embed']
  assert (row['classes'], row['sentences'], row['rows']) == (4, 40, 160)
  assert found(table, 'modality', 'both')['speech/norm']['rows'] == 320
  for modality, taps in (('text', 3), ('speech', 6)):
    rows = list(found(table, 'language', modality).values())
    assert len(rows) == taps
    positions = [row['position'] for row in rows]
    assert positions == sorted(positions)


def test_a_sentence_is_on_one_side_in_every_language_and_modality(tmp_path):
  run = load(
    tmp_path,
    ids={one: stored.SENTENCES[i : i + 30] for i, one in enumerate(LANGUAGES)},
  )
  for task in probes.tasks(run, 'tiny'):
    ids = np.array([one for view, _ in task.sides for one in view.ids])
    split = probes.folds(task.sentences)
    assert len(ids) == len(split) == len(task.labels)
    for one in set(ids):
      assert len(set(split[ids == one])) == 1
    sizes = np.bincount([split[ids == one][0] for one in sorted(set(ids))])
    assert len(sizes) == 5 and max(sizes) - min(sizes) <= 1
    assert len(set(ids)) == 33


def test_what_a_sentence_is_about_does_not_help(tmp_path):
  """Twins: all languages of a sentence have one state. Nothing can be read."""
  definition = synthetic.definition(
    layers=1, languages=LANGUAGES, widths=(WIDTH, WIDTH)
  )
  synthetic.write(tmp_path, definition, [])
  stored.write(
    tmp_path,
    definition,
    lambda model, modality, language, tap, ids: np.array(
      [stored.random(one).standard_normal(WIDTH) for one in ids]
    ),
  )
  table = probes.compute(runs.load_run(tmp_path))
  for row in table.to_pylist():
    assert row['accuracy'] == pytest.approx(row['chance'])


def test_two_widths_have_no_probe_of_modality_and_say_so(tmp_path):
  run = load(tmp_path, widths=(WIDTH, WIDTH + 2))
  table = probes.compute(run)
  assert set(table['target'].to_pylist()) == {'language'}
  (view,) = probes.draw(table).views.values()
  assert 'different widths at 6 of 6 pairs' in ' '.join(view.notes)


def test_panels_have_chance_intervals_and_one_axis(table):
  (view,) = probes.draw(table).views.values()
  language, modality = view.panels
  assert (language.title, modality.title) == ('Language', 'Text or speech')
  labels = [line.key.label for line in language.lines]
  assert labels == [
    *('which language, from text', 'chance: the largest class'),
    *('which language, from speech', 'chance: the largest class'),
  ]
  assert [label for _, label in language.ticks] == (
    [label for _, label in modality.ticks]
  )
  text = language.lines[0]
  assert '<b>text/embed</b>' in text.hover[0]
  assert 'n 40 · 160 rows' in text.hover[0]
  ends = [band for band in language.band if band[1] is not None]
  assert len(ends) == 3 + 6
  assert language.band[3][1:] == (None, None)
  notes = ' '.join(view.notes)
  assert 'n = 40 sentences' in notes
  assert 'different widths' not in notes


def test_a_deleted_store_or_a_single_language_of_text_shows_nothing(tmp_path):
  run = load(tmp_path)
  (tmp_path / 'store').rename(tmp_path / 'elsewhere')
  table = probes.compute(run)
  assert len(table) == 0
  assert not probes.draw(table).views


def test_what_the_store_lacks_is_said(tmp_path):
  run = load(tmp_path)
  speech = tmp_path / 'store' / 'tiny' / 'speech' / 'swh'
  speech.rename(tmp_path / 'elsewhere')
  table = probes.compute(run)
  assert set(table['modality'].to_pylist()) == {'text'}
  (view,) = probes.draw(table).views.values()
  assert 'no probe of modality, for want of' in ' '.join(view.notes)
