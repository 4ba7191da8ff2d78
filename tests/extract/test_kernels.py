"""What is read of the kernels of a GPU's program; more in tests/compiled."""

import pathlib

import pytest

from jaxrep.extract import kernels, topology

# As the compiler for GPUs writes a row picked from a table, a product of cuBLAS
# in a loop of three turns, an exact one, and a convolution.
PROGRAM = pathlib.Path(__file__).with_name('kernels.hlo').read_text()


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
  assert every[:2] == ['pick', 'square'] and every[-3:] == 3 * ['gemm']
  one = found['gemm']
  assert one.operations == 2 * 4 * 16 * 8 and one.passes == 1
  assert one.moved == 4 * 16 * 4 + 100 + 4 * 8 * 2 + 8 * 16 * 2


def test_float32_takes_more_passes_where_it_must_be_exact(found):
  assert found['square'].operations == 2 * 36 * 20
  assert found['square'].passes is None
  assert found['conv'].operations == 2 * (2 * 10 * 6) * (3 * 2)
  assert found['conv'].passes == 2
  labels = 'dim_labels=b0f_0io->b0f'
  exact = PROGRAM.replace(labels, f'{labels}, operand_precision={{highest}}')
  (conv,) = (one for one in kernels.kernels(exact) if one.name == 'conv')
  assert conv.passes is None


def test_attention_in_one_kernel_counts_its_two_products(found):
  one, products = found['attended'], 2 * (2 * 4 * 10 * 7 * 16)
  assert one.operations == 2 * products and one.passes > 2
  assert one.moved == 2 * (2 * 4 * 16) * (10 + 10 + 7 + 7)


def test_a_convolution_in_one_kernel_counts_its_multiply_adds(found):
  one = found['convolved']
  assert one.operations == 2 * (2 * 10 * 64) * 31 and one.passes > 50
  assert one.moved == 2 * (2 * 10 * 64) * 2 + 31 * 64 * 4


def test_a_kernel_takes_as_long_as_what_binds_it(monkeypatch):
  monkeypatch.setattr(kernels, '_BANDWIDTH', 0.5)
  monkeypatch.setattr(kernels, '_PRODUCTS', 0.25)
  chip = topology.Chip('cuda', 0, operations=100.0, bandwidth=10.0, full=15)
  product = kernels.Kernel('x', '', 10, 50.0)
  assert kernels.Kernel('x', '', 10).seconds(chip) == 2
  assert product.seconds(chip) == 2
  assert product._replace(passes=2).seconds(chip) == 4
  assert product._replace(passes=None).seconds(chip) == 30
