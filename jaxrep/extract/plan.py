"""What one language of one model takes: its rows, units and definition.

A pure function of the corpus' rows, the model and the options: the number of
devices and processes has no part in it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from jaxrep.data import batching
from jaxrep.models import language_code
from jaxrep.opened import Model
from jaxrep.store import Row
from jaxrep.types import (
  SAMPLE_RATE,
  Corpus,
  Dropped,
  Example,
  InputError,
)


@dataclasses.dataclass(frozen=True)
class Options:
  """How examples become vectors; all of it is part of the data's definition.

  `batch_seconds` and `batch_tokens` bound a batch, padding included.
  """

  precision: str = 'float32'
  pooling: str = 'mean'
  specials: bool = True
  batch_seconds: int = 160
  batch_tokens: int = 2048
  unit_size: int = 250
  store_dtype: Literal['float32', 'float16', 'bfloat16'] = 'float32'

  def policy(self, model: Model) -> batching.Policy:
    speech = model.modality == 'speech'
    budget = self.batch_seconds * SAMPLE_RATE if speech else self.batch_tokens
    return batching.Policy(model.inputs.grid, budget, self.unit_size)


@dataclasses.dataclass(frozen=True)
class EntryPlan:
  """One entry of the store before it is computed, rows sorted by length.

  `cut` counts the texts or recordings that are longer than the model reads.
  """

  model: Model
  language: str
  code: str
  examples: tuple[Example, ...]
  rows: tuple[Row, ...]
  units: tuple[batching.Unit, ...]
  options: Options
  corpus: str
  dropped: tuple[Dropped, ...]
  cut: int

  @property
  def title(self) -> str:
    return f'{self.model.name} {self.model.modality} {self.language}'

  @property
  def seconds(self) -> float:
    """Of audio; 0 for text."""
    return sum(row.samples for row in self.rows) / SAMPLE_RATE

  @property
  def definition(self) -> dict[str, Any]:
    """What would change the data if it changed, but for the rows."""
    options = dataclasses.asdict(self.options)
    del options['batch_seconds'], options['batch_tokens']  # in `batching`
    return {
      'corpus': self.corpus,
      'code': self.code,
      'checkpoint': self.model.checkpoint.title,
      'fingerprint': self.model.fingerprint,
      **options,
      'batching': dataclasses.asdict(self.options.policy(self.model)),
    }


def plan_entry(
  model: Model,
  corpus: Corpus,
  language: str,
  options: Options,
  on_bad_input: Literal['error', 'skip'] = 'error',
) -> EntryPlan:
  """Plans one language, which the model covers.

  Raises:
    InputError: Nothing usable, or a bad example under `on_bad_input='error'`.
  """
  code = language_code(model.row, model.modality, language)
  examples = corpus.examples(language, model.modality)
  examples, dropped = _usable(model, examples, on_bad_input)
  if not examples:
    raise InputError(
      f'{corpus.title} has no usable {model.modality} in {language}.'
    )
  tokens = _tokens(model, examples, code)
  whole = [len(t) for t in tokens] or [e.samples for e in examples]
  limit = model.inputs.limit
  lengths = [
    length if limit is None else min(length, limit) for length in whole
  ]
  tokens = [ids[:limit] for ids in tokens]
  order = batching.order(examples, lengths)
  rows = tuple(
    _row(examples[i], lengths[i], tokens[i] if tokens else None) for i in order
  )
  units = batching.units([row.length for row in rows], options.policy(model))
  return EntryPlan(
    model,
    language,
    code,
    tuple(examples[i] for i in order),
    rows,
    units,
    options,
    corpus.name,
    tuple(dropped),
    sum(a > b for a, b in zip(whole, lengths, strict=True)),
  )


def _usable(
  model: Model, examples: Sequence[Example], on_bad_input: str
) -> tuple[list[Example], list[Dropped]]:
  """Leaves out audio that is too short for one step of the model."""
  if model.modality == 'text':
    return list(examples), []
  minimum = model.inputs.minimum
  short = [e for e in examples if e.samples < minimum]
  reason = f'shorter than the {minimum} samples that {model.name} needs'
  if short and on_bad_input == 'error':
    first = short[0]
    raise InputError(
      f'{first.audio} ({first.language}, id {first.id}) has {first.samples} '
      f'samples: {reason}. {len(short)} recordings are so; '
      '--on_bad_input=skip leaves them out.'
    )
  kept = [e for e in examples if e.samples >= minimum]
  return kept, [
    Dropped(e.language, 'speech', e.id, reason, e.audio) for e in short
  ]


def _tokens(
  model: Model, examples: Sequence[Example], code: str
) -> list[np.ndarray]:
  """Token ids of the texts, not cut."""
  if model.modality == 'speech':
    return []
  return model.inputs.whole([e.text for e in examples], code)


def _row(example: Example, length: int, tokens: np.ndarray | None) -> Row:
  return Row(
    id=example.id,
    language=example.language,
    text=example.text,
    recording=example.recording,
    speaker=example.speaker,
    split=example.split,
    samples=example.samples,
    length=length,
    token_ids=None if tokens is None else tuple(tokens.tolist()),
    checksum=example.checksum,
  )
