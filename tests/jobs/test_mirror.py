"""From download to report: FLEURS and a checkpoint over a loopback mirror."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxrep import store
from jaxrep.jobs import settings
from tests import checkpoint, command, mirror, speech
from tests.data import fleurs_tree

LANGUAGES = {'en_us': 'eng', 'fr_fr': 'fra', 'sw_ke': 'swh'}
COUNT = 24


def write_fleurs(tree):
  """Three languages; one lacks two sentences, another has two recordings."""
  for name, iso in LANGUAGES.items():
    rows = []
    for i, text in enumerate(checkpoint.sentences(iso, COUNT)):
      if iso == 'swh' and i < 2:
        continue
      for take in range(2 if iso == 'fra' and i % 2 else 1):
        wave = speech.waveform(100 * i + take, 0.6 + 0.1 * (i % 7))
        kind = 'FLOAT' if i % 2 else 'PCM_16'
        file = f'{i:03}{take}.wav'
        audio = fleurs_tree.wav(wave, kind)
        rows.append(fleurs_tree.Row(str(i), file, text, audio))
    fleurs_tree.write_split(tree, name, 'test', rows)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  base = tmp_path_factory.mktemp('mirror')
  tree, model = base / 'fleurs', base / 'model'
  write_fleurs(tree)
  model.mkdir()
  checkpoint.save(model)
  repos = {
    'datasets/google/fleurs': tree,
    'facebook/seamless-m4t-v2-large': model,
  }
  workdir = base / 'run'
  with mirror.serve(repos) as url:
    output = command.succeed(
      '--models=seamless-m4t-v2-large',
      '--corpus=fleurs',
      '--languages=en_us,fra,swh_Latn',
      f'--workdir={workdir}',
      *command.SMALL,
      HF_ENDPOINT=url,
      HF_HOME=str(base / 'hub'),
      HF_HUB_OFFLINE='0',
      JAXREP_DATA=str(base / 'data'),
    )
  assert 'report.html' in output
  return workdir


def test_what_a_finished_run_leaves(finished):
  names = {path.name for path in finished.iterdir()}
  wanted = {'report.html', 'scores.parquet', 'scores.csv', 'summary.json'}
  assert wanted | {'plan.json', 'figures', 'store', 'tables'} <= names
  assert list((finished / 'figures').glob('*.pdf'))
  assert list((finished / 'figures').glob('*.png'))
  page = (finished / 'report.html').read_text()
  assert 'SeamlessM4T v2 large' in page
  assert 'src="http' not in page


def test_every_pair_is_scored_on_its_common_sentences(finished):
  scores = pq.read_table(finished / 'scores.parquet')
  rows = scores.to_pylist()
  sides = 6
  text, spoken = 5, 8  # taps: embed, 3 layers, output; and the adaptor's three
  layers = {'text': text, 'speech': spoken}
  kinds = ['text'] * 3 + ['speech'] * 3
  expected = 0
  for a in range(sides):
    expected += layers[kinds[a]] * (layers[kinds[a]] + 1) // 2
    for b in range(a + 1, sides):
      expected += layers[kinds[a]] * layers[kinds[b]]
  measures = set(settings.Comparison().measures)
  assert {row['measure'] for row in rows} == measures
  assert len(rows) == len(measures) * expected
  for row in rows:
    lacks = 'swh' in (row['lang_a'], row['lang_b'])
    assert row['n'] == (COUNT - 2 if lacks else COUNT)
    assert (row['modality_a'], row['modality_b']) != ('speech', 'text')
    if row['measure'] in ('cka', 'cka_debiased', 'retrieval_r1'):
      assert row['status'] == 'ok'
  with open(finished / 'scores.csv') as file:
    assert len(list(csv.DictReader(file))) == len(rows)


def test_the_definition_names_what_was_run(finished):
  defined = json.loads((finished / 'plan.json').read_text())
  model = defined['models']['seamless-m4t-v2-large']
  for one, modality in zip(
    model['checkpoints'], ('text', 'speech'), strict=True
  ):
    assert one['modality'] == modality and one['languages'] == []
    assert one['source'] == 'facebook/seamless-m4t-v2-large'
    assert one['licence'] == 'CC-BY-NC-4.0'
    assert len(one['fingerprint']) == 16
  assert defined['languages'] == ['eng', 'fra', 'swh']
  assert defined['sentences']['swh'] == {'text': 22, 'speech': 22}
  assert set(defined['measures']) == set(settings.Comparison().measures)


def test_a_language_compared_with_itself_is_one(finished):
  scores = pq.read_table(finished / 'scores.parquet').to_pylist()
  same = [
    row
    for row in scores
    if (row['lang_a'], row['modality_a'], row['tap_a'])
    == (row['lang_b'], row['modality_b'], row['tap_b'])
    and row['status'] == 'ok'
    and row['measure'] not in ('centroid_distance', 'cosine_gap')  # none
  ]
  assert same
  assert all(abs(row['value'] - 1) < 1e-5 for row in same)


def test_a_score_is_that_of_the_aligned_sentences(finished):
  """Recomputed from the store in float64, by sentence id."""
  opened = store.open_store(str(finished))
  model = 'seamless-m4t-v2-large'
  sides = []
  for modality, language in (('text', 'eng'), ('speech', 'swh')):
    view = opened.view(model, modality, language)
    states = view.read(f'{modality}/output').astype(np.float64)
    sides.append(dict(zip(view.ids, states, strict=True)))
  common = sorted(set(sides[0]) & set(sides[1]))
  assert len(common) == COUNT - 2
  grams = []
  for side in sides:
    x = np.stack([side[i] for i in common])
    x = x - x.mean(axis=0)
    grams.append(x @ x.T)
  expected = (grams[0] * grams[1]).sum()
  expected /= np.linalg.norm(grams[0]) * np.linalg.norm(grams[1])
  (row,) = (
    row
    for row in pq.read_table(finished / 'scores.parquet').to_pylist()
    if (row['measure'], row['lang_a'], row['lang_b']) == ('cka', 'eng', 'swh')
    and (row['tap_a'], row['tap_b']) == ('text/output', 'speech/output')
  )
  assert row['value'] == pytest.approx(expected, abs=1e-6)
