"""What must hold for every encoder of every model (one shared test)."""

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh

from jaxrep import mesh as meshes
from jaxrep import opened
from jaxrep.extract import pooling
from jaxrep.extract import step as steps
from jaxrep.extract.step import frames_step, groups, pooled_step
from jaxrep.inputs import pad
from jaxrep.models import MODELS
from jaxrep.types import SAMPLE_RATE
from tests import checkpoint, speech
from tests.ports import (
  beats_reference,
  salmonn_reference,
  sonar_reference,
  test_llama,
  test_nllb,
  test_w2vbert,
  test_whisper,
)

TOLERANCE = 1e-5

TEXT, SPEECH = 'text', 'speech'


def save_speech(folder):
  sonar_reference.save_speech(folder / 'checkpoint.pt', 6)


def save_text(folder):
  sonar_reference.save_text(folder / 'checkpoint.pt')


def save_beats(folder):
  beats_reference.save(folder / 'checkpoint.pt', encoder_layers=2)


def save_whisper(folder):
  test_whisper.save(folder, encoder_layers=1)


def save_salmonn(folder):
  salmonn_reference.save(
    folder, whisper={'encoder_layers': 1}, llama={'num_hidden_layers': 1}
  )


def save_llama(folder):
  test_llama.save(folder, test_llama.model())


# One model of each network, and how a small checkpoint of it is made; None: the
# model is small. These have all the blocks between them.
BLOCKS = {
  ('tiny-untrained', TEXT): None,
  ('tiny-untrained', SPEECH): None,
  ('control-surface', TEXT): None,
  ('control-surface', SPEECH): None,
  ('control-duration', TEXT): None,
  ('sonar', TEXT): save_text,
  ('sonar', SPEECH): save_speech,
  ('salmonn-7b', TEXT): save_salmonn,
  ('salmonn-7b', SPEECH): save_salmonn,
}
TINY = BLOCKS | {
  ('control-duration', SPEECH): None,
  ('seamless-m4t-v1-large', TEXT): checkpoint.save_v1,
  ('seamless-m4t-v1-large', SPEECH): checkpoint.save_v1,
  ('nllb-200-600m', TEXT): test_nllb.save,
  ('w2v-bert-2.0', SPEECH): test_w2vbert.save,
  ('whisper-large-v2', SPEECH): save_whisper,
  ('beats', SPEECH): save_beats,
  ('vicuna-7b-v1.5', TEXT): save_llama,
}


def test_every_network_is_held_to_the_contract():
  """Models that share a network differ in sizes, checkpoints and languages."""
  known = {MODELS[name].parts[modality].network for name, modality in TINY}
  every = {
    part.network for row in MODELS.values() for part in row.parts.values()
  }
  assert known == every
  assert jax.device_count() == 8


@pytest.fixture(scope='module', params=TINY, ids='-'.join)
def loaded(request, tmp_path_factory):
  name, modality = request.param
  source = ''
  if TINY[request.param]:
    folder = tmp_path_factory.mktemp(name)
    TINY[request.param](folder)
    source = str(folder)
  model = opened.open_model(name, modality, source, fine=True)
  state = model.weights('float32')
  return model, state, frames_step(model.program, 'float32', meshes_of(1))


def meshes_of(devices: int) -> Mesh:
  return meshes.of_devices(jax.devices()[:devices])


def items(model) -> list[np.ndarray]:
  """Eight inputs of different length, the shortest that are allowed first."""
  least = model.inputs.minimum
  if model.modality == 'text':
    rng = np.random.default_rng(1)
    lengths = (least, 2, 3, 5, 8, 9, 15, 16)
    return [rng.integers(1, 90, n).astype(np.int32) for n in lengths]
  seconds = (least / SAMPLE_RATE, 0.1, 0.3, 0.52, 0.7, 1.01, 1.2, 1.9)
  return [
    speech.waveform(i, max(s, least / SAMPLE_RATE))
    for i, s in enumerate(seconds)
  ]


def arrays(model, rows, dummies=0, grids=1):
  """A batch as the jobs make it: padded to a multiple of the grid."""
  length = grids * model.inputs.grid
  return pad(rows, len(rows) + dummies, length, model.inputs.dtype)


def roomy(model, rows):
  """With dummy rows, and twice as long."""
  return arrays(model, rows, dummies=8, grids=2)


