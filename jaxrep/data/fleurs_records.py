"""The recordings of a prepared config, read by position.

Read without the descriptions that tensorflow-datasets keeps beside them: those
name Python classes, so that a changed one decides what is imported.
"""

import os
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_data_source
from jaxtyping import Float32

# Encoding.BYTES: as a protobuf list of floats, 10 s of audio takes 29 ms to
# write in place of 0.3 ms.
_AUDIO = tfds.features.Tensor(
  shape=(None,), dtype=np.float32, encoding=tfds.features.Encoding.BYTES
)
_NAMES = ('id', 'file', 'text', 'speaker', 'gender')
FEATURES = {
  **dict.fromkeys(_NAMES, tfds.features.Text()),
  'audio': _AUDIO,
}
DAMAGED = (OSError, RuntimeError, ValueError, IndexError, KeyError)


class Records:
  """The records of one split; any of `DAMAGED` where they cannot be read."""

  def __init__(self, folder: pathlib.Path, split: str):
    shard = folder / f'fleurs-{split}.array_record-00000-of-00001'
    self._source = array_record_data_source.ArrayRecordDataSource(
      os.fspath(shard)
    )
    self._features = tfds.features.FeaturesDict(FEATURES)

  def read(self, position: int, file: str) -> Float32[np.ndarray, ' sample']:
    """The recording at a position, which has to be of that file."""
    record = self._features.deserialize_example_np(self._source[position])
    if record['file'].decode() != file:
      raise ValueError(f'record {position} is not of {file}')
    return np.array(record['audio'])
