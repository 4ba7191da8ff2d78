"""`run.py plan --target=`: what it says is true of the program that runs.

No TPU is needed: libtpu compiles for a topology on any machine. Needs the extra
`tpu-aot`; run with `pytest -n 0 -m tpu`.
"""

import jax
import pytest

from jaxrep import mesh as meshes
from jaxrep.extract import target, topology
from jaxrep.extract.plan import Options
from jaxrep.jobs import definition, settings
from tests import released

pytestmark = pytest.mark.tpu


def test_a_plan_is_compiled_for_the_hosts_of_a_slice():
  """`run.py plan --target=`: four hosts of four chips read two languages."""
  plan = definition.make_plan(
    settings.Selection(
      models=('tiny-untrained',), languages='eng,swh', precision='bfloat16'
    )
  )
  text, spoken = target.compile_plan(plan.entries, 'v5e:4x4')
  for found in (text, spoken):
    assert (found.hosts, found.chips, found.shared) == (4, 4, 1)
    assert found.fits and found.fitting > 100 * found.footprint.rows
    said = target.describe(found, 'v5e:4x4')
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
