"""The rows of one entry of the store: which example each row came from."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq


@dataclasses.dataclass(frozen=True)
class Row:
  """One example, as `rows.parquet` keeps it.

  `length` is what batches are made by: samples of speech, tokens of text.
  `token_ids` is what the text encoder saw, and None for speech. `checksum` is
  the recording's, where the corpus gives it.
  """

  id: str
  language: str
  text: str
  recording: int = 0
  speaker: str = ''
  split: str = ''
  samples: int = 0
  length: int = 0
  token_ids: tuple[int, ...] | None = None
  checksum: str = ''


_SCHEMA = pa.schema(
  [
    ('id', pa.string()),
    ('language', pa.string()),
    ('text', pa.string()),
    ('recording', pa.int32()),
    ('speaker', pa.string()),
    ('split', pa.string()),
    ('samples', pa.int64()),
    ('length', pa.int64()),
    ('token_ids', pa.list_(pa.int32())),
    ('checksum', pa.string()),
  ]
)


def encode(rows: Sequence[Row]) -> bytes:
  """The bytes of `rows.parquet`."""
  table = pa.Table.from_pylist([vars(row) for row in rows], _SCHEMA)
  sink = pa.BufferOutputStream()
  pq.write_table(table, sink, compression='zstd', write_page_checksum=True)
  return sink.getvalue().to_pybytes()


def decode(data: bytes) -> tuple[Row, ...]:
  """The rows of `rows.parquet`, in store order; a ValueError if damaged."""
  try:
    file = pa.BufferReader(data)
    table = pq.read_table(file, page_checksum_verification=True).cast(_SCHEMA)
    return tuple(_row(record) for record in table.to_pylist())
  except (pa.ArrowException, OSError) as error:
    raise ValueError(str(error)) from error


def digest(rows: Sequence[Row]) -> str:
  """A SHA-256 of the rows that no version of Parquet changes.

  Without their checksums: a damaged recording may be put right before it is
  read, which changes nothing of what was read.
  """
  hashed = hashlib.sha256()
  for row in rows:
    values = dataclasses.replace(row, checksum='')
    hashed.update(json.dumps(list(vars(values).values())).encode() + b'\n')
  return hashed.hexdigest()


def _row(record: dict) -> Row:
  tokens = record.pop('token_ids')
  return Row(**record, token_ids=None if tokens is None else tuple(tokens))
