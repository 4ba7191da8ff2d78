"""One head at a time gives what all heads at once give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxrep import mesh as meshes
from ports import attention as attentions
from ports import conformer
from ports.attention import Bias, attention

BATCH, TIME, HEADS, D = 2, 260, 3, 8
SIZES = conformer.SpeechConfig(
  hidden_size=HEADS * D,
  speech_encoder_layers=1,
  speech_encoder_attention_heads=HEADS,
  speech_encoder_intermediate_size=8,
  left_max_position_embeddings=5,
  right_max_position_embeddings=2,
)


def draw(*shape, dtype='float32', seed=0):
  numbers = np.random.default_rng(seed).standard_normal(shape)
  return jnp.asarray(numbers, dtype)


def plain(q, k, v, allowed, added):
  """The definition in float64, row by row and head by head."""
  q, k, v, added = (np.asarray(x, np.float64) for x in (q, k, v, added))
  allowed = np.broadcast_to(allowed, (BATCH, TIME, TIME))
  mixed = np.zeros(q.shape)
  for row, head in np.ndindex(BATCH, HEADS):
    scores = q[row, :, head] @ k[row, :, head].T / np.sqrt(D)
    scores = scores + added[row, head]
    scores = np.where(allowed[row], scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    mixed[row, :, head] = weights @ v[row, :, head]
  return mixed.reshape(BATCH, TIME, HEADS * D)


def biases():
  """By name: queries, their bias, and all of what it adds."""
  q = draw(BATCH, TIME, HEADS, D, seed=1)
  rngs = nnx.Rngs(0)
  shaw = conformer.ShawAttention(SIZES, rngs=rngs).placed(q, None)
  xl = conformer.TransformerXLAttention(SIZES, rngs=rngs)
  xl.pos_bias_u[...], xl.pos_bias_v[...] = draw(2, HEADS, D, seed=2)
  xl = xl.placed(q, draw(2 * TIME - 1, HEADS * D, seed=3))
  gate, table = draw(BATCH, HEADS, TIME, 1), draw(1, HEADS, TIME, TIME)
  found = {
    'shaw': shaw,
    'xl': xl,
    'gated': (q, Bias(jnp.multiply, (gate, table))),
  }
  return {
    name: (
      q,
      bias,
      jnp.broadcast_to(bias.of(*bias.operands), (BATCH, HEADS, TIME, TIME)),
    )
    for name, (q, bias) in found.items()
  }


def default(*operands, default, **_):
  """What `platform_dependent` takes on an accelerator."""
  return default(*operands)


FORMS = {
  'by head': lambda patch: patch.setattr(attentions, 'WORTH_A_TURN', 0),
  'at once': lambda patch: patch.setattr(attentions, 'WORTH_A_TURN', 2**40),
  'of accelerators': lambda patch: patch.setattr(
    jax.lax, 'platform_dependent', default
  ),
}


def masks():
  there = jnp.arange(TIME) < jnp.array([TIME, 17])[:, None]
  return {
    'by row': there[:, None],
    'causal': there[:, None] & np.tri(TIME, dtype=bool),
    'of all': jnp.ones((1, 1, TIME), bool),
  }


@pytest.mark.parametrize('mask', ['by row', 'causal', 'of all'])
@pytest.mark.parametrize('kind', ['shaw', 'xl', 'gated'])
@pytest.mark.parametrize('form', FORMS)
def test_it_is_the_definition(monkeypatch, kind, mask, form):
  FORMS[form](monkeypatch)
  q, bias, added = biases()[kind]
  k, v = draw(2, BATCH, TIME, HEADS, D, seed=4)
  allowed = masks()[mask]
  found = jax.jit(lambda *x: attention(*x, bias))(q, k, v, allowed)
  expected = plain(q, k, v, allowed, added)
  assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize('form', FORMS)
def test_a_query_without_keys_is_finite(monkeypatch, form):
  """It looks at all alike."""
  FORMS[form](monkeypatch)
  q, k, v = draw(3, BATCH, TIME, HEADS, D)
  none = jnp.zeros((BATCH, 1, TIME), bool)
  found = jax.jit(attention)(q, k, v, none)
  expected = v.mean(axis=1).reshape(BATCH, 1, -1)
  np.testing.assert_allclose(found - expected, 0, atol=1e-5)


def lowered(time, platform='cpu', mesh=None):
  q = jax.ShapeDtypeStruct((8, time, HEADS, D), 'float32')
  allowed = jax.ShapeDtypeStruct((8, 1, time), bool)

  def run(*operands):
    mesh_ = (mesh or meshes.local_mesh()).abstract_mesh
    with jax.sharding.use_abstract_mesh(mesh_):
      return attention(*operands)

  step = run if mesh else attention
  traced = jax.jit(step).trace(q, q, q, allowed)
  return traced.lower(lowering_platforms=(platform,)).as_text()


def test_the_form_is_that_of_the_backend():
  assert 'stablehlo.while' in lowered(TIME)
  assert 'stablehlo.while' not in lowered(TIME, 'tpu')
  assert 'stablehlo.while' not in lowered(TIME, 'cuda')


def test_short_sequences_and_many_devices_have_no_turns():
  assert 'stablehlo.while' not in lowered(64)
  assert 'stablehlo.while' not in lowered(TIME, mesh=meshes.local_mesh())
  alone = meshes.of_devices(jax.devices()[:1])
  assert 'stablehlo.while' in lowered(TIME, mesh=alone)
