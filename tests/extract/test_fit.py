"""How many devices share a model's weights."""

import os

import jax
import pytest

from jaxrep import opened
from jaxrep.extract import fit
from jaxrep.types import InputError
from tests import released

GIB = 2**30


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  found = {}
  for size in ('7b', '13b'):
    folder = released.save_salmonn(tmp_path_factory.mktemp(size), size)
    for modality in ('text', 'speech'):
      found[size, modality] = opened.open_model(
        f'salmonn-{size}', modality, str(folder)
      )
  return found


@pytest.mark.parametrize(
  'size, precision, gib, shared',
  [
    ('7b', 'bfloat16', 16, 2),
    ('13b', 'bfloat16', 16, 4),
    ('7b', 'bfloat16', 80, 1),
    ('7b', 'float32', 16, 4),
    ('13b', 'bfloat16', 192, 1),
  ],
)
def test_as_few_devices_as_the_weights_fit_on(
  models, size, precision, gib, shared
):
  found = fit.choose(models[size, 'speech'], precision, 8, gib * GIB)
  assert (found.shared, found.fits) == (shared, True)
  assert found.held <= fit.SHARE * gib * GIB
  if shared > 1:
    less = fit.choose(
      models[size, 'speech'], precision, 8, gib * GIB, shared // 2
    )
    assert not less.fits
    # What every device has whole is not dealt.
    assert less.held / 2 < found.held < less.held
  assert f'model={found.shared}' in fit.describe(found)


def test_what_fits_on_none_is_said(models):
  found = fit.choose(models['13b', 'text'], 'float32', 8, 4 * GIB)
  assert (found.shared, found.fits) == (8, False)
  assert 'DOES NOT FIT' in fit.describe(found)
  assert '--precision=bfloat16' in fit.describe(found)


def test_what_cannot_be_shared_so_is_refused(models):
  with pytest.raises(
    InputError, match=r'model_parallel=3: .* by 1, 2, 4, 8 of'
  ):
    fit.choose(models['7b', 'text'], 'bfloat16', 8, 16 * GIB, 3)
  # 11,008 and 4,096 have 256 in common, six devices 2.
  with pytest.raises(InputError, match=r'by 1, 2 of them'):
    fit.choose(models['7b', 'text'], 'bfloat16', 6, 16 * GIB, 6)
  # 5,120 and 13,824 can be cut in 16, but not 40 heads.
  with pytest.raises(InputError, match=r'by 1, 2, 4, 8 of them'):
    fit.choose(models['13b', 'text'], 'bfloat16', 16, 16 * GIB, 16)


def test_a_model_without_a_language_model_is_whole_on_each_device():
  model = opened.open_model('tiny-untrained', 'speech')
  found = fit.choose(model, 'float32', 8, 16 * GIB, 8)
  assert found.shared == 1
  sizes = [
    leaf.size for leaf in jax.tree.leaves(model.program.shapes('float32'))
  ]
  assert found.held == 4 * sum(sizes)


def test_the_devices_of_a_cpu_share_its_memory(models):
  found = fit.here(models['7b', 'text'], 'bfloat16', 8)
  machine = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  assert (found.devices, found.shared) == (8, 8)
  assert found.limit == machine // 8
