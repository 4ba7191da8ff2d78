"""Several models in one run, one of them with an encoder for each language."""

import collections
import dataclasses
import json
import shutil

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

import jaxrep
from jaxrep import opened, store
from jaxrep.extract import cost, pooling
from jaxrep.extract.step import pooled_step
from jaxrep.jobs import definition, extract, settings
from jaxrep.mesh import local_mesh
from tests import checkpoint, command, speech
from tests.ports import sonar_reference, test_nllb, test_w2vbert
from tests.test_tokenizers import GOLDEN

PAIR = 'w2v-bert-2.0+nllb-200-600m'
MODELS = ('sonar', 'seamless-m4t-v1-large', PAIR)
POOLER = {'eng': 3, 'fra': 6}


def rewrite(path, old, new):
  path.write_text(path.read_text().replace(old, new))


def save_sonar(base, **sizes):
  """Text, and speech of English and French; Amharic has no encoder."""
  text, spoken = base / 'sonar-text', base / 'sonar-speech'
  sonar_reference.save_text(text / 'sonar_text_encoder.pt', vocab_size=411)
  for name in ('sentencepiece.model', 'tokens.json'):
    shutil.copy(GOLDEN / name, text)
  rewrite(text / 'tokens.json', 'swh_Latn', 'amh_Ethi')
  for seed, (name, layers) in enumerate(
    {'spenc.eng.pt': 3, 'spenc.v3ap.fra.pt': 6, 'spenc.v3ap.spa.pt': 6}.items()
  ):
    sonar_reference.save_speech(spoken / name, layers, seed, **sizes)
  return text, spoken


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  """A corpus of English, French and Amharic, and small checkpoints."""
  base = tmp_path_factory.mktemp('many')
  manifest = base / 'corpus/manifest.tsv'
  speech.write(manifest.parent)
  rewrite(manifest, '\tswh\t', '\tamh\t')
  text, spoken = save_sonar(base)
  v1, nllb, w2v = base / 'v1', base / 'nllb', base / 'w2v'
  v1.mkdir()
  checkpoint.save_v1(v1)
  for file in v1.glob('*tok*.json'):
    rewrite(file, '__swh__', '__amh__')
  test_nllb.save(nllb, vocab_size=700)
  shutil.copy(GOLDEN / 'sentencepiece.model', nllb / 'sentencepiece.bpe.model')
  test_w2vbert.save(w2v)
  places = {
    'sonar/text': text,
    'sonar/speech': spoken,
    'seamless-m4t-v1-large': v1,
    f'{PAIR}/text': nllb,
    f'{PAIR}/speech': w2v,
  }
  checkpoints = tuple(f'{name}={place}' for name, place in places.items())
  return base, str(manifest), checkpoints


@pytest.fixture(scope='module')
def finished(world):
  base, manifest, checkpoints = world
  workdir = base / 'run'
  result = command.run(
    f'--models={",".join(MODELS)}',
    f'--checkpoints={",".join(checkpoints)}',
    '--corpus=manifest',
    f'--corpus_source={manifest}',
    f'--workdir={workdir}',
    '--measures=cka_debiased',
    '--permutations=2',
    '--nofindings',
  )
  assert result.returncode == 0, result.stderr[-3000:]
  (base / 'run.log').write_text(result.stderr)
  return workdir


def test_a_model_is_scored_before_the_next_is_read(finished):
  log = (finished.parent / 'run.log').read_text()
  scored = [log.index(f'{name}: ') for name in MODELS]
  read = [log.index(f' {name} text eng: ') for name in MODELS]
  assert sorted(scored + read) == [
    at for both in zip(read, scored, strict=True) for at in both
  ]


def test_languages_that_not_all_models_read_are_named(finished):
  defined = json.loads((finished / 'plan.json').read_text())
  assert defined['warnings'] == ['sonar does not read amh as speech.']
  assert defined['languages'] == ['eng', 'fra', 'amh']
  assert defined['compared_languages'] == ['eng', 'fra']
  page = (finished / 'report.html').read_text()
  assert 'sonar does not read amh as speech.' in page
  assert 'Not compared: amh' in page
  # It is there for whoever asks for it.
  held = store.open_store(str(finished))
  assert held.view('seamless-m4t-v1-large', 'speech', 'amh').ids


