"""What is read from the text of a compiled program."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxrep import mesh as meshes
from jaxrep.extract import hlo

# As the TPU's compiler writes a scan of 11 steps behind one fusion.
PROGRAM = """HloModule jit_f, is_scheduled=true

%inner (p: f32[8]) -> f32[8] {
  ROOT %add = f32[8]{0} add(%p, %p), backend_config={"estimated_cycles":"9"}
}

%body.1 (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %x = f32[8] fusion(%p), backend_config={"estimated_cycles":"100"}
}

%until.1 (p: (s32[], f32[8])) -> pred[] {
  %bound.2 = s32[]{:T(128)} constant(11)
  %at = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%at, %bound.2), direction=LT, metadata={}
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %y = f32[8] fusion(%x), backend_config={"estimated_cycles":"7"}
  %w = f32[8] while(%y), condition=%until.1, body=%body.1
}
"""


def test_a_loop_counts_by_its_turns_and_a_fusion_once():
  assert hlo.cycles(PROGRAM) == 7 + 11 * 100


def test_collectives_are_told_by_kind_and_shape():
  mesh = meshes.of_devices(jax.devices())
  rows = meshes.by_row(mesh)
  whole = jax.sharding.NamedSharding(mesh, PartitionSpec())
  x = jax.ShapeDtypeStruct((16, 3), jnp.float32, sharding=rows)

  def program(function, out):
    return jax.jit(function, out_shardings=out).lower(x).compile().as_text()

  assert hlo.collectives(program(jnp.sin, rows)) == {}
  assert hlo.collectives(program(jnp.sin, whole)) == {'all-gather': [(16, 3)]}
  assert hlo.collectives(program(lambda x: x.sum(0), whole)) == {
    'all-reduce': [(3,)]
  }
