"""A run of SALMONN: several checkpoints, a prompt, audio beyond 30 s."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

import jaxrep
from jaxrep import store
from tests import command, speech
from tests.ports import salmonn_reference

PROMPT = 'Describe the audio.'
LONG = 'eng-003-0.wav'


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  base = tmp_path_factory.mktemp('salmonn')
  manifest = speech.write(base / 'corpus', count=20)
  soundfile.write(base / 'corpus' / LONG, speech.waveform(7, 31.5), 16_000)
  whole, apart = base / 'whole', base / 'apart'
  salmonn_reference.save(whole)
  apart.mkdir()
  (whole / 'beats.pt').rename(apart / 'sounds.pt')
  arguments = (
    '--models=salmonn-7b',
    f'--checkpoints=salmonn-7b={whole},salmonn-7b/beats={apart / "sounds.pt"}',
    '--corpus=manifest',
    f'--corpus_source={manifest}',
    '--languages=eng,fra',
  )
  return base, arguments


@pytest.fixture(scope='module')
def finished(world):
  base, arguments = world
  workdir = base / 'run'
  command.succeed(
    *arguments,
    f'--prompt={PROMPT}',
    f'--workdir={workdir}',
    '--measures=cka_debiased',
    '--layer_pairs=matching',
    '--nofindings',
  )
  return workdir


def test_audio_that_is_cut_is_told(finished):
  told = (
    'salmonn-7b reads 30 s of audio at most and cuts longer recordings: '
    '1 of eng.'
  )
  assert json.loads((finished / 'plan.json').read_text())['warnings'] == [told]
  assert told in (finished / 'report.html').read_text()


def test_the_prompt_and_every_checkpoint_are_told(finished):
  page = (finished / 'report.html').read_text()
  assert f'<dt>Prompt</dt><dd>{PROMPT}</dd>' in page
  described = json.loads((finished / 'plan.json').read_text())
  model = described['models']['salmonn-7b']
  assert model['prompt'] == PROMPT
  spoken = [c for c in model['checkpoints'] if c['modality'] == 'speech']
  ends = ['whisper', 'sounds.pt', 'llama', 'salmonn_v1.pth']
  for one, end in zip(spoken, ends, strict=True):
    assert one['source'].endswith(end)
  assert len({one['fingerprint'] for one in spoken}) == 4


def test_what_is_stored_is_what_a_notebook_gets(world, finished):
  base, _ = world
  places = {'': base / 'whole', 'beats': base / 'apart/sounds.pt'}
  held = store.open_store(str(finished))
  for modality in ('text', 'speech'):
    view = held.view('salmonn-7b', modality, 'eng')
    rows = [row for row in view.rows if row.id in ('s003', 's004')]
    items = [row.text for row in rows]
    if modality == 'speech':
      files = [base / f'corpus/eng-{row.id[1:]}-0.wav' for row in rows]
      items = [soundfile.read(file, dtype='float32')[0] for file in files]
      assert max(map(len, items)) == 31.5 * 16_000
    encoder = jaxrep.load_encoder(
      'salmonn-7b', modality, checkpoint=places, prompt=PROMPT
    )
    at = [view.rows.index(row) for row in rows]
    for tap, vectors in encoder.encode(items, 'eng').items():
      kept = view.read(tap)[at]
      np.testing.assert_allclose(
        kept, vectors, atol=1e-5 * np.abs(vectors).max()
      )


def test_layers_are_compared_on_both_sides_of_the_qformer(finished):
  scores = pq.read_table(finished / 'scores.parquet').to_pylist()
  pairs = {
    (row['tap_b'], row['tap_a'])
    for row in scores
    if row['modality_a'] != row['modality_b']
  }
  assert pairs == {
    *(('speech/fused', 'text/embed'), ('speech/audio_tokens', 'text/embed')),
    *((f'speech/qformer_{i:02}', 'text/embed') for i in (1, 2)),
    *((f'speech/layer_{i:02}', f'text/layer_{i:02}') for i in (1, 2)),
    ('speech/output', 'text/output'),
  }
  table = (finished / 'tables/adaptor.csv').read_text().splitlines()
  assert any('before' in row and 'speech/fused' in row for row in table)
  assert any('after' in row and 'speech/audio_tokens' in row for row in table)


def test_another_prompt_is_other_data(world, finished):
  _, arguments = world
  found = command.fail(
    'extract', *arguments, '--prompt=Translate.', f'--workdir={finished}'
  )
  assert 'fingerprint' in found


def test_a_plan_says_what_mesh_to_use(world, tmp_path):
  _, arguments = world
  printed = command.succeed(
    *('plan', *arguments, '--models=salmonn-7b,tiny-untrained'),
    # What reads no prompt goes without.
    *('--languages=eng', '--model_parallel=1', '--prompt=Translate.'),
    f'--workdir={tmp_path}',
  )
  assert 'salmonn-7b speech' in printed
  assert printed.count('fits on a mesh of data=1 × model=1') == 4
  models = json.loads((tmp_path / 'plan.json').read_text())['models']
  assert models['tiny-untrained']['prompt'] is None


def test_flags_that_cannot_be_meant_are_named(world, tmp_path):
  _, arguments = world
  workdir = f'--workdir={tmp_path}'
  for flags, message in (
    (('--prompt=x', '--models=tiny-untrained'), 'none of tiny-untrained reads'),
    (
      (*arguments, '--checkpoints=salmonn-7b/vicuna=x'),
      'one of several checkpoints',
    ),
    ((*arguments, '--model_parallel=7'), 'can be shared by 1 of them'),
  ):
    assert message in command.fail('extract', *flags, workdir)


def test_a_list_names_every_checkpoint():
  printed = command.succeed('list', 'models').splitlines()
  (line,) = [one for one in printed if one.startswith('salmonn-7b: ')]
  assert 'speech: openai/whisper-large-v2; Apache-2.0' in line
  assert 'text, speech: lmsys/vicuna-7b-v1.5; Llama 2 Community' in line
