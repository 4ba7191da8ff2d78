"""What the TPU compiler says of SALMONN of released size on eight v5e chips.

No TPU is needed: libtpu compiles for a topology on any machine. Needs the extra
`tpu-aot`; run with `pytest -n 0 -m tpu`. A quarter of an hour on two cores.
"""

import os
import re

import jax
import jax.numpy as jnp
import pytest

from jaxrep import mesh as meshes
from jaxrep import opened
from jaxrep.extract import fit, pooling, target
from jaxrep.extract.step import pooled_step
from jaxrep.jobs import definition, settings
from ports import loading
from tests import released

pytestmark = pytest.mark.tpu
CHIP = 16 * 2**30  # of a v5e
ROWS = 32  # four clips of 30 s a chip
TOKENS = 256


@pytest.fixture(scope='module')
def chips():
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  from jax.experimental import topologies

  found = topologies.get_topology_desc(
    platform='tpu', topology_name='v5e:2x4'
  ).devices
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
  check_collectives(compiled.as_text(), model, chosen.shared)


def test_a_plan_is_compiled_for_the_hosts_of_a_slice(chips):
  """`run.py plan --target=`: four hosts of four chips read two languages."""
  del chips  # without libtpu this fails there
  plan = definition.make_plan(
    settings.Selection(
      models=('tiny-untrained',), languages='eng,swh', precision='bfloat16'
    )
  )
  text, spoken = target.compile_plan(plan.entries, 'v5e:4x4')
  for found in (text, spoken):
    assert (found.hosts, found.chips, found.shared) == (4, 4, 1)
    assert found.memory == CHIP and found.fits
    assert found.fitting > 100 * found.rows
    said = target.describe(found, 'v5e:4x4')
    assert 'fits' in said and f'{found.fitting} rows would fit' in said
  weights = sum(
    leaf.size * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(
      plan.entries[0].model.program.shapes('bfloat16')
    )
  )
  # Tiles are filled up, and small arrays the more.
  assert weights <= text.weights < 1.5 * weights
  assert spoken.operations > 5 * text.operations
  assert 0 < text.seconds < spoken.seconds < 1


def compile_step(model, chips, shared):
  mesh = meshes.of_devices(chips, shared)
  step = pooled_step(model.program, pooling.parse('mean'), 'bfloat16', mesh)
  state = model.program.shapes('bfloat16', meshes.placement(mesh))
  width = 30 * 16_000 if model.modality == 'speech' else TOKENS
  batch = jax.ShapeDtypeStruct((ROWS, width), model.inputs.dtype)
  lengths = jax.ShapeDtypeStruct((ROWS,), jnp.int32)
  return step.lower(state, batch, lengths).compile()


def check_collectives(program, model, shared):
  """Tensor parallelism's alone: two sums a layer, and no weight gathered."""
  gathered = {
    tuple(map(int, shape.split(',')))
    for shape in re.findall(
      r'= \(?\w+\[([\d,]+)\][^=]* all-gather(?:-start)?\(', program
    )
  }
  dealt = {
    leaf.shape
    for leaf in loading.leaves(model.program.abstract)
    if leaf.rule.split is not None
  }
  assert gathered and not gathered & (dealt | {s[::-1] for s in dealt})
  assert len(gathered) < 10
  sums = len(re.findall(r' all-reduce(?:-start)?\(', program))
  sums += len(re.findall(r' reduce-scatter(?:-start)?\(', program))
  config = model.sizes if model.modality == 'text' else model.sizes.llm
  assert 0 < sums <= 2 * config.num_hidden_layers
  assert not re.search(r' (all-to-all|collective-permute)(-start)?\(', program)
