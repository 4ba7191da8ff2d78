"""What cannot be used gets one message that names it; nothing is lost."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from jaxrep import store
from tests import checkpoint, command, speech


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp('model')
  return checkpoint.save(folder)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp('corpus')
  speech.write(folder)
  return folder


@pytest.fixture
def own(corpus, tmp_path):
  """A copy of the corpus to damage, and the flags of a run on it."""
  folder = tmp_path / 'corpus'
  shutil.copytree(corpus, folder)
  return folder


def flags(model, own, tmp_path, *more):
  manifest = str(own / 'manifest.tsv')
  return *command.manifest_flags(manifest, model, tmp_path / 'run'), *more


def edit(own, change):
  path = own / 'manifest.tsv'
  lines = path.read_text().splitlines()
  path.write_text('\n'.join(change(lines)) + '\n')


def test_a_missing_audio_file_is_named(model, own, tmp_path):
  (own / 'fra-004-0.wav').unlink()
  message = command.fail('extract', *flags(model, own, tmp_path))
  assert 'fra-004-0.wav' in message
  assert '--on_bad_input=skip' in message


def test_what_a_bad_file_cost_is_only_that_file(model, own, tmp_path):
  """Its header is fine, so it is met in the middle of the extraction."""
  path = own / 'fra-020-0.wav'
  data = bytearray(path.read_bytes())
  wave, _ = soundfile.read(path, dtype='float32')
  soundfile.write(path, np.full(len(wave), np.nan, np.float32), 16_000, 'FLOAT')
  arguments = flags(model, own, tmp_path)
  message = command.fail('extract', *arguments)
  assert 'fra-020-0.wav' in message
  done = (tmp_path / 'run').glob('store/**/dim*/c/**/*')
  before = {p: p.stat().st_mtime_ns for p in done if p.is_file()}
  assert any('/speech/fra/' in str(p) for p in before)
  path.write_bytes(data)
  command.succeed('extract', *arguments)
  assert {p: p.stat().st_mtime_ns for p in before} == before


def test_skip_drops_counts_and_reports(model, own, tmp_path):
  path = own / 'fra-020-0.wav'
  wave, _ = soundfile.read(path, dtype='float32')
  soundfile.write(path, np.full(len(wave), np.nan, np.float32), 16_000, 'FLOAT')
  (own / 'eng-003-0.wav').unlink()
  command.succeed(*flags(model, own, tmp_path, '--on_bad_input=skip'))
  run = tmp_path / 'run'
  dropped = json.loads((run / 'plan.json').read_text())['dropped']
  named = {(d['language'], d['modality'], d['id']) for d in dropped}
  assert named == {('eng', 'speech', 's003'), ('fra', 'speech', 's020')}
  page = (run / 'report.html').read_text()
  assert 's003' in page
  assert 's020' in page
  scores = pq.read_table(run / 'scores.parquet').to_pylist()
  sizes = {
    (row['lang_a'], row['modality_a'], row['lang_b'], row['modality_b']): row[
      'n'
    ]
    for row in scores
  }
  assert sizes['eng', 'text', 'swh', 'speech'] == 24
  assert sizes['eng', 'speech', 'swh', 'speech'] == 23
  assert sizes['eng', 'speech', 'fra', 'speech'] == 22


def test_an_empty_transcript_is_named(model, own, tmp_path):
  edit(
    own,
    lambda lines: [
      row.replace(lines[1].split('\t')[2], '', 1) for row in lines
    ],
  )
  message = command.fail('extract', *flags(model, own, tmp_path))
  assert 's000' in message


def test_audio_too_short_for_one_step_is_named(model, own, tmp_path):
  soundfile.write(own / 'eng-002-0.wav', speech.waveform(1, 0.034), 16_000)
  message = command.fail('extract', *flags(model, own, tmp_path))
  assert 'eng-002-0.wav' in message
  assert '560' in message


def test_unknown_words_on_the_command_line(model, own, tmp_path):
  arguments = flags(model, own, tmp_path)
  cases = {
    '--languages=eng,klingon': 'klingon',
    '--languages=eng,deu': 'deu',
    '--models=seamless': 'seamless-m4t-v2-large',
    '--corpus=flores': 'fleurs',
    '--pooling=median': 'median',
    '--checkpoints=seamless-m4t-v2-large=/nowhere/at/all': '/nowhere/at/all',
  }
  for flag, word in cases.items():
    assert word in command.fail('extract', *arguments, flag), flag
  assert 'extract' in command.run('extarct').stderr


def test_a_language_that_the_model_lacks_is_left_out(model, own, tmp_path):
  """Northern Sotho is not in SeamlessM4T; the run goes on and says so."""
  edit(own, lambda lines: [row.replace('\tswh\t', '\tnso\t') for row in lines])
  command.succeed(*flags(model, own, tmp_path, '--modalities=text'))
  page = (tmp_path / 'run' / 'report.html').read_text()
  assert 'does not read nso' in page


def test_config_that_is_not_handled(model, own, tmp_path):
  other = tmp_path / 'model'
  shutil.copytree(model, other)
  config = json.loads((other / 'config.json').read_text())
  config['position_embeddings_type'] = 'rotary'
  (other / 'config.json').write_text(json.dumps(config))
  message = command.fail('extract', *flags(other, own, tmp_path))
  assert 'position_embeddings_type' in message
  assert 'config.json' in message


def test_too_few_common_sentences(model, own, tmp_path):
  more = ('--minimum_ids=30', '--common_ids=all', '--modalities=text')
  message = command.fail('all', *flags(model, own, tmp_path, *more))
  assert '30' in message
  assert '--common_ids' in message


def test_nan_activations_name_model_tap_and_sentence(model, own, tmp_path):
  other = tmp_path / 'model'
  shutil.copytree(model, other)
  from safetensors.torch import load_file, save_file

  shard = next(other.glob('*-00001-*.safetensors'))
  tensors = load_file(shard)
  key = next(k for k in tensors if 'text_encoder.layers.1.ffn' in k)
  tensors[key][:] = float('inf')
  save_file(tensors, shard)
  message = command.fail('extract', *flags(other, own, tmp_path))
  assert 'text/layer_02' in message
  assert 'not finite' in message


def test_a_store_of_another_plan_is_refused(model, own, tmp_path):
  arguments = flags(model, own, tmp_path, '--modalities=text')
  command.succeed('extract', *arguments)
  plan = (tmp_path / 'run' / 'plan.json').read_bytes()
  message = command.fail('extract', *arguments, '--pooling=last')
  assert 'pooling' in message
  assert '--workdir' in message
  assert 'units' in command.succeed('plan', *arguments, '--pooling=last')
  assert (tmp_path / 'run' / 'plan.json').read_bytes() == plan
  opened = store.open_store(str(tmp_path / 'run'))
  view = opened.view('seamless-m4t-v2-large', 'text', 'eng')
  assert len(view.ids) == 24


class Evil:
  def __init__(self, witness):
    self.witness = witness

  def __reduce__(self):
    return exec, (f'open({str(self.witness)!r}, "w").write("run")',)


def test_a_checkpoint_that_contains_code_is_refused(model, own, tmp_path):
  other, witness = tmp_path / 'model', tmp_path / 'witness'
  other.mkdir()
  for name in model.iterdir():
    if name.suffix != '.safetensors' and 'index' not in name.name:
      shutil.copy(name, other)
  saved = {'model': {}, 'x': Evil(witness)}
  torch.save(saved, other / 'pytorch_model.bin')
  message = command.fail('extract', *flags(other, own, tmp_path))
  assert 'refused' in message
  assert 'exec' in message
  assert not witness.exists()
  torch.load(other / 'pytorch_model.bin', weights_only=False)
  assert witness.exists(), 'the file would have done no harm'


def test_jobs_out_of_order_say_what_to_run(tmp_path):
  for job in ('compare', 'analyze', 'report'):
    message = command.fail(job, f'--workdir={tmp_path}')
    assert 'run.py extract' in message


def test_a_wrong_measure_is_told_before_anything_is_read(tmp_path):
  for flag, word in (
    ('--measures=svcca,ccaa', 'cka_debiased'),
    ('--svcca_variance=1.5', '1.5'),
  ):
    assert word in command.fail('all', f'--workdir={tmp_path}', flag)
  assert not list(tmp_path.iterdir())


def test_a_wrong_pooling_is_told_before_anything_is_written(tmp_path):
  for rule, word in (
    ('median', 'sequence_last'),
    ('mean,speech/adapter=last', 'speech/adaptor'),
  ):
    message = command.fail(
      'extract',
      *(f'--workdir={tmp_path}', '--languages=eng', f'--pooling={rule}'),
    )
    assert word in message
  assert not list(tmp_path.iterdir())


def test_other_audio_under_the_same_names_is_refused(model, own, tmp_path):
  arguments = flags(model, own, tmp_path, '--modalities=speech')
  command.succeed('extract', *arguments)
  path = own / 'fra-020-0.wav'
  wave, rate = soundfile.read(path, dtype='float32')
  noise = np.random.default_rng(0).standard_normal(len(wave)) / 100
  soundfile.write(path, wave + noise, rate, 'FLOAT')
  message = command.fail('extract', *arguments)
  assert 'speech/fra/' in message
  assert 'was changed' in message


def test_presets_fit_every_job():
  for preset in sorted((command.ROOT / 'jaxrep/jobs/presets').iterdir()):
    listed = command.succeed('list', 'corpora', f'--flagfile={preset}')
    assert 'fleurs' in listed


def test_help_needs_no_jax(tmp_path):
  """A jax that cannot be imported stands in front of the real one."""
  (tmp_path / 'jax').mkdir()
  (tmp_path / 'jax' / '__init__.py').write_text('raise RuntimeError("jax!")')
  result = command.run('--help', PYTHONPATH=str(tmp_path))
  assert '--languages' in result.stdout
  assert 'jax!' not in result.stdout + result.stderr
