"""The methods text, its references, and what a reader has to bear in mind."""

import re

import pytest

from jaxrep.analyses import run as runs
from jaxrep.report import cautions, methods, references
from jaxrep.similarity import MEASURES
from tests.analyses import synthetic
from tests.report import made


@pytest.fixture
def definition():
  found = synthetic.definition(layers=2, models=('sonar', 'tiny'))
  found['models']['sonar'] |= {'title': 'SONAR', 'control': ''}
  found['corpus'] |= {'name': 'fleurs', 'title': 'FLEURS', 'synthetic': False}
  found['measures'] = {
    'svcca': 'SVCCA: features centred; floor: Wachter law plus what 8 random '
    'pairings add',
    'cka_debiased': 'linear CKA, debiased; floor: exact mean',
  }
  return found


def test_the_text_says_what_the_run_says(definition):
  found = ' '.join(methods.paragraphs(definition, '90–118'))
  for phrase in (
    'in 6 languages: English, German, Hindi, Swahili, Tamil and Khmer.',
    'SONAR (Duquenne et al., 2023) was read at 4 stages of its text encoder '
    'and 7 stages of its speech encoder (text and speech: seed 0, fingerprint '
    'c0ffee12).',
    'The tiny encoder (untrained control: random weights) was read',
    'computed in float32 and pooled over time (mean).',
    'those of FLEURS (Conneau et al., 2023), test split.',
    'the first usable recording of each sentence',
    '2 examples were left out (the recording is silent).',
    'on the sentences that both have (n = 90–118)',
    'SVCCA (Raghu et al., 2017): features centred; floor: Wachter law',
    'Debiased CKA (Kornblith et al., 2019; Song et al., 2012; Murphy et al., '
    '2024): linear CKA, debiased',
    'All scores stand beside their floor, what they are when sentences are '
    'paired at random, and calibrated scores are',
    '(raw − floor) / (1 − floor) (Gröger et al., 2026 take a critical value',
    'with jaxrep 0.1.0 (jax 0.10.2 and numpy 2.4.6)',
  ):
    assert phrase in found, phrase
  assert 'Finding' not in found
  assert 'ceiling' not in found


def test_the_text_follows_the_run(definition):
  definition |= {'common_ids': 'all', 'recordings': 'mean', 'ceiling': True}
  definition |= {'dropped': []}
  definition['corpus'] |= {'synthetic': True, 'splits': ['dev', 'test']}
  definition['models']['tiny'] |= {'pooling': 'last', 'prompt': 'Describe.'}
  definition['measures'] = {'centroid_distance': 'distance; no floor: none'}
  rows = [made.verdict('1', 'sonar', 'cka', 'holds')] * 2
  found = ' '.join(methods.paragraphs(definition, '9', rows))
  for phrase in (
    'every language has in every modality',
    'the mean over the recordings',
    'No example was left out.',
    'dev + test split; its speech is synthetic.',
    'pooled over time (mean). Activations were computed in float32 and pooled '
    'over time (last) inside the prompt «Describe.».',
    'when recorded again',
    'undecided',
  ):
    assert phrase in found, phrase
  assert found.count('Finding 1: The statistic of 1.') == 1
  assert 'Gröger' not in found  # nothing has a floor
  definition['measures']['cka'] = 'linear CKA; floor: exact mean'
  found = ' '.join(methods.paragraphs(definition, '9'))
  assert 'All scores but those of centroid distance stand beside' in found


def test_bibtex_has_what_the_text_cites_and_no_more(definition):
  text = ' '.join(methods.paragraphs(definition, '9'))
  keys = references.of_run(definition)
  for key, reference in references.REFERENCES.items():
    plain = reference.cite.replace('Lee et al., 2025', 'Lee et al. (2025)')
    if key != references.CHANCE:  # named by the definition of the floor
      assert (plain in text) == (key in keys), key
  found = references.bibtex(definition)
  heads = re.findall(r'^@(\w+)\{([\w-]+),$', found, re.MULTILINE)
  assert [key for _, key in heads] == [*keys, 'jaxrep']
  assert found.count('{') == found.count('}')
  assert 'version = {0.1.0},\n  year = {2026}' in found


def test_every_entry_is_whole_and_every_key_known():
  for key, reference in references.REFERENCES.items():
    assert {'title', 'author', 'year'} <= set(reference.fields), key
    assert {'journal', 'booktitle'} & set(reference.fields), key
    assert reference.fields['year'] in key
    assert reference.fields['year'] in reference.cite
    assert all(text.isascii() for text in reference.fields.values()), key
  cites = [one.cite for one in references.REFERENCES.values()]
  assert len(set(cites)) == len(cites)
  tables = (references.MEASURES, references.MODELS, references.CORPORA)
  used = {key for table in tables for keys in table.values() for key in keys}
  shared = {references.STUDY, references.CALIBRATION, references.DISCOVERIES}
  assert used | shared | {references.CHANCE} == set(references.REFERENCES)


def test_the_longest_name_decides():
  assert references.of_measure('cka') == ('kornblith2019similarity',)
  assert len(references.of_measure('cka_debiased')) == 3
  assert references.of_measure('svcca_heldout') == ('raghu2017svcca',)
  assert references.of_measure('norm_ratio') == ()
  assert references.of_model('w2v-bert-2.0+nllb-200-600m') == (
    *('seamless2023v2', 'nllb2022'),
  )
  assert references.of_model('seamless-m4t-v1-medium') == ('seamless2023m4t',)
  assert references.of_corpus('bundled') == ()
  known = [prefix for prefix in references.MEASURES if prefix in MEASURES]
  assert len(known) == len(references.MEASURES) - 1  # CSLS has two directions


def load(folder, definition, **changes):
  rows = [row | changes for row in synthetic.rows(definition)]
  return runs.load_run(synthetic.write(folder, definition, rows))


def test_cautions_say_what_is_the_matter(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng', 'hin', 'swh'))
  definition['languages'].append('tam')
  run = load(tmp_path, definition)
  short = [one.short for one in cautions.of_run(run.definition, run.scores)]
  assert short == [
    *('Few sentences: n = 118', 'k differs between cells'),
    *('1 language not compared', '', '2 examples left out'),
  ]
  text = [one.text for one in cautions.of_run(run.definition, run.scores)]
  assert 'had 250 or so' in text[0]
  assert 'under SVCCA (18–30)' in text[1]
  assert 'Not compared: tam' in text[2]
  assert text[3] == definition['warnings'][0]


def test_a_run_without_blemish_has_no_cautions(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng', 'hin'))
  definition |= {'warnings': [], 'dropped': []}
  run = load(tmp_path, definition, n=250, k=20)
  assert cautions.of_run(run.definition, run.scores) == ()


def test_beside_a_figure_stands_what_concerns_it(tmp_path):
  from jaxrep.analyses import analyze

  definition = synthetic.definition(layers=1, languages=('eng', 'hin'))
  run = load(tmp_path, definition)
  (result,) = analyze(run, ['layer_map'])
  assert cautions.of_view(result.table, 'svcca', run.definition) == (
    *('few sentences: n = 118', 'k differs: 18–30'),
  )
  run.definition['models']['tiny']['languages']['speech'].remove('hin')
  assert cautions.of_view(result.table, 'cka', run.definition) == (
    *('few sentences: n = 118', 'The tiny encoder lacks hin'),
  )
  plain = result.table.drop_columns(['n_min', 'n_max', 'k_min', 'k_max'])
  assert cautions.of_view(plain, '', run.definition) == (
    'The tiny encoder lacks hin',
  )
