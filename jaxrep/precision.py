"""Named dtype policies.

A policy says what the parameters are, and what matrix products with them read
and how they multiply. The residual stream, what attention is given, norms,
softmax and pooling are float32 under every policy; the inner activations of a
branch have the parameters' dtype. Where products may read bfloat16, attention's
do on accelerators.
"""

from typing import NamedTuple


class Precision(NamedTuple):
  """`parameters` is a dtype's name, `matmul` JAX's default precision."""

  parameters: str
  matmul: str


PRECISIONS = {
  'float32': Precision('float32', 'highest'),
  'bfloat16': Precision('bfloat16', 'bfloat16'),
}
