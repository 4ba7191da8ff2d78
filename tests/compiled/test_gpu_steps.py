"""What the compiler for GPUs says of every model of released size.

No GPU is needed. Needs the extra `gpu-aot`; run with `pytest -n 0 -m gpu`. Half
a minute a program.
"""

import re

import jax
import pytest

from jaxrep import mesh as meshes
from jaxrep import opened
from jaxrep.extract import fit, hlo, target, topology
from jaxrep.extract.plan import Options
from jaxrep.types import SAMPLE_RATE
from tests import released

pytestmark = pytest.mark.gpu
OPTIONS = Options(precision='bfloat16', batch_seconds=1280)
SECONDS, TOKENS = 12, 64
ROWS = 4


def compiled(model, gpus, rows, shared=1):
  """A step and its footprint, for clips of 12 s or texts of 64 tokens."""
  mesh = meshes.of_devices(gpus, shared)
  policy = OPTIONS.policy(model)
  length = policy.padded(SECONDS * SAMPLE_RATE)
  if model.modality == 'text':
    length = policy.padded(TOKENS)
  rows = -(-(rows or policy.size(length)) // mesh.size) * mesh.size
  step = target.compile_step(model, OPTIONS, mesh, rows, length)
  return step, target.footprint(step, model, mesh, rows, length)


@pytest.mark.parametrize('name, modality', released.PROGRAMS)
def test_the_planned_batch_fits_one_gpu(tmp_path, name, modality):
  model = released.open_released(tmp_path, name, modality)
  chip = topology.chip_of('h100:1')
  (gpus,) = topology.hosts_of('h100:1')
  assert fit.choose(model, 'bfloat16', 1, chip.memory).fits
  _, found = compiled(model, gpus, 0)
  weights = sum(
    leaf.size * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(model.program.shapes('bfloat16'))
  )
  assert weights <= found.weights < 1.01 * weights
  assert found.held < chip.memory
  assert found.rows <= found.fitting(chip, 1)
  share = found.operations / chip.operations / found.seconds(chip, 'bfloat16')
  print(name, modality, found.rows, found.fitting(chip, 1), f'{share:.0%}')
  assert 0.2 < share < 1
  own = [one.scope for one in found.kernels if 'pallas' in one.name]
  attended = [scope for scope in own if '/attend/' in scope]
  assert len(attended) == released.attended(name, modality)
  convolved = [
    scope for scope in own if scope.endswith('depthwise/pallas_call')
  ]
  layers = getattr(model.sizes, 'speech_encoder_layers', 0)
  assert len(convolved) == layers == len(own) - len(attended)


@pytest.mark.parametrize(
  'name, modality',
  [('sonar', 'text'), ('w2v-bert-2.0', 'speech'), ('beats', 'speech')],
)
def test_eight_gpus_communicate_nothing(tmp_path, name, modality):
  model = released.open_released(tmp_path, name, modality)
  (gpus,) = topology.hosts_of('h200:8')
  step, found = compiled(model, gpus, 8 * ROWS)
  _, alone = compiled(model, gpus[:1], ROWS)
  assert hlo.collectives(step.as_text()) == {}
  assert found.operations == alone.operations
  assert found.weights == alone.weights


def test_a_language_model_is_shared_without_gathering_its_weights(tmp_path):
  model = opened.open_model(
    'salmonn-13b', 'text', str(released.save_salmonn(tmp_path, '13b'))
  )
  (gpus,) = topology.hosts_of('h100:2')
  step, found = compiled(model, gpus, 2 * ROWS, shared=2)
  _, alone = compiled(model, gpus[:1], ROWS)
  assert found.weights < 0.51 * alone.weights
  sums = hlo.collectives(step.as_text())
  layers = model.sizes.num_hidden_layers
  assert 0 < len(sums.pop('all-reduce')) <= 2 * layers
  assert len(sums.pop('all-gather', ())) < 10 and not sums


def test_states_stay_rows_and_inner_products_narrow(tmp_path):
  """What XLA would do otherwise; see pooling, `ports.layers.InnerLinear`."""
  model = released.open_released(tmp_path, 'nllb-200-600m', 'text')
  (gpus,) = topology.hosts_of('h200:1')
  step, found = compiled(model, gpus, 32)
  program = step.as_text()
  entry = program[program.index('\nENTRY') :]
  made = set(re.findall(r' = (\w+\[[\d,]*\])', entry))
  dim, inner = model.sizes.hidden_size, model.sizes.encoder_ffn_dim
  tokens = found.rows * found.length
  assert f'f32[{found.rows},{dim},{found.length}]' not in made
  assert f'f32[{tokens},{inner}]' not in made
  assert (
    f'bf16[{tokens},{inner}]' in made or f'(bf16[{tokens},{inner}]' in entry
  )


def test_the_rows_that_fit_do_and_twice_as_many_do_not(tmp_path):
  model = released.open_released(tmp_path, 'nllb-200-600m', 'text')
  (gpus,) = topology.hosts_of('h100:1')
  chip = topology.chip_of('h100:1')
  mesh = meshes.of_devices(gpus)
  small = chip._replace(memory=2 * 2**30)

  def measure(chip, rows):
    return target.measure(model, OPTIONS, mesh, chip, rows, 256)

  told = measure(small, 64).fitting(small, 1)
  assert told > 64 and measure(small, told).held <= small.memory
  assert measure(small, 2 * told) is None
  assert measure(chip, 2 * told).held > small.memory
