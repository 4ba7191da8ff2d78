"""A training that stops goes on as if it had not."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxrep.opened import open_model
from jaxrep.training import curves, export, loop, retrieval, unaligned
from jaxrep.training import networks as training_networks
from jaxrep.training.networks import Networks, split
from jaxrep.training.recipes import RECIPES
from jaxrep.types import InputError
from tests.training.conftest import WHOLE
from tests.training.material import small

STEPS = 6
RECIPE = dataclasses.replace(
  RECIPES['unaligned'], rows=3, steps=STEPS, warmup=1, learning_rate=1e-3
)


class Killed(Exception):
  pass


@pytest.fixture(scope='module', autouse=True)
def often():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, 'SAVED_EVERY', 2)
    patch.setattr(loop, 'JUDGED_EVERY', 4)
    patch.setattr(curves, 'LOGGED_EVERY', 1)
    yield


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """The folder of an uninterrupted training, and its networks."""
  folder = tmp_path_factory.mktemp('whole')
  return folder, loop.train(RECIPE, small(), folder, seed=0)


def values(networks):
  return {key: np.asarray(v) for key, v in split(networks)[0].items()}


def losses(folder):
  return [
    {k: v for k, v in row.items() if k != 'seconds'}
    for row in curves.Curves(folder).rows()
  ]


def test_a_killed_training_ends_as_an_uninterrupted_one(
  whole, tmp_path, monkeypatch
):
  """Killed in the fourth step, with steps 1 and 2 saved and 3 written down."""
  folder, networks = whole
  made = []

  def batch(*arguments):
    made.append(1)
    if len(made) == 4:
      raise Killed
    return original(*arguments)

  original = unaligned.batch
  monkeypatch.setattr(unaligned, 'batch', batch)
  with pytest.raises(Killed):
    loop.train(RECIPE, small(), tmp_path, seed=0)
  assert losses(tmp_path)[-1]['step'] == 3
  resumed = loop.train(RECIPE, small(), tmp_path, seed=0)
  assert len(made) == 4 + 4  # steps 3 to 6 again
  assert losses(tmp_path) == losses(folder)
  expected = values(networks)
  for key, value in values(resumed).items():
    np.testing.assert_array_equal(value, expected[key], err_msg=key)


def test_a_finished_training_is_not_done_again(whole, monkeypatch):
  folder, networks = whole
  monkeypatch.setattr(unaligned, 'batch', None)
  again = loop.train(RECIPE, small(), folder, seed=0)
  expected = values(networks)
  for key, value in values(again).items():
    np.testing.assert_array_equal(value, expected[key], err_msg=key)


def test_training_moves_every_parameter_from_the_control(whole):
  _, networks = whole
  moved = values(networks)
  start = values(Networks(unaligned.Head, small().kinds, seed=0))
  assert moved.keys() == start.keys()
  still = [k for k in moved if np.array_equal(moved[k], start[k])]
  assert not still


def test_the_control_is_where_training_starts(monkeypatch):
  monkeypatch.setattr(training_networks, 'architecture', WHOLE)
  networks = Networks(unaligned.Head, small().kinds, seed=0)
  for modality in ('text', 'speech'):
    model = open_model('tiny-untrained', modality)
    state = jax.tree.leaves(model.weights('float32'))
    own = jax.tree.leaves(split(getattr(networks, modality))[0])
    assert len(own) == len(state)
    total = [float(np.abs(np.asarray(x)).sum()) for x in own]
    wanted = [float(np.abs(np.asarray(x)).sum()) for x in state]
    np.testing.assert_allclose(sorted(total), sorted(wanted), rtol=1e-6)


def test_another_training_is_not_mixed_in(whole):
  folder, _ = whole
  other = dataclasses.replace(RECIPE, learning_rate=2e-3)
  for recipe, seed in ((other, 0), (RECIPE, 1)):
    with pytest.raises(InputError, match='holds another training'):
      loop.train(recipe, small(), folder, seed)


def test_curves_hold_losses_and_retrieval(whole):
  rows = losses(whole[0])
  assert [row['step'] for row in rows if 'loss' in row] == list(range(1, 7))
  judged = [row for row in rows if 'retrieval' in row]
  assert [row['step'] for row in judged] == [4, 6]
  assert set(judged[0]['retrieval']) == {'text-speech', 'text', 'speech'}
  assert all(0 <= v <= 1 for v in judged[0]['retrieval'].values())
  first, last = rows[0]['loss'], rows[-2]['loss']
  assert sum(last.values()) < sum(first.values())
  figure = curves.draw(rows, 'title')
  assert [len(axes.lines) for axes in figure.axes] == [3, 3]


def test_what_is_saved_is_what_was_trained(whole, tmp_path):
  """float16 and back, through the loader that people's checkpoints go through.

  Beside the loader's own check that every tensor is used and fits, the vectors
  of the development sentences are the same.
  """
  _, networks = whole
  export.save(networks, tmp_path)
  assert json.loads((tmp_path / 'config.json').read_text()) == (
    training_networks.architecture()
  )
  spoken = small().development
  wanted = retrieval.embed(networks, spoken)
  for modality in ('text', 'speech'):
    model = open_model('tiny-aligned', modality, str(tmp_path))
    values = split(getattr(networks, modality))[0]
    loaded = jax.tree.leaves(model.weights('float32'))
    assert len(loaded) == len(values)
  loaded = reloaded(networks, tmp_path)
  for side, vectors in retrieval.embed(loaded, spoken).items():
    close = np.abs(vectors - wanted[side]).max() / np.abs(wanted[side]).max()
    assert 0 < close < 5e-3, side


def reloaded(networks, folder):
  """The same networks with encoders as `open_model` reads them."""
  from flax import nnx

  again = Networks(unaligned.Head, small().kinds, seed=0)
  for modality in ('text', 'speech'):
    model = open_model('tiny-aligned', modality, str(folder))
    nnx.update(getattr(again, modality), model.weights('float32'))
  return again
