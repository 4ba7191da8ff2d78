"""Two ways to write an operation, by what the TPU compiler says of each.

    python -m benchmarks.tpu_ops [--ops=shaw,attention]

Each is compiled for one chip at released sizes in bfloat16 (the pair step in
float32); no TPU is needed, but libtpu is (the extra `tpu-aot`). The first form
is the one that is used. `cycles` are those that the compiler reckons with; it
says nothing of gathers, which are counted. A few minutes on two CPU cores.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from flax import nnx
from jax.sharding import SingleDeviceSharding

from benchmarks import harness
from jaxrep.extract import hlo, topology
from jaxrep.similarity import newton_schulz
from ports import positions
from ports.attention import Bias, Relative, attention, split_heads
from ports.convolutions import DepthwiseConv
from ports.layers import relative_sinusoid

_OPS = flags.DEFINE_list('ops', [], 'Which; empty for all.')
_TARGET = flags.DEFINE_string('target', 'v5e:2x4', 'A slice.')

# Four clips of 12 s, and two of 30 s as Whisper has them; queries, keys and
# values as their linear maps write them.
BATCH, TIME, HEADS, DIM, KERNEL = 4, 599, 16, 1024, 31
LEFT, RIGHT = 64, 8
LONG, LONG_TIME, LONG_HEADS = 2, 1500, 20
PAIRS, KEPT = 128, 160
HALF = jnp.bfloat16
QUERIES = ((BATCH, TIME, DIM), HALF)

Form = Callable[..., Any]


def shifted(x, kernel):
  """As `DepthwiseConv`."""
  layer = nnx.eval_shape(
    lambda: DepthwiseConv(DIM, KERNEL, causal=True, rngs=nnx.Rngs(0))
  )
  layer.kernel = nnx.Param(kernel)
  return layer(x)


def in_kernel(x, kernel):
  with jax.default_matmul_precision('bfloat16'):
    return shifted(x, kernel)


def grouped(x, kernel):
  return jax.lax.conv_general_dilated(
    x,
    kernel[:, None],
    window_strides=(1,),
    padding=[(KERNEL - 1, 0)],
    dimension_numbers=('NWC', 'WIO', 'NWC'),
    feature_group_count=DIM,
    preferred_element_type=jnp.float32,
  ).astype(x.dtype)


def _products(q, table):
  return jnp.einsum(
    'bqhd,ed->bhqe', q, table, preferred_element_type=jnp.float32
  )


def _column(time: int) -> np.ndarray:
  step = np.arange(time)
  return np.clip(step[None] - step[:, None], -LEFT, RIGHT) + LEFT


def by_product(q, table):
  return positions.picked_by_product(_products(q, table), _column(q.shape[1]))


def by_index(q, table):
  return positions.picked_by_index(_products(q, table), _column(q.shape[1]))


def by_keys(q, table):
  """A row of the table for each pair of query and key."""
  keys = table[_column(q.shape[1])]
  return jnp.einsum(
    'bqhd,qkd->bhqk', q, keys, preferred_element_type=jnp.float32
  )


def by_skew(q, table):
  """All distances, of which most are at an end, then Transformer-XL's shift."""
  products, time = _products(q, table), q.shape[1]
  behind, ahead = (products[..., i : i + 1] for i in (0, LEFT + RIGHT))
  parts = [
    jnp.repeat(ahead, time - 1 - RIGHT, axis=-1),
    products[..., ::-1],
    jnp.repeat(behind, time - 1 - LEFT, axis=-1),
  ]
  return positions.skewed(jnp.concatenate(parts, axis=-1)[..., ::-1])


def with_bias(bias: Form, q, k, v, table, mask):
  added = bias(q, table) * q.shape[-1] ** -0.5
  given = Bias(lambda scores: scores, (added,))
  return attention(q, k, v, mask[:, None], given)


def shaw_in_kernel(q, k, v, table, mask):
  near = Relative(q.swapaxes(1, 2), table[None, None], LEFT)
  return own_attention(q, k, v, mask, near)


def xl_in_kernel(q, k, v, table, mask):
  rows = _projected(table, q.shape[1]).swapaxes(0, 1)[None]
  near = Relative(q.swapaxes(1, 2), rows, q.shape[1] - 1)
  return own_attention(q, k, v, mask, near)


