"""Networks whose length adaptor has other parameters than were loaded."""

import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from ports import loading
from ports.checkpoints import CheckpointError
from ports.layers import AdaptorParameters

SEED = 1
"""Of what is drawn anew: not 0, with which a training may have begun."""


class VariantError(CheckpointError):
  """A variant that a network does not have."""


class Edit(NamedTuple):
  """What the parameters become whose names match a pattern."""

  pattern: str
  value: Callable[[loading.Leaf], np.ndarray]

  def apply(self, module: nnx.Module) -> nnx.Module:
    """Puts the new values where the old ones are, in their dtype."""
    graphdef, state = nnx.split(module)
    variables = dict(nnx.to_flat_state(state))
    for leaf in loading.leaves(module):
      if re.search(self.pattern, leaf.key):
        old = variables[leaf.path]
        value = self.value(leaf).astype(old.dtype)
        new = jax.device_put(value, old[...].sharding)
        variables[leaf.path] = old.replace(new)
    return nnx.merge(graphdef, nnx.from_flat_state(variables.items()))


def redrawn(adaptor: AdaptorParameters) -> Edit:
  """The adaptor's own parameters as `loading.initialise` draws them."""
  return Edit(adaptor.own, lambda leaf: loading.draw(leaf, SEED))


def residual(adaptor: AdaptorParameters) -> Edit:
  """What every branch beside the residual path adds becomes 0.

  Raises:
    VariantError: The residual path carries nothing of the input.
  """
  if not adaptor.branches:
    raise VariantError(
      'the residual path of its length adaptor carries a learned query, the '
      'same for every utterance, and nothing of the audio.'
    )
  return Edit(adaptor.branches, lambda leaf: np.zeros(leaf.shape, np.float32))
