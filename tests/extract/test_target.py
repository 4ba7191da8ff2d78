"""Targets that a plan cannot be compiled for; the rest: tests/compiled."""

import importlib.util

import pytest

from jaxrep.extract import kernels, target, topology
from jaxrep.types import InputError

GIB = 2**30


@pytest.mark.parametrize(
  'name', ['v5e', 'a100:8', '4x4', 'h200:eight', 'h200:2x2x8']
)
def test_an_unknown_target_lists_the_kinds(name):
  with pytest.raises(
    InputError, match='v4, v5e, v5p, v6e, h100, h200'
  ) as caught:
    list(target.compile_plan([], name))
  assert f'--target={name}: write kind:shape' in str(caught.value)


@pytest.mark.parametrize(
  'name, none, module, extra',
  [
    ('v5e:4x4', 'v5e:1001x3', 'libtpu', 'tpu-aot'),
    ('h200:2x8', 'h200:0', 'jax_cuda13_plugin', 'gpu-aot'),
  ],
)
def test_without_a_compiler_or_such_a_machine_it_says_what_to_install(
  name, none, module, extra
):
  if importlib.util.find_spec(module):
    name = none
  with pytest.raises(InputError, match=extra) as caught:
    list(target.compile_plan([], name))
  assert f'--target={name} cannot be compiled for' in str(caught.value)


def test_a_description_says_what_is_held_and_whether_it_fits():
  batch = target.Footprint(
    *(64, 32, 2 * GIB, 2**20, 15 * GIB, 2**20, 1e12, 1e12, 3_000_000)
  )
  found = target.Compiled('a text', 4, 2, 1, batch, 128, 56, 7200.0)
  said = target.describe(found, 'v5e:2x4')
  assert not found.fits and '128 rows DOES NOT FIT' in said
  assert '15.75 GiB a chip 2.00 for weights, 15.00 for temporaries' in said
  assert '56 rows or more would fit' in said and 'all batches 2.0 h' in said
  assert ': fits' in target.describe(found._replace(planned=64), 'v5e:2x4')
  told_of = {0.123: '0.12 s', 90.0: '90 s', 100.0: '100 s', 600.0: '10.0 min'}
  for seconds, told in told_of.items():
    said = target.describe(found._replace(seconds=seconds), 'v5e:2x4')
    assert f'all batches {told},' in said


def _chip(memory):
  return topology.Chip(
    *('tpu', memory, 100.0, 10.0, 6), clock=5.0, fast=GIB // 8
  )


def test_rows_grow_until_what_grows_with_them_fills_the_memory():
  """The fast memory, an eighth of a GiB, counts as full."""
  grown = GIB, 7 * GIB // 8
  batch = target.Footprint(*(8, 32, 6 * GIB, *grown, GIB, 0, 0, 0))
  assert batch.held == 8 * GIB + grown[1]
  assert batch.fitting(_chip(16 * GIB), 4) == 36
  assert batch.fitting(_chip(16 * GIB), 8) == 32
  assert batch.fitting(_chip(5 * GIB), 4) == 0


def test_rows_of_a_gpu_may_take_a_third_more_temporaries():
  kernel = kernels.Kernel('one', '', 1)
  batch = target.Footprint(
    8, 32, 6 * GIB, GIB, 3 * GIB, GIB, 0, 0, 0, (kernel,)
  )
  assert batch.fitting(_chip(23 * GIB)._replace(fast=0), 1) == 25


def test_a_batch_takes_as_long_as_what_binds_it():
  chip = _chip(GIB)
  idle = target.Footprint(*(1, 1, 0, 0, 0, 0, 0, 0, 0))
  busy = idle._replace(operations=300.0)
  assert busy.seconds(chip, 'bfloat16') == 3
  assert busy.seconds(chip, 'float32') == 18
  assert idle._replace(weights=40, batch=10).seconds(chip, 'bfloat16') == 5
  assert busy._replace(cycles=35).seconds(chip, 'bfloat16') == 7
