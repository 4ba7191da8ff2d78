"""What goes into an encoder: token ids or waveforms, padded, with lengths.

`whole` runs on the host and makes one 1-D array of an item, of which the first
`limit` values are read; `device` runs in the jit and makes the encoder's inputs
and mask of a padded batch.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxrep.audio.frontends import Frontend

Device = Callable[[Array, Array], tuple[Any, Any]]


@runtime_checkable
class Tokenizer(Protocol):
  """A row of `jaxrep.tokenizers`.

  `frame` counts the tokens that no text can do without.
  """

  frame: int

  def encode(self, texts: Sequence[str], code: str) -> list[list[int]]:
    """Token ids, with the language's token in front and `</s>` behind."""
    ...


class TextInputs:
  """Strings → token ids, as the model's own tokenizer makes them.

  More than `limit` tokens are cut off at the end, as the references do, which
  loses `</s>` as well.
  """

  dtype = np.int32
  grid = 16

  def __init__(self, tokenizer: Tokenizer, limit: int | None = None):
    self._tokenizer, self.limit = tokenizer, limit
    self.minimum = tokenizer.frame + 1

  def whole(self, items: Sequence[str], code: str) -> list[np.ndarray]:
    """Token ids of each text, not cut."""
    rows = self._tokenizer.encode(items, code)
    return [np.asarray(row, self.dtype) for row in rows]

  @staticmethod
  def device(
    batch: Int[Array, 'batch token'], lengths: Int[Array, ' batch']
  ) -> tuple[Int[Array, 'batch token'], Bool[Array, 'batch token']]:
    return batch, jnp.arange(batch.shape[1]) < lengths[:, None]


class SpeechInputs:
  """Waveforms → features, by the model's front end inside the jit.

  What is behind `limit` samples is cut off, as the references do.
  """

  dtype = np.float32

  def __init__(self, frontend: Frontend):
    self.device: Device = frontend.features
    self.minimum, self.grid = frontend.minimum, frontend.grid
    self.limit = frontend.limit

  def whole(self, items: Sequence[np.ndarray], code: str) -> list[np.ndarray]:
    """Float32 at 16 kHz; the language makes no difference to speech."""
    return [np.asarray(item, self.dtype) for item in items]


def pad(
  arrays: Sequence[np.ndarray], rows: int, length: int, dtype: Any
) -> tuple[np.ndarray, np.ndarray]:
  """Stacks 1-D arrays as [rows, length] with zeros behind, and their lengths.

  Rows beyond the arrays are dummies of length 0.
  """
  batch = np.zeros((rows, length), dtype)
  lengths = np.zeros(rows, np.int32)
  for i, array in enumerate(arrays):
    batch[i, : len(array)] = array
    lengths[i] = len(array)
  return batch, lengths
