"""The ceiling: what noise of recordings leaves of a score."""

import base64
import dataclasses
import gzip
import json
import pathlib
import re
import types

import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxrep import mesh, similarity, store
from jaxrep.jobs import batch, ceiling, scoring, sides
from jaxrep.similarity import pairs
from jaxrep.types import InputError
from tests import checkpoint, command, speech
from tests.jobs import stored

TEXT, SPEECH = 'text/output', 'speech/output'
FIXED = similarity.Parameters(k=6)


def score(folder, sides, **changes):
  definition = stored.write(folder, sides)
  asked = {'ceiling': True} | changes
  found = scoring.score_run(
    definition, stored.choice(folder, **asked), mesh.local_mesh()
  )
  rows = {}
  for row in found.table.to_pylist():
    ends = tuple(
      f'{row["lang_" + end]} {row["modality_" + end]}' for end in 'ab'
    )
    rows[(row['measure'], *ends)] = row
  return rows, found


def rotated(rng, width):
  return np.linalg.qr(rng.standard_normal((width, width)))[0]


def noisy(rng, content, noise):
  """Two recordings of the content in a space of its own, each with noise."""
  turn = rotated(rng, content.shape[1])
  return [
    stored.recording(
      (content + noise * rng.standard_normal(content.shape)) @ turn, SPEECH
    )
    for _ in range(2)
  ]


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  """Text is content; what a language says is half of it, and noise."""
  rng = np.random.default_rng(0)
  n, width = 800, 6
  text = rng.standard_normal((n, width))
  said = 0.8 * text + 0.6 * rng.standard_normal((n, width))
  sides = {
    ('eng', 'text'): [stored.recording(text, TEXT)],
    ('eng', 'speech'): noisy(rng, said, 0.7),
    ('fra', 'speech'): noisy(rng, said, 1.2),
  }
  clean = {
    ('eng', 'text'): [stored.recording(text, TEXT)],
    ('eng', 'speech'): [stored.recording(said, SPEECH)],
  }
  folder = tmp_path_factory.mktemp('world')
  asked = {'measures': ('svcca', 'cka_debiased'), 'parameters': FIXED}
  (folder / 'noisy').mkdir()
  (folder / 'clean').mkdir()
  rows, _ = score(folder / 'noisy', sides, **asked)
  truth, _ = score(folder / 'clean', clean, ceiling=False, **asked)
  return rows, truth


@pytest.mark.parametrize('measure', ['svcca', 'cka_debiased'])
@pytest.mark.parametrize('language', ['eng', 'fra'])
def test_a_score_over_its_ceiling_is_that_without_noise(
  world, measure, language
):
  rows, truth = world
  row = rows[measure, 'eng text', f'{language} speech']
  wanted = truth[measure, 'eng text', 'eng speech']['value']
  assert row['value'] < 0.87 * wanted  # noise does lower it
  # Two scores of one finite sample each: the difference is not rounding.
  assert row['value'] / row['ceiling'] == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize('measure', ['svcca', 'cka_debiased'])
def test_two_noisy_sides_of_one_content_are_at_their_ceiling(world, measure):
  row = world[0][measure, 'eng speech', 'fra speech']
  assert row['ceiling'] < 0.7
  # As above: sampling, not rounding.
  assert row['value'] / row['ceiling'] == pytest.approx(1, abs=0.02)


def test_only_different_sides_have_one(world):
  rows = world[0]
  assert rows['svcca', 'eng text', 'eng text']['ceiling'] is None
  assert rows['svcca', 'eng speech', 'eng speech']['ceiling'] is None


def canonical(x, y, k_a, k_b):
  """Mean canonical correlation of leading components, in float64."""
  bases = []
  for side, k in ((x, k_a), (y, k_b)):
    side = side - side.mean(axis=0)
    values, vectors = np.linalg.eigh(side @ side.T)
    bases.append(vectors[:, np.argsort(-values)[:k]])
  cosines = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)
  return cosines.sum() / min(k_a, k_b)


