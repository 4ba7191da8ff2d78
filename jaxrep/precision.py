"""Named dtype policies.

A policy says what the parameters are, and what matrix products with them read
and how they multiply. What is between them is float32 under every policy: the
residual stream, norms, softmax, pooling; the TPU's compiler reckons with fewer
cycles for it than with bfloat16 there.
"""

from typing import NamedTuple


class Precision(NamedTuple):
  """`parameters` is a dtype's name, `matmul` JAX's default precision."""

  parameters: str
  matmul: str


PRECISIONS = {
  'float32': Precision('float32', 'highest'),
  'bfloat16': Precision('bfloat16', 'default'),
}
