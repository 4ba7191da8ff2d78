"""`run.py plan --target=`: what it says is true of the program that runs.

No TPU and no GPU is needed: their compilers run on any machine. Needs the extra
`tpu-aot` or `gpu-aot`; run with `pytest -n 0 -m tpu` and `-m gpu`.
"""

import jax
import pytest

from jaxrep import mesh as meshes
from jaxrep.extract import target, topology
from jaxrep.extract.plan import Options
from jaxrep.jobs import definition, settings
from tests import released


@pytest.mark.parametrize(
  'name, hosts, chips, reckoned',
  [
    pytest.param('v5e:4x4', 4, 4, 'cycles a chip', marks=pytest.mark.tpu),
    pytest.param('h200:2x8', 2, 8, 'kernels a GPU', marks=pytest.mark.gpu),
  ],
)
def test_a_plan_is_compiled_for_its_hosts(name, hosts, chips, reckoned):
  """`run.py plan --target=`, of two languages."""
  plan = definition.make_plan(
    settings.Selection(
      models=('tiny-untrained',), languages='eng,swh', precision='bfloat16'
    )
  )
  text, spoken = target.compile_plan(plan.entries, name)
  for found in (text, spoken):
    assert (found.hosts, found.chips, found.shared) == (hosts, chips, 1)
    assert found.fits and found.fitting > 100 * found.footprint.rows
    said = target.describe(found, name)
    assert reckoned in said
    assert 'fits' in said and f'{found.fitting} rows or more would fit' in said
  weights = sum(
    leaf.size * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(
      plan.entries[0].model.program.shapes('bfloat16')
    )
  )
  # Tiles are filled up, and small arrays the more.
  assert weights <= text.footprint.weights < 1.5 * weights
  assert spoken.footprint.operations > 5 * text.footprint.operations
  assert 0 < text.seconds < spoken.seconds < 1


@pytest.mark.tpu
def test_the_rows_that_fit_do_and_twice_as_many_do_not(tmp_path):
  """The compiler itself refuses what a chip cannot hold.

  Near its limit it finds an order that takes less, so that a half more than the
  batch told of may still fit.
  """
  model = released.open_released(tmp_path, 'nllb-200-600m', 'text')
  chips, chip = topology.hosts_of('v5e:4x4')[0], topology.chip_of('v5e:4x4')
  mesh = meshes.of_devices(chips)

  def measure(rows):
    options = Options(precision='bfloat16')
    return target.measure(model, options, mesh, chip, rows, 256)

  told = measure(256).fitting(chip, mesh.size)
  assert told > 256
  full = measure(told)
  assert full.held <= chip.memory
  assert measure(2 * told) is None