def _projected(table, time: int):
  """[distance, head, d], from one end to the other."""
  rows = relative_sinusoid(time, DIM).astype(HALF) @ table
  return rows.reshape(-1, HEADS, DIM // HEADS)


def skewed(q, table):
  """`table` has a row for each distance, projected."""
  products = jnp.einsum(
    'bqhd,rhd->bhqr',
    q,
    _projected(table, q.shape[1]),
    preferred_element_type=jnp.float32,
  )
  return positions.skewed(products)


def rotated(q, table):
  """sin and cos of query − key by those of each: products, and no shift."""
  inner = jnp.einsum(
    'bqhd,ehd->bhqe',
    q,
    table.reshape(DIM, HEADS, -1),
    preferred_element_type=jnp.float32,
  )
  sine, cosine = inner[..., ::2], inner[..., 1::2]
  phase = _phase(q.shape[1])
  s, c = jnp.sin(phase), jnp.cos(phase)
  turned = jnp.concatenate(
    [sine * s + cosine * c, cosine * s - sine * c], axis=-1
  )
  keys = jnp.concatenate([c, s], axis=-1)
  return jnp.einsum(
    'bhqe,ke->bhqk',
    turned.astype(HALF),
    keys.astype(HALF),
    preferred_element_type=jnp.float32,
  )


def _phase(time: int) -> jax.Array:
  exponents = np.arange(0, DIM, 2) * (-np.log(10000.0) / DIM)
  frequencies = np.exp(exponents).astype(np.float32)
  return jnp.arange(time, dtype=jnp.float32)[:, None] * frequencies


def own_attention(q, k, v, mask, near=None):
  with jax.default_matmul_precision('bfloat16'):
    return attention(q, k, v, mask[:, None], near)


def in_xla(q, k, v, mask):
  return attention(q, k, v, mask[:, None])


def jax_attention(q, k, v, mask):
  return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None])


def singular_values(matrices):
  return jnp.linalg.svd(matrices, compute_uv=False).sum(axis=-1)


def of_heads(form: Form) -> Form:
  """The form of queries, keys and values whose heads are not split."""

  def split(q, k, v, *others):
    heads = q.shape[-1] // 64
    return form(*(split_heads(x, heads) for x in (q, k, v)), *others)

  return split


def _states(batch: int, time: int, heads: int) -> list:
  states = ((batch, time, 64 * heads), HALF)
  return [states, states, states, ((batch, time), jnp.bool_)]


_RELATIVE = [QUERIES] * 3
_MASK = ((BATCH, TIME), jnp.bool_)
_SHAW = [*_RELATIVE, ((LEFT + RIGHT + 1, 64), HALF), _MASK]
_XL = [*_RELATIVE, ((DIM, DIM), HALF), _MASK]
_ATTENTION = {
  'kernel': own_attention,
  'ports': in_xla,
  'jax.nn': jax_attention,
}

_ATTEND = ('shaw', 'transformer-xl', 'attention', 'long attention')
# Operation → shapes of its arguments, and its forms.
OPS: Mapping[str, tuple[list, Mapping[str, Form]]] = {
  'depthwise': (
    [((BATCH, TIME, DIM), HALF), ((KERNEL, DIM), HALF)],
    {'kernel': in_kernel, 'shifted': shifted, 'grouped': grouped},
  ),
  'shaw': (
    _SHAW,
    {
      'kernel': shaw_in_kernel,
      'by product': functools.partial(with_bias, by_product),
      'by index': functools.partial(with_bias, by_index),
      'by keys': functools.partial(with_bias, by_keys),
      'by skew': functools.partial(with_bias, by_skew),
    },
  ),
  'transformer-xl': (
    _XL,
    {
      'kernel': xl_in_kernel,
      'skewed': functools.partial(with_bias, skewed),
      'rotated': functools.partial(with_bias, rotated),
    },
  ),
  'attention': (_states(BATCH, TIME, HEADS), _ATTENTION),
  'long attention': (_states(LONG, LONG_TIME, LONG_HEADS), _ATTENTION),
  'pairs': (
    [((PAIRS, KEPT, KEPT), jnp.float32)],
    {
      'newton-schulz': jax.vmap(newton_schulz.nuclear_norm),
      'svd': singular_values,
    },
  ),
}


def main(_) -> None:
  if unknown := set(_OPS.value) - set(OPS):
    raise app.UsageError(f'{unknown}: operations are {", ".join(OPS)}.')
  device = topology.hosts_of(_TARGET.value)[0][0]
  place = SingleDeviceSharding(device)
  for name in _OPS.value or OPS:
    shapes, forms = OPS[name]
    arguments = [
      jax.ShapeDtypeStruct(*shape, sharding=place) for shape in shapes
    ]
    for form, function in forms.items():
      case = {
        'op': name,
        'form': form,
        'shapes': [list(shape) for shape, _ in shapes],
        'target': _TARGET.value,
      }
      if name in _ATTEND:
        function = of_heads(function)
      compiled = jax.jit(function).lower(*arguments).compile()
      row = harness.append('tpu_ops', case, figures(compiled))
      del row['machine'], row['case']['shapes']
      print(row, flush=True)


def figures(compiled: Any) -> dict[str, Any]:
  """What the compiler says, and the milliseconds that its cycles take."""
  memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
  text, chip = compiled.as_text(), topology.chip_of(_TARGET.value)
  cycles = hlo.cycles(text)
  return {
    'operations': float(cost['flops']),
    'bytes': float(cost['bytes accessed']),
    'temporaries_mib': memory.temp_size_in_bytes / 2**20,
    'cycles': cycles,
    'milliseconds': 1e3 * cycles / chip.clock,
    'milliseconds_of_operations': 1e3 * float(cost['flops']) / chip.operations,
    'milliseconds_of_bytes': 1e3
    * float(cost['bytes accessed'])
    / chip.bandwidth,
    'gathers': text.count(' gather('),
    'loops': text.count(' while('),
  }


if __name__ == '__main__':
  app.run(main)
