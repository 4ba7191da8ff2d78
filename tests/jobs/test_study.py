"""The whole study of four released kinds of model at once: `-m slow`.

SeamlessM4T v1 and v2, SONAR and SALMONN, as small checkpoints in the layout of
the released ones, over a small tree in the layout of FLEURS.
"""

import json

import pyarrow.parquet as pq
import pytest

from jaxrep.findings import FINDINGS
from tests import checkpoint, command
from tests.data import fleurs_tree
from tests.data.fleurs_tree import Row
from tests.jobs.test_many_models import save_sonar
from tests.ports import salmonn_reference

pytestmark = pytest.mark.slow
MODELS = (
  *('seamless-m4t-v1-large', 'seamless-m4t-v2-large'),
  *('sonar', 'salmonn-7b'),
)
SENTENCES = 40
MISSING = {'en_us': (3, 17), 'fr_fr': (8,)}


def write_tree(tree):
  """English and French, each without sentences that the other has."""
  for iso, language in (('eng', 'en_us'), ('fra', 'fr_fr')):
    texts = checkpoint.sentences(iso, SENTENCES)
    rows = [
      Row(str(i), f'{i:03}.wav', text, fleurs_tree.recording(f'{iso} {i}', 0.6))
      for i, text in enumerate(texts)
      if i not in MISSING[language]
    ]
    fleurs_tree.write_split(tree, language, 'test', rows)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  base = tmp_path_factory.mktemp('study')
  write_tree(base / 'fleurs')
  v1, v2, salmonn = (base / name for name in ('v1', 'v2', 'salmonn'))
  for folder, version in ((v1, 'v1'), (v2, 'v2')):
    folder.mkdir()
    checkpoint.save(folder, version)
  text, spoken = save_sonar(base)
  salmonn_reference.save(salmonn)
  places = {
    'seamless-m4t-v1-large': v1,
    'seamless-m4t-v2-large': v2,
    **{'sonar/text': text, 'sonar/speech': spoken},
    'salmonn-7b': salmonn,
  }
  checkpoints = ','.join(f'{name}={place}' for name, place in places.items())
  workdir = base / 'run'
  command.succeed(
    f'--models={",".join(MODELS)}',
    f'--checkpoints={checkpoints}',
    '--corpus=fleurs',
    f'--corpus_source={base / "fleurs"}',
    '--languages=eng,fra',
    f'--workdir={workdir}',
    '--layer_pairs=matching',
    '--minimum_ids=10',
    '--findings_k=3',
    '--findings_replicates=12',
    JAXREP_DATA=str(base / 'place'),
  )
  return workdir


def test_every_finding_is_tested_in_every_model(finished):
  rows = pq.read_table(finished / 'findings.parquet').to_pylist()
  assert {(row['model'], row['finding']) for row in rows} == {
    (model, finding) for model in MODELS for finding in FINDINGS
  }
  common = SENTENCES - sum(map(len, MISSING.values()))
  for row in rows:
    halved = row['finding'] in ('1.dip', '1.rise')
    if row['verdict'] != 'not measured':
      assert row['n'] in ((18, 19) if halved else (common,))
      assert row['ci_low'] <= row['value'] <= row['ci_high']
  told = [row for row in rows if row['verdict'] != 'not measured']
  for model in MODELS:
    own = {row['finding'] for row in told if row['model'] == model}
    assert own >= {'1', '2', '3', '4'}


def test_verdicts_stand_in_the_summary_and_on_the_page(finished):
  summary = json.loads((finished / 'summary.json').read_text())['findings']
  page = (finished / 'report.html').read_text()
  for finding in ('1', '2', '3', '4'):
    for model in MODELS:
      found = summary[finding][model]['cka_debiased']
      assert found['verdict'] in page
      assert found['raw']['statistic'] is not None
      assert found['ci_low'] < found['ci_high']


def test_all_analyses_are_on_the_page(finished):
  page = (finished / 'report.html').read_text()
  for name in ('calibration', 'language_map', 'by_n', 'probes', 'gap'):
    section = page.split(f'<section id="{name}">')[1].split('</section>')[0]
    assert 'Nothing to show' not in section
    assert (finished / 'tables' / f'{name}.csv').stat().st_size > 100
