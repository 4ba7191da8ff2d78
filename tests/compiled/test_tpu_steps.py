"""What the TPU compiler says of every model of released size.

No TPU is needed: libtpu compiles for a topology on any machine. Needs the extra
`tpu-aot`; run with `pytest -n 0 -m tpu`. Minutes a program; SALMONN is
in `test_tpu_salmonn`.
"""

import jax
import pytest

from jaxrep import mesh as meshes
from jaxrep.extract import hlo, target, topology
from jaxrep.extract.plan import Options
from jaxrep.types import SAMPLE_RATE
from tests import released

pytestmark = pytest.mark.tpu
PROGRAMS = [
  program for program in released.PROGRAMS if 'salmonn' not in program[0]
]
OPTIONS = Options(precision='bfloat16')
SLICES = {'v5e:2x4': 2, 'v5e:4x4': 4}
SECONDS, TOKENS = 12, 64


def test_hosts_of_both_slices_are_alike():
  """Extraction shares nothing between hosts: one program is for any slice."""
  for name, count in SLICES.items():
    hosts = topology.hosts_of(name)
    assert [len(host) for host in hosts] == [4] * count
    assert {chip.device_kind for host in hosts for chip in host} == {
      hosts[0][0].device_kind
    }


@pytest.mark.parametrize('name, modality', PROGRAMS)
def test_the_planned_batch_fits_and_nothing_is_communicated(
  tmp_path, name, modality
):
  model = released.open_released(tmp_path, name, modality)
  policy = OPTIONS.policy(model)
  length = policy.padded(SECONDS * SAMPLE_RATE)
  if modality == 'text':
    length = policy.padded(TOKENS)
  mesh = meshes.of_devices(topology.hosts_of('v5e:4x4')[0])
  rows = -(-policy.size(length) // mesh.size) * mesh.size
  step = target.compile_step(model, OPTIONS, mesh, rows, length)
  found = target.footprint(step, model, mesh, rows, length)
  chip = topology.chip_of('v5e:4x4')
  parameters = sum(
    leaf.size * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(model.program.shapes('bfloat16'))
  )
  print(name, modality, found, found.fitting(chip, mesh.size))
  # Rows of a weight are filled up to the tiles of the chip's memory.
  assert parameters <= found.weights < 1.01 * parameters
  assert found.held < chip.memory
  assert rows <= found.fitting(chip, mesh.size)
  assert hlo.collectives(step.as_text()) == {}
  kernels = released.kernels(step.as_text())
  assert kernels['flash_attention'] == released.attended(name, modality)


@pytest.mark.parametrize('name, count', [('v4:2x2x1', 0), ('v6e:2x4', 24)])
def test_a_v4_has_no_kernel_for_positions(tmp_path, name, count):
  model = released.open_released(tmp_path, 'w2v-bert-2.0', 'speech')
  mesh = meshes.of_devices(topology.hosts_of(name)[0][:1])
  step = target.compile_step(model, OPTIONS, mesh, 4, SECONDS * SAMPLE_RATE)
  kernels = released.kernels(step.as_text())
  assert kernels['depthwise'] == 24
  assert kernels['flash_attention'] == count