@pytest.fixture(scope='module')
def uneven(tmp_path_factory):
  """Sides with spectra of their own; not every sentence was said twice."""
  rng = np.random.default_rng(1)
  n, repeated = 60, 40
  content = rng.standard_normal((n, 12))

  def side(width, power):
    scales = (1 + np.arange(width)) ** -power
    noise = rng.standard_normal((n, width))
    return (content @ rng.standard_normal((12, width)) + noise) * scales

  def spoken(width, power):
    first = side(width, power)
    again = (first + 0.3 * rng.standard_normal(first.shape))[:repeated]
    return first, again

  states = {
    ('eng', 'text'): (side(20, 0.5),),
    ('fra', 'text'): (side(20, 0.3),),
    ('eng', 'speech'): spoken(30, 1.0),
    ('fra', 'speech'): spoken(25, 1.4),
    ('swh', 'speech'): (side(25, 1.2), side(25, 1.2)[:5]),
  }
  sides = {
    key: [stored.recording(x, f'{key[1]}/output') for x in some]
    for key, some in states.items()
  }
  folder = tmp_path_factory.mktemp('uneven')
  rows, found = score(
    folder,
    sides,
    measures=('svcca', 'cka'),
    parameters=similarity.Parameters(variance=0.9),
  )
  return states, rows, found, repeated


def test_it_is_of_the_sentences_and_components_of_the_cell(uneven):
  states, rows, _, repeated = uneven
  row = rows['svcca', 'eng speech', 'fra speech']
  assert row['n'] == repeated
  assert row['k_a'] != row['k_b']
  small, large = sorted((row['k_a'], row['k_b']))
  r = [
    canonical(*(x[:repeated] for x in states[one, 'speech']), small, large)
    for one in ('eng', 'fra')
  ]
  assert row['ceiling'] == pytest.approx(np.sqrt(r[0] * r[1]), abs=1e-5)
  text = rows['svcca', 'eng text', 'eng speech']
  small, large = sorted((text['k_a'], text['k_b']))
  first, again = (x[:repeated] for x in states['eng', 'speech'])
  r = canonical(first, again, small, large)
  assert text['ceiling'] == pytest.approx(np.sqrt(r), abs=1e-5)


def test_sentences_said_once_are_left_out_where_a_side_can_be_repeated(uneven):
  _, rows, found, repeated = uneven
  sizes = {
    ends: rows['svcca', *ends]['n']
    for ends in (
      ('eng text', 'fra text'),
      ('eng text', 'eng speech'),
      ('eng text', 'swh speech'),
      ('eng speech', 'swh speech'),
    )
  }
  assert list(sizes.values()) == [60, repeated, 60, repeated]
  assert found.unrepeated == ['made swh']


def test_a_text_repeats_itself_and_some_speech_never(uneven):
  rows = uneven[1]
  assert rows['svcca', 'eng text', 'fra text']['ceiling'] == 1
  assert rows['svcca', 'eng text', 'swh speech']['ceiling'] is None
  assert 0 < rows['cka', 'eng text', 'eng speech']['ceiling'] < 1


def found(measure, k, kept, fixed=False, matching=True, width=8):
  """The ceiling of one cell of k components, and what was asked for it.

  Its speech scores 0.25 against itself, by `kept` components of each side.
  """
  places = [
    batch.Place(('eng', kind), f'{kind}/output') for kind in ('text', 'speech')
  ]
  made = batch.Batch('m', ('a',) * 9, (batch.Cell(*places, matching),), {}, {})
  states = {made.title(one): np.zeros((9, width)) for one in places}
  made = dataclasses.replace(made, states=states, again=states)
  asked = []

  def score(arrays, pairs, cuts):
    asked.append((list(arrays), pairs.tolist(), cuts))
    sizes = {'k_a': np.array([kept[0]]), 'k_b': np.array([kept[1]])}
    return types.SimpleNamespace(value=np.array([0.25]), **sizes)

  scores = types.SimpleNamespace(
    status=np.array(['ok']), k_a=np.array([k[0]]), k_b=np.array([k[1]])
  )
  rule = pairs.measure_named(measure)
  return ceiling.find(made, scores, rule, fixed, score)[0], asked


def test_components_are_those_of_the_cell_or_there_is_no_ceiling():
  value, ((arrays, positions, cuts),) = found('svcca', (5, 3), (3, 5))
  assert value == 0.5
  assert cuts.tolist() == [[3, 5]]
  assert positions == [[0, 1]]
  assert arrays[0] != arrays[1]
  assert found('pwcca', (3, 3), (3, 3))[0] == 0.5
  assert np.isnan(found('pwcca', (5, 3), (4, 3))[0])
  assert np.isnan(found('svcca', (5, 3), (3, 5), width=4)[0])
  assert found('cka', (0, 0), (0, 0))[0] == 0.5


def test_layers_without_counterpart_have_one_where_it_costs_little():
  apart = {'matching': False}
  assert np.isnan(found('svcca', (5, 3), (3, 5), **apart)[0])
  value, ((_, _, cuts),) = found('svcca', (4, 4), (4, 4), fixed=True, **apart)
  assert value == 0.5
  assert cuts is None
  assert found('cka', (0, 0), (0, 0), **apart)[0] == 0.5


