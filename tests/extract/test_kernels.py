"""What is read of the kernels of a program for a GPU; see also tests/gpu."""

import pytest

from jaxrep.extract import kernels, topology

# As the compiler for GPUs writes a row picked from a table, a product of cuBLAS
# in a loop of three turns, an exact one, and a convolution.
PROGRAM = """HloModule jit_f, is_scheduled=true

%picked (p.0: bf16[1000,8], p.1: s32[4]) -> bf16[4,8] {
  %p.0 = bf16[1000,8]{1,0} parameter(0)
  %p.1 = s32[4]{0} parameter(1)
  ROOT %rows = bf16[4,8]{1,0} gather(%p.0, %p.1), offset_dims={1}
}

%body (p: (s32[], bf16[4,8], bf16[8,16])) -> (s32[], bf16[4,8], bf16[8,16]) {
  %p = (s32[], bf16[4,8]{1,0}, bf16[8,16]{1,0}) parameter(0)
  %x = bf16[4,8]{1,0} get-tuple-element(%p), index=1
  %w = bf16[8,16]{1,0} get-tuple-element(%p), index=2
  %gemm = (f32[4,16]{1,0}, s8[100]{0}) custom-call(%x, %w), custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]},"precision_config":{"operand_precision":["DEFAULT","DEFAULT"]}}}
}

%until (p: (s32[], bf16[4,8], bf16[8,16])) -> pred[] {
  %three = s32[] constant(3)
  %at = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%at, %three), direction=LT
}

ENTRY %main (table: bf16[1000,8], ids: s32[4], y: f32[2,10,6]) -> f32[4,16] {
  %table = bf16[1000,8]{1,0} parameter(0)
  %ids = s32[4]{0} parameter(1)
  %y = f32[2,10,6]{2,1,0} parameter(2)
  %pick = bf16[4,8]{1,0} fusion(%table, /*index=1*/%ids), kind=kLoop, calls=%picked, metadata={op_name="jit(f)/embed/gather"}
  %loop = (s32[], bf16[4,8]{1,0}, bf16[8,16]{1,0}) while(%pick), condition=%until, body=%body
  %flat = f32[20,6]{1,0} bitcast(%y)
  %square = (f32[6,6]{1,0}, s8[0]{0}) custom-call(%flat, %flat), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["0"]},"precision_config":{"operand_precision":["HIGHEST","HIGHEST"]}}}
  %filter = f32[3,2,6]{2,1,0} constant({...})
  ROOT %conv = (f32[2,10,6]{2,1,0}, u8[0]{0}) custom-call(%y, %filter), window={size=3 pad=1_1}, dim_labels=b0f_0io->b0f, feature_group_count=3, custom_call_target="__cudnn$convForward"
}
"""  # noqa: E501


@pytest.fixture(scope='module')
def found():
  return {kernel.name: kernel for kernel in kernels.kernels(PROGRAM)}


def test_of_a_table_that_is_picked_from_the_rows_are_read(found):
  assert found['pick'].moved == 2 * (4 * 8 * 2) + 4 * 4
  assert found['pick'].operations == 0
  assert found['pick'].scope == 'jit(f)/embed/gather'
  assert found['conv'].scope == ''


def test_a_product_counts_in_each_turn_of_its_loop(found):
  every = [kernel.name for kernel in kernels.kernels(PROGRAM)]
  assert every == ['pick', 'square', 'conv', *3 * ['gemm']]
  one = found['gemm']
  assert one.operations == 2 * 4 * 16 * 8 and one.passes == 1
  assert one.moved == 4 * 16 * 4 + 100 + 4 * 8 * 2 + 8 * 16 * 2


def test_float32_takes_more_passes_where_it_must_be_exact(found):
  assert found['square'].operations == 2 * 36 * 20
  assert found['square'].passes is None
  assert found['conv'].operations == 2 * (2 * 10 * 6) * (3 * 2)
  assert found['conv'].passes == 2


def test_a_kernel_takes_as_long_as_what_binds_it():
  chip = topology.Chip('cuda', 0, operations=100.0, bandwidth=10.0, full=15)
  product = kernels.Kernel('x', '', 10, 50.0)
  assert kernels.Kernel('x', '', 10).seconds(chip) == 1
  assert product.seconds(chip) == 1
  assert product._replace(passes=2).seconds(chip) == 1
  assert product._replace(passes=None).seconds(chip) == 7.5
