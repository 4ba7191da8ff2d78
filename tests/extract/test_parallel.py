"""A language model whose weights several devices share."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from transformers import LlamaConfig, LlamaForCausalLM

from jaxrep import mesh as meshes
from jaxrep import opened
from jaxrep.extract import pooling
from jaxrep.extract.step import pooled_step
from jaxrep.inputs import pad
from ports import loading
from ports.parallel import ColumnEmbed, ColumnLinear, RowLinear
from tests import command, speech
from tests.ports import salmonn_reference, test_llama

SHARED = (1, 2, 8)
LENGTHS = (0.6, 1.2, 3.0, 7.5, 12.0, 20.0, 30.0, 33.0)
TEXTS = ('a market', 'boats', 'the old river', 'x', 'two', 'of', 'and', 'it is')
PROMPT = 'Describe the audio.'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('salmonn')
  salmonn_reference.save(path)
  return path


@pytest.fixture(scope='module', params=['text', 'speech'])
def ran(request, folder):
  """For each way to share: the state, the compiled program, the vectors."""
  model = opened.open_model(
    'salmonn-7b', request.param, str(folder), prompt=PROMPT
  )
  items = TEXTS
  if request.param == 'speech':
    items = [speech.waveform(i, s) for i, s in enumerate(LENGTHS)]
  whole = model.inputs.whole(items, 'eng')
  arrays = [x[: model.inputs.limit] for x in whole]
  grid = model.inputs.grid
  width = -(-max(map(len, arrays)) // grid) * grid
  batch = pad(arrays, 8, width, model.inputs.dtype)
  return model, {shared: _run(model, batch, shared) for shared in SHARED}


def _run(model, batch, shared):
  mesh = meshes.of_devices(jax.devices(), shared)
  assert mesh.shape == {'data': 8 // shared, 'model': shared}
  state = model.weights('float32', meshes.placement(mesh))
  step = pooled_step(model.program, pooling.parse('mean'), 'float32', mesh)
  placed = jax.device_put(batch, meshes.by_row(mesh))
  program = step.lower(state, *placed).compile().as_text()
  found = step(state, *placed)
  for value in found.values():
    # Each device has a row of its own: the audio encoders are not repeated.
    assert {shard.data.shape[0] for shard in value.addressable_shards} == {1}
  return mesh, state, program, jax.tree.map(np.asarray, found)


def test_values_do_not_depend_on_the_mesh(ran):
  _, by_mesh = ran
  whole = by_mesh[1][-1]
  for shared in SHARED[1:]:
    found = by_mesh[shared][-1]
    assert found.keys() == whole.keys()
    for width, expected in whole.items():
      scale = np.abs(expected).max(axis=(0, 2), keepdims=True)
      assert (np.abs(found[width] - expected) <= 1e-5 * scale).all()


def test_each_device_holds_its_part_of_the_language_model(ran):
  """And all of what is not dealt."""
  model, by_mesh = ran
  kinds = {
    path: type(module)
    for path, module in nnx.iter_modules(model.program.abstract)
  }
  for shared, (_, state, _, _) in by_mesh.items():
    dealt = 0
    for leaf in loading.leaves(model.program.abstract):
      value = nnx.to_flat_state(state)
      array = dict(value)[leaf.path][...]
      part = array.addressable_shards[0].data.size
      is_split = leaf.rule.split is not None
      assert part == array.size // (shared if is_split else 1), leaf.key
      dealt += is_split
      if is_split:
        assert issubclass(
          kinds[leaf.path[:-1]], (ColumnEmbed, ColumnLinear, RowLinear)
        )
    assert dealt == 1 + 2 * (7 + 2)  # embeddings; two layers, LoRA on q and v


def test_no_weight_is_gathered(ran):
  """What is gathered are activations, and a layer sums them up twice."""
  model, by_mesh = ran
  weights = {
    leaf.shape
    for leaf in loading.leaves(model.program.abstract)
    if leaf.rule.split is not None
  }
  shapes = weights | {shape[::-1] for shape in weights}
  for shared in SHARED[1:]:
    program = by_mesh[shared][2]
    gathered = [
      tuple(map(int, found.split(',')))
      for found in re.findall(
        r'= f32\[([\d,]+)\]\S* all-gather(?:-start)?\(', program
      )
    ]
    assert not set(gathered) & shapes
    # Embeddings alone: of the text, or of audio and the prompt's pieces.
    assert len(gathered) == (1 if model.modality == 'text' else 3)
    # One sum behind the attention and one behind the rest, of two layers.
    assert len(re.findall(r' all-reduce(?:-start)?\(', program)) == 4


def test_one_device_a_row_communicates_nothing(ran):
  _, by_mesh = ran
  assert not re.search(
    r'(all-\w+|collective-\w+|reduce-scatter)(-start)?\(', by_mesh[1][2]
  )


LOADING = """
import re, sys
import jax
jax.config.update('jax_num_cpu_devices', 8)
from jaxrep import mesh as meshes, opened

def peak():
  # ru_maxrss would begin with that of the process which started this one.
  status = open('/proc/self/status').read()
  return int(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1]) * 1024

model = opened.open_model('vicuna-7b-v1.5', 'text', sys.argv[1])
mesh = meshes.local_mesh(8)
jax.block_until_ready(jax.device_put(1.0))
before = peak()
state = model.weights('bfloat16', meshes.placement(mesh))
held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
print(held, peak() - before)
"""


def test_no_host_holds_the_language_model_twice(tmp_path):
  """Beside the weights on the devices lies one tensor at a time."""
  sizes = {'hidden_size': 1024, 'intermediate_size': 4096, 'vocab_size': 4000}
  made = LlamaForCausalLM(LlamaConfig(num_hidden_layers=10, **sizes)).half()
  test_llama.save(tmp_path, made)
  result = subprocess.run(
    [sys.executable, '-c', LOADING, str(tmp_path)],
    env=command.environment(),
    capture_output=True,
    text=True,
    check=True,
  )
  held, grown = map(int, result.stdout.split())
  assert held > 300e6
  assert grown < 1.4 * held