@pytest.mark.parametrize(
  'measure', ['retrieval_r1', 'norm_ratio', 'cosine_gap']
)
def test_what_is_no_correlation_has_none(measure):
  value, asked = found(measure, (0, 0), (0, 0))
  assert np.isnan(value)
  assert not asked
  assert not ceiling.describe(pairs.measure_named(measure))


def hsic(x, y):
  """The sign of debiased CKA: Song et al.'s four terms, times n (n - 3)."""
  k, m = (side @ side.T * (1 - np.eye(len(side))) for side in (x, y))
  n, one = len(k), np.ones(len(k))
  total = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
  return np.trace(k @ m) + total - 2 / (n - 2) * (one @ k @ m @ one)


def test_recordings_that_share_nothing_have_no_ceiling(tmp_path):
  x = np.random.default_rng(4).standard_normal((3, 30, 8))
  assert hsic(x[1], x[2]) < 0
  rows, _ = score(
    tmp_path,
    {
      ('eng', 'text'): [stored.recording(x[0], TEXT)],
      ('eng', 'speech'): [stored.recording(y, SPEECH) for y in x[1:]],
      ('fra', 'speech'): [stored.recording(y, SPEECH) for y in x[:0:-1]],
    },
  )
  for front in ('eng text', 'eng speech'):
    row = rows['cka_debiased', front, 'fra speech']
    assert row['status'] == 'ok'
    assert row['ceiling'] is None


def test_without_recordings_the_way_to_them_is_told(tmp_path):
  x = np.random.default_rng(3).standard_normal((30, 8))
  sides = {
    ('eng', 'text'): [stored.recording(x, TEXT)],
    ('eng', 'speech'): [stored.recording(x, SPEECH)],
  }
  with pytest.raises(InputError, match=r'two recordings.*extract --ceiling'):
    score(tmp_path, sides)


@pytest.mark.parametrize('kind', ['text', 'speech'])
def test_a_model_of_one_modality_needs_no_recordings_that_it_cannot_have(
  tmp_path, kind
):
  """Of text alone none can be repeated; of speech alone no finding asks."""
  rng = np.random.default_rng(0)
  tap = f'{kind}/output'
  said = [
    stored.recording(rng.standard_normal((24, 6)), tap)
    for _ in range(1 + (kind == 'speech'))
  ]
  definition = stored.write(tmp_path, {('eng', kind): said})
  for languages in (['eng'], []):
    held = sides.read(definition, str(tmp_path), 'made', languages, 20)
    assert [*held] == [('eng', kind)] * len(languages)


def test_from_two_voices_to_the_report(tmp_path):
  """The small model reads a corpus of two voices, and a part said once."""
  model = tmp_path / 'model'
  model.mkdir()
  checkpoint.save(model)
  manifest = speech.write(tmp_path / 'corpus', voices=2)
  path = pathlib.Path(manifest)
  once = [
    line
    for line in path.read_text().splitlines()
    if not ('\tswh\t' in line and '\tv1\t' in line)
  ]
  path.write_text('\n'.join(once) + '\n')
  workdir = tmp_path / 'run'
  flags = command.manifest_flags(manifest, model, workdir)
  flags += ('--ceiling', '--measures=svcca,cka_debiased')
  assert '24 sentences are common' in command.succeed('plan', *flags)
  command.succeed(*flags)
  defined = json.loads((workdir / 'plan.json').read_text())
  assert defined['ceiling'] is True
  assert defined['unrepeated'] == ['seamless-m4t-v2-large swh']
  assert 'ceiling: sqrt' in defined['measures']['svcca']
  views = {
    language: store.open_store(str(workdir)).view(
      'seamless-m4t-v2-large', 'speech', language, recordings='second'
    )
    for language in checkpoint.LANGUAGES
  }
  assert {row.speaker for row in views['fra'].rows} == {'v1'}
  assert not views['swh'].rows
  matching = defined['models']['seamless-m4t-v2-large']['counterparts']
  checked = 0
  for row in pq.read_table(workdir / 'scores.parquet').to_pylist():
    ends = (row['measure'], matching.get(row['tap_b']))
    if ends == ('svcca', row['tap_a']):
      assert (row['ceiling'] is None) == (row['lang_b'] == 'swh')
      checked += 1
  assert checked == 9 * len(matching)
  page = (workdir / 'report.html').read_text()
  assert 'recorded again' in page
  assert 'only on sentences with two recordings' in page
  packed = re.search('id="panels">([^<]+)<', page)[1]
  hovers = gzip.decompress(base64.b64decode(packed)).decode()
  assert '· ceiling 0.' in hovers
