"""Targets of a plan that cannot be compiled for; the rest is in test_tpu."""

import importlib.util

import pytest

from jaxrep.extract import target
from jaxrep.types import InputError


@pytest.mark.parametrize('name', ['v5e', 'h100:8', '4x4'])
def test_an_unknown_target_lists_the_kinds(name):
  with pytest.raises(InputError, match='v4, v5e, v5p, v6e') as caught:
    list(target.compile_plan([], name))
  assert f'--target={name}: write kind:shape' in str(caught.value)


def test_without_libtpu_or_such_a_slice_it_says_what_to_install():
  name = 'v5e:4x4'
  if importlib.util.find_spec('libtpu'):
    name = 'v5e:1001x3'
  with pytest.raises(InputError, match='tpu-aot') as caught:
    list(target.compile_plan([], name))
  assert f'--target={name} cannot be compiled for' in str(caught.value)


def test_a_description_says_what_binds_and_whether_it_fits():
  found = target.Compiled(
    *('a text', 4, 2, 1, 64, 32),
    *(2 * 2**30, 2**20, 15 * 2**30, 2**20, 60),
    *(1e12, 1e12, 7200.0, 16 * 2**30),
  )
  said = target.describe(found, 'v5e:2x4')
  assert not found.fits and 'DOES NOT FIT' in said
  assert '2.00 for weights, 15.00 for temporaries' in said
  assert 'bound by memory traffic' in said and '2.000 h' in said
  busy = found._replace(operations=1e15)
  assert 'bound by operations' in target.describe(busy, 'v5e:2x4')