def valid(model, outputs, row):
  """Tap → the valid states of one row."""
  return {
    spec.name: np.asarray(states[row])[np.asarray(mask[row])]
    for spec, (states, mask) in zip(model.taps, outputs, strict=True)
  }


def assert_same(ours, theirs, tolerance=TOLERANCE):
  for name, expected in theirs.items():
    assert ours[name].shape == expected.shape, name
    scale = np.abs(expected).max()
    assert scale > 0, name
    error = np.abs(ours[name] - expected).max() / scale
    assert error <= tolerance, (name, error)


def test_padding_holds_nothing(loaded):
  model, state, step = loaded
  batch, lengths = arrays(model, items(model))
  clean = step(state, batch, lengths)
  dirty = batch.copy()
  filler = np.nan if model.modality == 'speech' else 77
  for row, length in enumerate(lengths):
    dirty[row, length:] = filler
  found = step(state, dirty, lengths)
  for row in range(len(batch)):
    ours, theirs = valid(model, found, row), valid(model, clean, row)
    assert_same(ours, theirs, tolerance=0)


def test_more_padding_and_alone_change_nothing(loaded):
  model, state, step = loaded
  rows = items(model)
  clean = step(state, *arrays(model, rows))
  wider = step(state, *roomy(model, rows))
  for row, item in enumerate(rows):
    alone = valid(model, step(state, *arrays(model, [item])), 0)
    assert_same(valid(model, clean, row), alone)
    assert_same(valid(model, wider, row), alone)


def test_dummy_rows_are_finite_and_change_nothing(loaded):
  model, state, step = loaded
  rows = items(model)
  clean = step(state, *arrays(model, rows))
  found = step(state, *roomy(model, rows))
  for states, mask in found:
    assert np.isfinite(states).all()
    assert not np.asarray(mask[8:]).any()
  for row in range(8):
    assert_same(valid(model, found, row), valid(model, clean, row))


def test_a_cpu_may_read_row_by_row(loaded, monkeypatch):
  model, state, step = loaded
  batch = arrays(model, items(model))
  clean = step(state, *batch)
  monkeypatch.setattr(steps, 'STEPS_A_TURN', 1)
  in_turns = frames_step.__wrapped__(model.program, 'float32', meshes_of(1))
  assert 'while' in in_turns.lower(state, *batch).as_text()
  found = in_turns(state, *batch)
  for row in range(len(batch[0])):
    assert_same(valid(model, found, row), valid(model, clean, row))


@pytest.mark.parametrize(
  'loaded', BLOCKS, indirect=True, ids='-'.join, scope='module'
)
def test_jit_is_eager(loaded):
  """Of the network; the front ends are held to it by their own tests."""
  model, state, _ = loaded
  inputs, mask = jax.jit(model.inputs.device)(*arrays(model, items(model)[:3]))

  graphdef = nnx.graphdef(model.program.abstract)

  def network(state, inputs, mask):
    taps = nnx.merge(graphdef, state)(inputs, mask)
    named = {tap.name: tap for tap in taps}
    wanted = [named[spec.name] for spec in model.taps]
    return [(tap.states, tap.mask) for tap in wanted]

  jitted = jax.jit(network)(state, inputs, mask)
  eager = network(state, inputs, mask)
  for row in range(3):
    assert_same(valid(model, jitted, row), valid(model, eager, row))


def test_eight_devices_give_what_one_gives(loaded):
  """Means over the valid states, of which one device gives all."""
  model, state, step = loaded
  batch = arrays(model, items(model))
  one = [valid(model, step(state, *batch), row) for row in range(len(batch[0]))]
  mesh = meshes_of(8)
  state = model.weights('float32', meshes.placement(mesh))
  pooled = pooled_step(model.program, pooling.parse('mean'), 'float32', mesh)
  for _ in range(2):
    found = pooled(state, *jax.device_put(batch, meshes.by_row(mesh)))
  assert pooled._cache_size() == 1
  for width, names in groups(model.taps).items():
    assert found[width].sharding.is_equivalent_to(meshes.by_row(mesh), 3)
    for i, name in enumerate(names):
      means = [states[name].mean(axis=0, dtype=float) for states in one]
      assert_same(
        {name: np.asarray(found[width][:, i])}, {name: np.array(means)}
      )
