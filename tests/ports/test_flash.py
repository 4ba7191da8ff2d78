"""The attention kernels, as Pallas' interpreter runs them.

That they compile for their devices is shown in tests/compiled.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxrep import mesh as meshes
from ports import conformer, kernels
from ports.attention import Bias, attention
from ports.kernels import depthwise, flash, flash_tpu
from tests.ports import interpreted

BATCH, HEADS, D = 2, 2, 64
# More than a block of queries, and blocks of keys on both sides of the near.
TIME = 300
ERROR = 0.01  # of the largest result: what bfloat16 costs
each = pytest.mark.parametrize('platform', flash.KERNELS)


def draw(*shape, seed=0):
  numbers = np.random.default_rng(seed).standard_normal(shape)
  return jnp.asarray(numbers, 'float32')


def masks(queries, keys):
  there = jnp.arange(keys) < jnp.array([keys, 17])[:, None]
  return {
    'by row': there[:, None],
    'causal': there[:, None] & np.tri(queries, keys, dtype=bool),
    'of all': jnp.ones((1, 1, keys), bool),
  }


def definition(q, k, v, allowed, near=None, table=None, left=0):
  """In float64."""
  q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
  logits = np.einsum('bqhd,bkhd->bhqk', q, k) / np.sqrt(q.shape[-1])
  if near is not None:
    step = np.arange(q.shape[1])
    column = np.clip(step - step[:, None] + left, 0, table.shape[1] - 1)
    rows = np.asarray(table, np.float64)[:, column]
    rows = np.broadcast_to(rows, (q.shape[2], *rows.shape[1:]))
    products = np.einsum('bqhd,hqkd->bhqk', np.asarray(near, np.float64), rows)
    logits += products / np.sqrt(near.shape[-1])
  logits = np.where(allowed[:, None], logits, -np.inf)
  weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
  weights /= weights.sum(axis=-1, keepdims=True)
  return np.einsum('bhqk,bkhd->bqhd', weights, v)


def error(found, wanted):
  return np.abs(found - wanted).max() / np.abs(wanted).max()


# heads with a table, rows of it, the one of distance 0, the width
TABLES = {
  'none': None,
  'clipped': (1, 30, 21, D),
  'near alone': (1, 2, 0, D),
  'far': (1, 400, 350, D),
  'all distances': (HEADS, 2 * TIME - 1, TIME - 1, D),
  'gated': (HEADS, 2 * TIME - 1, TIME - 1, 1),
}


@each
@pytest.mark.parametrize(
  'kind, mask',
  [(kind, 'by row') for kind in TABLES]
  + [(kind, mask) for kind in TABLES for mask in ('causal', 'of all')][:4],
)
def test_it_is_the_definition(platform, kind, mask):
  q, k, v, near = draw(4, BATCH, TIME, HEADS, D)
  operands = [q, k, v, masks(TIME, TIME)[mask]]
  left = 0
  if TABLES[kind]:
    heads, rows, left, width = TABLES[kind]
    operands += [near[..., :width], draw(heads, rows, width, seed=1)]
  found = interpreted.FLASH[platform](*operands, left=left)
  assert found.dtype == v.dtype
  assert error(found, definition(*operands, left=left)) < ERROR


@each
@pytest.mark.parametrize(
  'queries, keys, d', [(16, 200, 128), (129, 17, 64), (64, 64, 32)]
)
def test_queries_and_keys_of_any_number(platform, queries, keys, d):
  heads = 128 // d
  q = draw(2, queries, heads, d)
  k, v = draw(2, 2, keys, heads, d, seed=1)
  allowed = masks(queries, keys)['causal']
  assert flash.KERNELS[platform].takes(q, k, allowed, heads, placed=False)
  found = interpreted.FLASH[platform](q, k, v, allowed)
  assert error(found, definition(q, k, v, allowed)) < ERROR


@each
def test_what_is_not_allowed_is_not_read(platform):
  q, k, v = draw(3, BATCH, TIME, HEADS, D)
  allowed = masks(TIME, TIME)['by row']
  found = interpreted.FLASH[platform](q, k, v, allowed)
  k, v = (x.at[1, 17:].set(1e4) for x in (k, v))
  np.testing.assert_array_equal(
    interpreted.FLASH[platform](q, k, v, allowed), found
  )


@each
def test_a_query_without_keys_looks_at_all_alike(platform):
  q, k, v = draw(3, BATCH, TIME, HEADS, D)
  found = interpreted.FLASH[platform](q, k, v, jnp.zeros((1, 1, TIME), bool))
  wanted = np.broadcast_to(v.mean(axis=1, keepdims=True), v.shape)
  assert error(found, wanted) < ERROR


SIZES = conformer.SpeechConfig(
  hidden_size=4 * D,
  speech_encoder_layers=1,
  speech_encoder_attention_heads=4,
  speech_encoder_intermediate_size=8,
)


def of_conformer(kind, mesh=None):
  """Attention of eight rows, as a conformer of this kind asks for it."""
  q, k, v = draw(3, 8, 40, 4, D)
  rngs, positions = nnx.Rngs(0), draw(2 * 40 - 1, 4 * D, seed=1)
  kinds = {
    'shaw': conformer.ShawAttention,
    'xl': conformer.TransformerXLAttention,
    'none': conformer.SelfAttention,
  }
  own = kinds[kind](SIZES, rngs=rngs)
  if kind == 'xl':
    own.pos_bias_u[...], own.pos_bias_v[...] = draw(2, 4, D, seed=2)
  allowed = jnp.arange(40) < jnp.arange(33, 41)[:, None, None]

  @jax.jit
  def run(q, k, v):
    with jax.default_matmul_precision('bfloat16'):
      q, bias = own.placed(q, positions)
      if mesh is None:
        return attention(q, k, v, allowed, bias)
      with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        over = 'model' if mesh.shape['model'] > 1 else None
        return attention(q, k, v, allowed, bias, heads_over=over)

  return run, (q, k, v)


@pytest.fixture
def kernel(monkeypatch, platform):
  """The operands of attention's kernels, as on the platform."""
  return interpreted.taken(monkeypatch, platform)['flash_attention']


