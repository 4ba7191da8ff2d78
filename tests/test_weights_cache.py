"""Parameters from a cache: the same as read directly, or refused, or warned."""

import json
import math
import shutil
import threading

import jax
import numpy as np
import pytest
import tensorstore as ts
from absl import logging

from jaxrep import mesh as meshes
from jaxrep import opened, weights_cache
from jaxrep.types import InputError
from ports import loading
from tests import disk
from tests.ports import salmonn_reference, sonar_reference

PRECISIONS = ('float32', 'bfloat16')
READ = '/tensorstore/kvstore/file/bytes_read'


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  folder = tmp_path_factory.mktemp('salmonn')
  salmonn_reference.save(folder)
  return str(folder)


@pytest.fixture(scope='module')
def model(place):
  return opened.open_model('salmonn-7b', 'speech', place)


def placement(shared=1):
  return meshes.placement(meshes.of_devices(jax.devices(), shared))


def cached(folder, model, precision='float32', shared=1):
  place = placement(shared)
  return weights_cache.weights(str(folder), model, precision, place)


def same(found, expected):
  """Values, kinds, places and names of two states."""
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
  for one, other in pairs:
    assert (one.dtype, one.sharding) == (other.dtype, other.sharding)
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def bytes_read():
  (found,) = ts.experimental_collect_matching_metrics(READ)
  return sum(value['value'] for value in found['values'])


def never(*_):
  raise AssertionError('the checkpoint was read')


@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('written', [1, 8])
def test_what_is_restored_is_what_would_be_read(
  tmp_path, model, monkeypatch, precision, written
):
  """Whichever mesh it was written under; the checkpoint is not touched."""
  expected = {n: model.weights(precision, placement(n)) for n in (1, 2, 8)}
  same(cached(tmp_path, model, precision, written), expected[written])
  monkeypatch.setattr(opened.Model, 'weights', never)
  for shared, state in expected.items():
    before = bytes_read()
    same(cached(tmp_path, model, precision, shared), state)
    size = sum(x.nbytes for x in jax.tree.leaves(state))
    assert bytes_read() - before < 1.1 * size + 1e5  # and not once a device


def test_chunks_end_where_parts_of_dealt_parameters_do(
  tmp_path, model, monkeypatch
):
  """So that a device of 8 reads an eighth of the file, and no more."""
  least = 2048
  monkeypatch.setattr(weights_cache, 'PIECE', least)
  cached(tmp_path, model)
  (published,) = tmp_path.glob('*.json')
  folder = tmp_path / json.loads(published.read_text())['folder']
  base, seen = {'driver': 'ocdbt', 'base': f'file://{folder}'}, 0
  for leaf in loading.leaves(model.program.abstract):
    split, size = leaf.rule.split, 4 * math.prod(leaf.shape)
    if split is None or size < 8 * least:
      continue
    name = '.'.join(map(str, leaf.path))
    spec = {'driver': 'zarr', 'kvstore': base | {'path': name}}
    chunk = ts.open(spec, open=True).result().chunk_layout.read_chunk.shape
    assert leaf.shape[split] // 8 % chunk[split] == 0, (name, chunk)
    seen += 1
  assert seen > 3


def test_the_key_is_all_that_the_parameters_depend_on(tmp_path, place):
  def named(name='salmonn-7b', place=place, precision='float32', **options):
    found = opened.open_model(name, 'speech', place, **options)
    return weights_cache.key(found, precision)

  for seed in (0, 1):
    sonar_reference.save_speech(tmp_path / str(seed) / 'spenc.eng.pt', 3, seed)
  sonar = {'name': 'sonar', 'language': 'eng'}
  bundled = {'place': '', 'name': 'tiny-aligned'}
  keys = [
    named(),
    named(precision='bfloat16'),
    named(**sonar, place=str(tmp_path / '0')),
    named(**sonar, place=str(tmp_path / '1')),
    named(**bundled),
    named(**bundled | {'name': 'tiny-untrained'}),
    named(**bundled | {'name': 'tiny-aligned@adaptor-redrawn'}),
    named(**bundled | {'name': 'tiny-aligned@adaptor-residual'}),
  ]
  assert len(set(keys)) == len(keys)
  assert named() == named(prompt='Describe the audio.') == named(fine=True)


def test_variants_and_encoders_by_language(tmp_path):
  for name, layers in (('spenc.eng.pt', 3), ('spenc.v3ap.fra.pt', 6)):
    sonar_reference.save_speech(tmp_path / name, layers)
  models = [
    opened.open_model('tiny-aligned@adaptor-residual', 'speech'),
    opened.open_model('tiny-untrained', 'text'),
    *(
      opened.open_model('sonar', 'speech', str(tmp_path), language=iso)
      for iso in ('eng', 'fra')
    ),
  ]
  for _ in range(2):
    for model in models:
      expected = model.weights('float32', placement())
      same(cached(tmp_path / 'cache', model), expected)
  assert len([*(tmp_path / 'cache').glob('*.json')]) == len(models)


