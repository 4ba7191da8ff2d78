"""What layers return under each dtype of their parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ports.convolutions import InnerPointwiseConv, PointwiseConv
from ports.layers import InnerLinear, Linear


@pytest.mark.parametrize('platform', ['cuda', 'default'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize(
  ('kind', 'inner'),
  [
    *((Linear, False), (PointwiseConv, False)),
    *((InnerLinear, True), (InnerPointwiseConv, True)),
  ],
)
def test_inner_products_alone_have_the_parameters_dtype(
  monkeypatch, kind, inner, dtype, platform
):
  """The residual stream is wide, whatever it is summed of.

  For NVIDIA's GPUs all products are rounded.
  """
  monkeypatch.setattr(
    jax.lax, 'platform_dependent', lambda *x, **forms: forms[platform](*x)
  )
  layer = kind(6, 5, rngs=nnx.Rngs(0))
  layer.kernel = nnx.Param(layer.kernel[...].astype(dtype))
  x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6)), 'float32')
  found = layer(x)
  assert found.dtype == (dtype if inner else 'float32')
  read, kernel = (
    np.asarray(y.astype(dtype), np.float64) for y in (x, layer.kernel[...])
  )
  rounded = dtype == 'bfloat16' and (inner or platform == 'cuda')
  np.testing.assert_allclose(
    np.asarray(found, np.float64),
    read @ kernel,
    # Half of bfloat16's last place, of sums below 4, is 0.008.
    atol=1e-2 if rounded else 1e-5,
  )
  assert (found.astype('bfloat16') == found).all() == rounded
