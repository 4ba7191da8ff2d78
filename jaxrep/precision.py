"""Named dtype policies.

Norms, softmax and pooling run in float32 under every policy; a policy says what
the other parameters and activations are, and how matrix products multiply.
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