@each
@pytest.mark.parametrize('kind', ['shaw', 'xl', 'none'])
def test_attention_is_the_same_with_it(request, platform, kind):
  run, operands = of_conformer(kind)
  wanted = run(*operands)
  calls = request.getfixturevalue('kernel')
  run, _ = of_conformer(kind)
  found = run(*operands)
  assert len(calls) == 1
  assert 0 < error(found, wanted) < ERROR


@each
@pytest.mark.parametrize('batch_norm', [False, True])
def test_a_network_is_as_near_to_float32_as_with_xla(
  kernel, monkeypatch, platform, batch_norm
):
  sizes = dataclasses.replace(
    SIZES, speech_encoder_layers=4, batch_norm=batch_norm
  )
  graph, state = nnx.split(conformer.Conformer(sizes, rngs=nnx.Rngs(0)))
  x = draw(BATCH, 100, sizes.hidden_size)
  mask = jnp.arange(100) < jnp.array([100, 61])[:, None]

  def states(dtype, precision):
    def run(state, x):
      with jax.default_matmul_precision(precision):
        return nnx.merge(graph, state)(x, mask)[-1][1]

    narrow = jax.tree.map(lambda leaf: leaf.astype(dtype), state)
    return np.asarray(jax.jit(run)(narrow, x))[np.asarray(mask)]

  exact = states('float32', 'highest')
  by_kernel = states('bfloat16', 'bfloat16')
  assert len(kernel) == 4
  for module in (flash, depthwise):
    monkeypatch.setattr(module, 'forms', lambda *sizes, **options: {})
  by_xla = states('bfloat16', 'bfloat16')
  assert len(kernel) == 4
  apart = [np.linalg.norm(y - exact) for y in (by_xla, by_kernel)]
  assert 0 < apart[1] < 1.1 * apart[0] < 0.01 * np.linalg.norm(exact)