def test_all_models_are_compared_in_the_same_languages(finished):
  sides = collections.defaultdict(set)
  for row in pq.read_table(finished / 'scores.parquet').to_pylist():
    for end in ('a', 'b'):
      sides[row['model']].add((row[f'lang_{end}'], row[f'modality_{end}']))
  assert set(sides) == set(MODELS)
  for found in sides.values():
    assert found == {
      (iso, kind) for iso in ('eng', 'fra') for kind in ('text', 'speech')
    }


def test_each_language_has_the_layers_of_its_encoder(finished):
  scores = pq.read_table(finished / 'scores.parquet').to_pylist()
  rows = [row for row in scores if row['model'] == 'sonar']
  for language, depth in POOLER.items():
    taps = {row['tap_b'] for row in rows if row['lang_b'] == language}
    stages = {f'speech/pooler_{i:02}' for i in range(1, 7)}
    assert taps & stages == {f'speech/pooler_{i + 1:02}' for i in range(depth)}
  defined = json.loads((finished / 'plan.json').read_text())['models']['sonar']
  speech_taps = [name for name, _ in defined['taps']['speech']]
  assert speech_taps[-8:] == [
    'speech/norm',
    *(f'speech/pooler_{i:02}' for i in range(1, 7)),
    'speech/sentence',
  ]
  assert list(defined['counterparts']) == speech_taps
  across = {
    row['tap_a']
    for row in rows
    if row['modality_a'] == row['modality_b'] == 'speech'
    and row['tap_a'] == row['tap_b']
    and row['lang_a'] != row['lang_b']
  }
  assert 'speech/pooler_03' in across and 'speech/pooler_04' not in across


def test_a_score_of_a_vector_is_that_of_the_encoders(finished, world):
  """What the report says of SONAR's own vectors, from its two encoders."""
  _, _, checkpoints = world
  places = dict(one.split('=') for one in checkpoints)
  held = store.open_store(str(finished))
  text = held.view('sonar', 'text', 'fra')
  encoder = jaxrep.load_encoder('sonar', 'text', places['sonar/text'])
  expected = encoder.encode([row.text for row in text.rows], 'fra')
  for tap in ('text/layer_02', 'text/sentence'):
    found = text.read(tap)
    assert abs(found - expected[tap]).max() <= 1e-5 * abs(found).max()
  spoken = held.view('sonar', 'speech', 'fra')
  assert text.ids == spoken.ids
  value = jaxrep.similarity.cka(
    text.read('text/sentence'), spoken.read('speech/sentence'), debiased=True
  ).value
  (row,) = (
    row
    for row in pq.read_table(finished / 'scores.parquet').to_pylist()
    if (row['model'], row['tap_a'], row['tap_b'], row['lang_a'], row['lang_b'])
    == ('sonar', 'text/sentence', 'speech/sentence', 'fra', 'fra')
  )
  assert row['value'] == pytest.approx(value, abs=1e-5)


def test_weights_that_are_not_for_commerce_are_named(finished):
  page = (finished / 'report.html').read_text()
  at = page.index('Not for commercial use')
  told = page[at : page.index('</dl>', at)]
  assert 'SONAR, text (CC-BY-NC-4.0)' in told
  assert 'SeamlessM4T v1 large, text, speech (CC-BY-NC-4.0)' in told
  assert 'NLLB-200 600M, text (CC-BY-NC-4.0)' in told
  assert 'speech of' not in told  # English is unlisted, French under MIT
  assert 'speech of fra: ' in page and 'licence MIT' in page
  assert 'licence none listed' in page


def test_before_and_after_sonars_pooler_is_an_adaptor(finished):
  table = (finished / 'tables/adaptor.csv').read_text().splitlines()
  rows = [line for line in table if 'sonar' in line]
  assert any('speech/norm' in row and 'before' in row for row in rows)
  assert any('speech/sentence' in row and 'after' in row for row in rows)


