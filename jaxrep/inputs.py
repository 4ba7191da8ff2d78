"""What goes into an encoder: token ids or waveforms, padded, with lengths.

`prepare` runs on the host and makes one 1-D array of an item; `device` runs in
the jit and makes the encoder's inputs and mask of a padded batch.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrep.registry import resolve
from jaxrep.types import SAMPLE_RATE, InputError


class TextInputs:
  """Strings → token ids, as the model's own tokenizer makes them."""

  dtype = np.int32
  grid = 16
  minimum = 1

  def __init__(self, tokenizer: str, folder: Path):
    self._class, self._folder = tokenizer, folder

  @functools.cached_property
  def _tokenizer(self) -> Any:
    import transformers

    transformers.logging.set_verbosity_error()
    try:
      return resolve(self._class).from_pretrained(self._folder)
    except (OSError, ValueError) as error:
      raise InputError(
        f'No tokenizer could be read from {self._folder} ({error}).'
      ) from error

  def prepare(self, items: Sequence[str], code: str) -> list[np.ndarray]:
    """Token ids, with the language's token in front and `</s>` behind."""
    if not self._knows(code):
      raise InputError(f'The tokenizer in {self._folder} lacks {code!r}.')
    self._tokenizer.src_lang = code
    ids = self._tokenizer(list(items))['input_ids']
    return [np.asarray(row, self.dtype) for row in ids]

  def _knows(self, code: str) -> bool:
    vocabulary = self._tokenizer.get_vocab()
    return f'__{code}__' in vocabulary or code in vocabulary

  @staticmethod
  def device(
    batch: Int[Array, 'batch token'], lengths: Int[Array, ' batch']
  ) -> tuple[Int[Array, 'batch token'], Bool[Array, 'batch token']]:
    return batch, jnp.arange(batch.shape[1]) < lengths[:, None]


class SpeechInputs:
  """Waveforms → features, by the model's front end inside the jit."""

  dtype = np.float32
  grid = 2 * SAMPLE_RATE

  def __init__(
    self, frontend: Callable[..., tuple[Array, Array]], minimum: int
  ):
    self._frontend, self.minimum = frontend, minimum

  def prepare(self, items: Sequence[np.ndarray], code: str) -> list[np.ndarray]:
    """Float32 at 16 kHz; the language makes no difference to speech."""
    return [np.asarray(item, self.dtype) for item in items]

  def device(
    self, batch: Float[Array, 'batch sample'], lengths: Int[Array, ' batch']
  ) -> tuple[Float[Array, 'batch time p'], Bool[Array, 'batch time']]:
    return self._frontend(batch, lengths)


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
