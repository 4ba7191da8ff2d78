"""What the TPU compiler says of SALMONN of released size on eight v5e chips.

No TPU is needed: libtpu compiles for a topology on any machine. Needs the extra
`tpu-aot`; run with `pytest -n 0 -m tpu`. A quarter of an hour on two cores.
"""

import math

import pytest

from jaxrep import mesh as meshes
from jaxrep import opened
from jaxrep.extract import fit, hlo, target, topology
from jaxrep.extract.plan import Options
from ports import loading
from tests import released

pytestmark = pytest.mark.tpu
CHIP = topology.CHIPS['v5e'].memory
ROWS = 32  # four clips of 30 s a chip
TOKENS = 256


@pytest.fixture(scope='module')
def chips():
  found = [chip for host in topology.hosts_of('v5e:2x4') for chip in host]
  assert len(found) == 8
  return found


@pytest.mark.parametrize('modality', ['text', 'speech'])
@pytest.mark.parametrize('size', ['7b', '13b'])
def test_it_fits_on_the_mesh_that_a_plan_takes(tmp_path, chips, size, modality):
  folder = released.save_salmonn(tmp_path, size)
  model = opened.open_model(f'salmonn-{size}', modality, str(folder))
  chosen = fit.choose(model, 'bfloat16', len(chips), CHIP)
  assert chosen.fits
  compiled = compile_step(model, chips, chosen.shared)
  memory = compiled.memory_analysis()
  needed = {
    'weights': memory.argument_size_in_bytes,
    'temporaries': memory.temp_size_in_bytes,
    'results': memory.output_size_in_bytes,
    'program': memory.generated_code_size_in_bytes,
  }
  print(size, modality, f'model={chosen.shared}', needed)
  assert sum(needed.values()) < CHIP
  # What the plan counts is what the compiler holds, beside the batch and what
  # fills up its tiles.
  batch = ROWS // 8 * 4 * (30 * 16_000 if modality == 'speech' else TOKENS)
  assert needed['weights'] == pytest.approx(chosen.held + batch, rel=2e-4)
  program = compiled.as_text()
  check_collectives(program, model, chosen.shared)
  kernels = released.kernels(program)['flash_attention']
  assert kernels == released.attended(f'salmonn-{size}', modality)


def compile_step(model, chips, shared):
  mesh = meshes.of_devices(chips, shared)
  width = 30 * 16_000 if model.modality == 'speech' else TOKENS
  options = Options(precision='bfloat16')
  return target.compile_step(model, options, mesh, ROWS, width)


def check_collectives(program, model, shared):
  """Tensor parallelism's alone: two sums a layer, and no weight gathered.

  Which rows there are is gathered as well, as a sum of some bytes.
  """
  found = hlo.collectives(program)
  gathered = set(found.get('all-gather', ()))
  dealt = {
    leaf.shape
    for leaf in loading.leaves(model.program.abstract)
    if leaf.rule.split is not None
  }
  assert gathered and not gathered & (dealt | {s[::-1] for s in dealt})
  assert len(gathered) < 10
  sums = [*found.get('all-reduce', ()), *found.get('reduce-scatter', ())]
  config = model.sizes if model.modality == 'text' else model.sizes.llm
  few = [shape for shape in sums if math.prod(shape) <= 128]
  assert len(few) <= 1
  assert 0 < len(sums) - len(few) <= 2 * config.num_hidden_layers
  assert set(found) <= {'all-gather', 'all-reduce', 'reduce-scatter'}
