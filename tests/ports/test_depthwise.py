"""The depthwise convolution's kernels, as Pallas' interpreter runs them.

That they compile for their devices is shown in tests/compiled.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxrep import mesh as meshes
from ports import kernels
from ports.convolutions import DepthwiseConv
from ports.kernels import depthwise, depthwise_gpu, depthwise_tpu
from tests.ports import interpreted

each = pytest.mark.parametrize('platform', depthwise.KERNELS)


def draw(*shape, seed=0):
  numbers = np.random.default_rng(seed).standard_normal(shape)
  return jnp.asarray(numbers, 'float32')


def in_kernel(layer, x):
  with jax.default_matmul_precision('bfloat16'):
    return layer(x)


@pytest.fixture
def kernel(monkeypatch, platform):
  """The operands of the convolution's kernels, as on the platform."""
  return interpreted.taken(monkeypatch, platform)['depthwise']


@each
@pytest.mark.parametrize('causal', [True, False])
@pytest.mark.parametrize('time', [5, 64, 150])
def test_a_layer_is_the_same_with_it(request, platform, time, causal):
  layer = DepthwiseConv(256, 31, causal=causal, rngs=nnx.Rngs(0))
  x = draw(2, time, 256)
  wanted = layer(x)
  calls = request.getfixturevalue('kernel')
  assert (layer(x) == wanted).all() and not calls
  found = in_kernel(layer, x)
  assert len(calls) == 1
  np.testing.assert_allclose(found, wanted, atol=1e-5)
  x = x.astype(jnp.bfloat16)
  rounded, wanted = in_kernel(layer, x), layer(x)
  assert rounded.dtype == wanted.dtype == jnp.bfloat16
  # Sums in another order may be rounded to the next number of bfloat16.
  next_one = jnp.abs(wanted.astype('float32')) * 2**-7 + 1e-6
  apart = jnp.abs(rounded.astype('float32') - wanted.astype('float32'))
  assert (apart <= next_one).all() and (apart == 0).mean() > 0.99


@each
def test_each_device_has_its_own_rows(kernel, platform):
  layer = DepthwiseConv(128, 7, causal=True, rngs=nnx.Rngs(0))
  x, mesh = draw(8, 40, 128), meshes.local_mesh()
  wanted = layer(x)

  @jax.jit
  def run(x):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return in_kernel(layer, x)

  found = run(jax.device_put(x, meshes.by_row(mesh)))
  assert kernel[-1][0].shape == (1, 40, 128)
  np.testing.assert_allclose(found, wanted, atol=1e-5)


def lowered(platform, time=150, dim=128):
  layer = DepthwiseConv(dim, 31, causal=True, rngs=nnx.Rngs(0))
  x = jax.ShapeDtypeStruct((1, time, dim), 'float32')
  with jax.sharding.use_abstract_mesh(interpreted.OF_A_GPU):
    traced = jax.jit(functools.partial(in_kernel, layer)).trace(x)
    return traced.lower(lowering_platforms=(platform,)).as_text()


def test_each_is_for_what_it_takes():
  longer = depthwise_tpu.LONGEST + 1
  for with_it in (lowered('tpu'), lowered('cuda', time=longer)):
    assert 'custom_call' in with_it
  for other in (
    lowered('cpu'),
    *(lowered(platform, dim=96) for platform in depthwise.KERNELS),
    lowered('tpu', time=longer),
  ):
    assert 'custom_call' not in other
  many = jnp.zeros((depthwise_gpu.ROWS, 1, 128), 'bfloat16')
  assert not depthwise_gpu.takes(many) and depthwise_tpu.takes(many)


@each
def test_a_kernel_that_is_wrong_is_found_out(monkeypatch, platform):
  right = interpreted.DEPTHWISE[platform]
  assert depthwise.fault_of(right) is None

  def shifted(x, kernel, past):
    return right(x, kernel, past=past + 1)

  assert 'wrong by' in depthwise.fault_of(shifted)
  backend = {'cuda': 'gpu', 'tpu': 'tpu'}[platform]
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  kernels.trusted.cache_clear()
  with pytest.warns(UserWarning, match='depthwise is left out.* it fails'):
    assert 'custom_call' not in lowered(platform)
  kernels.trusted.cache_clear()