@each
@pytest.mark.parametrize(
  'kind, shared', [('shaw', 1), ('xl', 1), ('none', 1), ('none', 2)]
)
def test_each_device_has_its_own_rows_and_heads(kernel, platform, kind, shared):
  run, operands = of_conformer(kind)
  wanted = run(*operands)
  mesh = meshes.local_mesh(shared)
  of = jax.sharding.PartitionSpec(('data', 'model'))
  if shared > 1:
    of = jax.sharding.PartitionSpec('data', None, 'model')
  place = jax.sharding.NamedSharding(mesh, of)
  run, _ = of_conformer(kind, mesh)
  found = run(*jax.device_put(operands, place))
  assert kernel[-1][0].shape == (shared, 40, 4 // shared, D)
  assert error(found, wanted) < 2**-8  # a product may be rounded otherwise


def lowered(platform, precision='bfloat16', bias=None, time=TIME, d=D):
  q = jax.ShapeDtypeStruct((1, time, HEADS, d), 'float32')
  allowed = jax.ShapeDtypeStruct((1, 1, time), bool)

  def run(*operands):
    with jax.default_matmul_precision(precision):
      return attention(*operands, bias)

  with jax.sharding.use_abstract_mesh(interpreted.OF_A_GPU):
    traced = jax.jit(run).trace(q, q, q, allowed)
    return traced.lower(lowering_platforms=(platform,)).as_text()


@each
def test_it_is_for_bfloat16_and_long_sequences(platform):
  assert 'flash_attention' in lowered(platform)
  gated = Bias(jnp.multiply, (jnp.ones((1, 1, TIME, 1)),) * 2)
  for other in (
    lowered('cpu'),
    lowered(platform, precision='highest'),
    lowered(platform, bias=gated),
    lowered(platform, time=15),
    lowered(platform, d=24),
  ):
    assert 'flash_attention' not in other


def test_a_tpu_takes_whole_tiles_of_heads_that_fit_its_memory():
  q, long = (
    jnp.zeros((1, time, 4, 64)) for time in (64, flash_tpu.LONGEST + 1)
  )
  allowed = jnp.ones((1, 1, 64), bool)
  assert flash_tpu.takes(q, q, allowed, heads=4, placed=True)
  assert not flash_tpu.takes(q, q, allowed, heads=3, placed=True)
  mask = jnp.ones((1, 1, long.shape[1]), bool)
  assert not flash_tpu.takes(q, long, mask, heads=4, placed=True)


@pytest.mark.parametrize(
  'kind, turns', [('TPU v4', False), ('TPU v5 lite', True), ('TPU7x', True)]
)
def test_an_old_tpu_cannot_turn_positions(kind, turns):
  device = jax.sharding.AbstractDevice(kind, num_cores=1, platform='tpu')
  mesh = meshes.local_mesh().abstract_mesh.update(abstract_device=device)
  q, allowed = jnp.zeros((1, 64, 4, 64)), jnp.ones((1, 1, 64), bool)
  with jax.sharding.use_abstract_mesh(mesh):
    assert flash_tpu.takes(q, q, allowed, heads=4, placed=False)
    assert flash_tpu.takes(q, q, allowed, heads=4, placed=True) == turns


@each
def test_a_kernel_that_is_wrong_is_found_out(platform):
  right = interpreted.FLASH[platform]
  assert flash.fault_of(right) is None

  def shifted(*operands, left):
    return right(*operands, left=left + 1)

  def unmasked(q, k, v, allowed, *others, left):
    return right(q, k, v, allowed | True, *others, left=left)

  def divided(q, k, v, allowed, near, table, left):
    """Single numbers as well, which are not."""
    near = near / (8 if near.shape[-1] == 1 else 1)
    return right(q, k, v, allowed, near, table, left=left)

  for wrong in (shifted, unmasked, divided):
    assert 'wrong by' in flash.fault_of(wrong)
  said = flash.fault_of(flash.KERNELS[platform].flash_attention)
  assert 'it fails (Only interpret' in said


@pytest.mark.parametrize('backend, platform', [('gpu', 'cuda'), ('tpu', 'tpu')])
def test_a_device_that_cannot_run_it_is_served_by_xla(
  monkeypatch, backend, platform
):
  """This process has none, so that the kernel fails."""
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  kernels.trusted.cache_clear()
  with pytest.warns(UserWarning, match='left out.* on cpu it fails'):
    assert 'flash_attention' not in lowered(platform)
    assert 'flash_attention' not in lowered(platform)
  kernels.trusted.cache_clear()