def config(world, *models, **changes):
  _, manifest, checkpoints = world
  own = [
    one for one in checkpoints if one.split('/')[0].split('=')[0] in models
  ]
  return extract.Config(
    models=models,
    checkpoints=tuple(own),
    corpus='manifest',
    corpus_source=manifest,
    **{'unit_size': 5, 'batch_seconds': 12} | changes,
  )


def test_encoders_of_one_size_are_compiled_once(world):
  """French and Spanish have poolers of one depth, English another."""
  place = dict(one.split('=') for one in world[2])['sonar/speech']
  programs = {
    iso: opened.open_model('sonar', 'speech', place, language=iso).program
    for iso in ('eng', 'fra', 'spa')
  }
  mesh, rule = local_mesh(), pooling.parse('mean')
  step = {
    iso: pooled_step(program, rule, 'float32', mesh)
    for iso, program in programs.items()
  }
  assert step['fra'] is step['spa'] is not step['eng']


@dataclasses.dataclass
class Watched:
  """A corpus that notes how much lies on the devices while it is read."""

  corpus: object
  held: dict

  def __getattr__(self, name):
    return getattr(self.corpus, name)

  def waveform(self, example):
    now = sum(array.nbytes for array in jax.live_arrays())
    self.held.setdefault(example.language, []).append(now)
    return self.corpus.waveform(example)


def test_an_encoder_is_freed_before_the_next_is_loaded(world, tmp_path):
  """The larger share of what is held is weights: 15 MB an encoder."""
  wide = {'model_dim': 192, 'ffn_inner_dim': 768}
  base = tmp_path / 'base'
  _, spoken = save_sonar(base, **wide)
  manifest = tmp_path / 'manifest.tsv'
  lines = (world[0] / 'corpus/manifest.tsv').read_text().splitlines()
  kept = [lines[0]]
  for line in lines[1:]:
    cells = line.split('\t')
    if int(cells[0][1:]) < 4:
      cells[3] = f'{world[0]}/corpus/{cells[3]}'
      cells[1] = cells[1].replace('amh', 'spa')
      kept.append('\t'.join(cells))
  manifest.write_text('\n'.join(kept) + '\n')
  chosen = extract.Config(
    models=('sonar',),
    checkpoints=(f'sonar/speech={spoken}',),
    corpus='manifest',
    corpus_source=str(manifest),
    modalities=('speech',),
    workdir=str(tmp_path / 'run'),
  )
  before = sum(array.nbytes for array in jax.live_arrays())
  plan = definition.make_plan(chosen)
  watched = Watched(plan.corpus, {})
  extract.carry_out(dataclasses.replace(plan, corpus=watched), chosen)
  weights = (spoken / 'spenc.v3ap.fra.pt').stat().st_size
  held = {iso: max(sizes) - before for iso, sizes in watched.held.items()}
  assert list(held) == ['eng', 'fra', 'spa']
  one = held['fra']
  assert one > 0.8 * weights
  assert max(held.values()) < 1.2 * one
  after = sum(array.nbytes for array in jax.live_arrays())
  assert after - before < 0.1 * one


def test_languages_of_one_file_share_its_encoder(world, tmp_path):
  """A user's own, for instance, that reads several languages."""
  sonar_reference.save_speech(tmp_path / 'checkpoint.pt', 6)
  rewrite(
    tmp_path / 'config.json',
    '"num_heads": 4',
    '"num_layers": 6, "num_heads": 4',
  )
  chosen = dataclasses.replace(
    config(world, 'sonar', modalities=('speech',), workdir=str(tmp_path)),
    checkpoints=(f'sonar/speech={tmp_path}',),
  )
  plan = definition.make_plan(chosen)
  first, second = plan.entries
  assert (first.language, second.language) == ('eng', 'fra')
  assert first.model is second.model


def test_one_of_a_models_parts_may_be_read_alone(world, tmp_path):
  plan = definition.make_plan(
    config(world, PAIR, modalities=('speech',), workdir=str(tmp_path))
  )
  assert {entry.model.modality for entry in plan.entries} == {'speech'}
  described = plan.definition['models'][PAIR]
  assert described['modalities'] == ['speech']
  assert described['counterparts'] == {}


