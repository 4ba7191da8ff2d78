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


def kernel(name, operands, flops, exponentials):
  shapes = ', '.join(['bf16[3,300,256]{2,1,0}', *operands * ['f32[1]{0}']])
  return (
    'ENTRY %main (x: f32[8]) -> f32[8] {\n  %y = bf16[3,300,256] custom-call('
    '%x), custom_call_target="tpu_custom_call", '
    f'operand_layout_constraints={{{shapes}}}, metadata={{op_name="jit(f)/'
    f'{name}/pallas_call"}}, backend_config={{"cost_estimate":'
    f'{{"flops":"{flops}","transcendentals":"{exponentials}"}}}}\n}}\n'
  )


def test_a_kernel_counts_by_its_blocks_and_registers():
  blocks, registers = 3 * 3 * 2, 8
  attention = kernel('flash_attention', 3, 5, 1024 * registers)
  assert hlo.cycles(attention) == 200 * blocks + 7 * registers
  placed = kernel('flash_attention', 5, 5, 1024 * registers)
  assert hlo.cycles(placed) == 200 * blocks + 12 * registers
  depthwise = kernel('depthwise', 1, 2 * 31 * 1024 * registers, 0)
  assert hlo.cycles(depthwise) == 300 * 3 * 2 + 25 * registers
  assert hlo.cycles(kernel('other', 3, 5, 1024)) == 0


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