def test_what_killed_writers_left_is_never_read_and_goes(tmp_path, model):
  key = weights_cache.key(model, 'float32')
  left = tmp_path / f'{key}-0123'
  cached(tmp_path / 'whole', model)
  (whole,) = (tmp_path / 'whole').glob('*-*')
  shutil.copytree(whole, left)
  next(p for p in left.rglob('ocdbt.process_0/d/*')).write_bytes(b'')
  same(cached(tmp_path, model), model.weights('float32', placement()))
  assert not left.exists()
  same(cached(tmp_path, model), model.weights('float32', placement()))


def damages(folder):
  """Each damages one thing of a cache in its own way."""
  (published,) = folder.glob('*.json')
  data = max(folder.rglob('d/*'), key=lambda path: path.stat().st_size)
  whole, text = data.read_bytes(), published.read_text()
  yield data.unlink
  yield lambda: data.write_bytes(whole[:-1])
  data.write_bytes(whole)
  yield (folder / json.loads(text)['folder'] / '_METADATA').unlink
  for words in ('', '{"folder"', '[]', '{"folder": "none", "sizes": {"a": 1}}'):
    yield lambda words=words: published.write_text(words)


def test_damage_is_one_error_with_a_remedy_that_works(tmp_path, model):
  folder = tmp_path / 'cache'
  expected = model.weights('float32', placement())
  cached(folder, model)
  (published,) = folder.glob('*.json')
  for damage in damages(folder):
    damage()
    with pytest.raises(InputError, match=f'Delete {published}') as error:
      cached(folder, model)
    assert '\n' not in str(error.value)
  published.unlink()
  for _ in range(2):
    same(cached(folder, model), expected)
  assert len([*folder.iterdir()]) == 2


def test_threads_of_writers_agree_on_one(tmp_path, model, monkeypatch):
  """All find the cache empty, since none is done before all have begun."""
  barrier = threading.Barrier(4)
  read = opened.Model.weights

  def together(*arguments):
    barrier.wait(60)
    return read(*arguments)

  monkeypatch.setattr(opened.Model, 'weights', together)
  states = []
  threads = [
    threading.Thread(target=lambda: states.append(cached(tmp_path, model)))
    for _ in range(4)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(states) == 4
  monkeypatch.setattr(opened.Model, 'weights', never)
  for state in (*states, cached(tmp_path, model)):
    same(state, states[0])
  assert len([*tmp_path.glob('*.json')]) == 1


# Orbax leaves the writes that it had begun to an event loop that is closed.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_cache_that_cannot_be_written_costs_a_warning(
  tmp_path, model, caplog, monkeypatch
):
  """At whichever moment the disk is full; what was begun goes."""
  monkeypatch.setattr(logging.get_absl_logger(), 'propagate', True)
  expected = model.weights('float32', placement())
  with disk.mounted(tmp_path / 'disk', 100) as small:
    folder = small.path / 'cache'
    size = sum(x.nbytes for x in jax.tree.leaves(expected)) // 1024
    for spare in (0, size // 2, size + 4, size + 16):
      caplog.clear()
      small.fill(spare)
      same(cached(folder, model), expected)
      assert f'cannot write to {folder}' in caplog.text
      assert 'No space left on device' in caplog.text
      assert not [*folder.glob('*')]
    with small.read_only():
      same(cached(folder, model), expected)
      assert 'Read-only file system' in caplog.text
    small.resize(10_000)
    for _ in range(2):
      same(cached(folder, model), expected)
    assert len([*folder.glob('*.json')]) == 1
    with small.read_only():  # of use all the same
      monkeypatch.setattr(opened.Model, 'weights', never)
      same(cached(folder, model), expected)


def test_keeping_parameters_leaves_no_copy_of_them_in_memory(tmp_path, model):
  """`np.asarray` of an array on several devices stays as long as that does."""
  state = cached(tmp_path, model, shared=8)
  dealt = [
    x for x in jax.tree.leaves(state) if not x.sharding.is_fully_replicated
  ]
  assert dealt
  assert all(x._npy_value is None for x in dealt)


def test_devices_without_room_are_not_the_caches_fault(
  tmp_path, model, monkeypatch
):
  cached(tmp_path, model)

  def full(*_):
    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: out of memory')

  monkeypatch.setattr(weights_cache.ocp.Checkpointer, 'restore', full)
  with pytest.raises(jax.errors.JaxRuntimeError, match='RESOURCE_EXHAUSTED'):
    cached(tmp_path, model)