def test_a_models_own_vector_keeps_the_specials(world, tmp_path):
  """They are part of it whatever the pooling of the states leaves out."""
  chosen = config(
    world,
    'sonar',
    modalities=('text',),
    languages='eng',
    text_specials=False,
    workdir=str(tmp_path),
  )
  extract.run(chosen)
  found = store.open_store(str(tmp_path)).view('sonar', 'text', 'eng')
  place = dict(one.split('=') for one in world[2])['sonar/text']
  encoder = jaxrep.load_encoder('sonar', 'text', place)
  texts = [row.text for row in found.rows]
  states = encoder.encode(texts, 'eng', pooling=None)
  inner = np.stack([x[1:-1].mean(axis=0) for x in states['text/output']])
  np.testing.assert_allclose(found.read('text/output'), inner, atol=1e-5)
  own = np.concatenate(states['text/sentence'])
  np.testing.assert_allclose(found.read('text/sentence'), own, atol=1e-5)


def test_texts_that_a_model_cuts_are_counted(world, tmp_path):
  sizes = json.loads((world[0] / 'sonar-text/config.json').read_text()) | {
    'max_tokens': 40
  }
  folder = tmp_path / 'text'
  shutil.copytree(world[0] / 'sonar-text', folder)
  (folder / 'config.json').write_text(json.dumps(sizes))
  chosen = dataclasses.replace(
    config(world, 'sonar', modalities=('text',), workdir=str(tmp_path)),
    checkpoints=(f'sonar/text={folder}',),
    languages='eng,fra',
  )
  plan = definition.make_plan(chosen)
  long = {entry.language: entry.cut for entry in plan.entries}
  assert all(0 < count < 24 for count in long.values())
  (warning,) = plan.definition['warnings']
  assert warning == (
    'sonar reads 40 tokens at most and cuts longer texts: '
    f'{long["eng"]} of eng, {long["fra"]} of fra.'
  )
  assert max(row.length for entry in plan.entries for row in entry.rows) == 40


def test_a_plan_says_how_many_encoders_there_are(world, tmp_path):
  chosen = config(world, 'sonar', workdir=str(tmp_path))
  place = dict(one.split('=') for one in world[2])['sonar/speech']
  described = cost.describe(definition.make_plan(chosen).entries)
  lines = [line for line in described.splitlines() if line.startswith('sonar')]
  # English has an encoder of its own size; Amharic has none.
  assert [line.split(':')[0] for line in lines] == [
    'sonar text',
    'sonar speech',
    'sonar speech',
  ]
  assert 'of 3 languages' in lines[0] and 'of 1 languages' in lines[1]
  manifest = tmp_path / 'manifest.tsv'
  shutil.copytree(world[0] / 'corpus', tmp_path, dirs_exist_ok=True)
  rewrite(manifest, '\tamh\t', '\tspa\t')
  spanish = dataclasses.replace(
    chosen,
    corpus_source=str(manifest),
    modalities=('speech',),
    checkpoints=(f'sonar/speech={place}',),
  )
  described = cost.describe(definition.make_plan(spanish).entries)
  assert 'of 2 languages' in described and 'weights 2 × ' in described


def test_flags_that_cannot_be_meant_are_named(world, tmp_path):
  _, manifest, checkpoints = world
  arguments = (
    '--corpus=manifest',
    f'--corpus_source={manifest}',
    f'--workdir={tmp_path}',
  )
  for flag, message in (
    ('sonar/audio=x', 'model/text='),
    ('nllb-200-600m=x', 'names nllb-200-600m, which --models does not'),
  ):
    found = command.fail(
      'plan', '--models=sonar', f'--checkpoints={flag}', *arguments
    )
    assert message in found
  found = command.fail(
    'all',
    '--models=sonar',
    f'--checkpoints={",".join(one for one in checkpoints if "sonar" in one)}',
    '--languages=amh',
    *arguments,
  )
  assert 'No language is read by every model in every modality' in found
  assert '--language_set=own' in found
  assert settings.Comparison().language_set == 'common'
