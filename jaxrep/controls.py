"""Controls: rows of MODELS without a network, and variants of any model.

A variant is asked for as `model@variant` in place of the model's name. There is
none of shuffled pairing: what a measure gives when the sentences of one side
are permuted is the floor of every cell, over all permutations or several, and
one permutation would be one draw of it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxrep.model_row import Part, Row
from jaxrep.registry import lookup
from jaxrep.types import InputError

UNTRAINED = 'untrained control: random weights'


def of(name: str, row: Row) -> Row:
  """The row of a model's variant; of a name without one, its own row.

  Raises:
    InputError: An unknown variant, or one that the model does not have.
  """
  _, at, variant = name.partition('@')
  if not at:
    return row
  try:
    return lookup(VARIANTS, variant, 'variant')(row)
  except Missing as error:
    raise InputError(f'{name}: {error}') from error


class Missing(ValueError):
  """What a model lacks for a variant."""


def _untrained(row: Row) -> Row:
  if row.seed is not None:
    raise Missing('it has no trained weights, so it is that already.')
  return dataclasses.replace(
    row,
    seed=0,
    control=UNTRAINED,
    note="What it shows comes from the inputs and the model's architecture, "
    'not from learning.',
    resources=None,
    demonstration='',
  )


def _edited(edit: str, control: str, note: str) -> Callable[[Row], Row]:
  def variant(row: Row) -> Row:
    if not row.adaptor:
      raise Missing('the model has no length adaptor.')
    return dataclasses.replace(row, edit=edit, control=control, note=note)

  return variant


def _surface(
  title: str, note: str, control: str, text: str, speech: str, **sizes: Any
) -> Row:
  """The inputs themselves: `ports.surface`, of these sizes."""
  shared = {'checkpoint': 'bundled:none', 'licence': 'none', 'sizes': sizes}
  return Row(
    title=title,
    parts={
      'text': Part(
        network=f'ports.surface:{text}',
        reader='jaxrep.tokenizers:Ngrams',
        **shared,
      ),
      'speech': Part(
        network='ports.surface:SPEECH',
        reader=f'jaxrep.audio.frontends:{speech}',
        **shared,
      ),
    },
    counterparts='ports.surface:counterparts',
    seed=0,
    note=note,
    control=control,
  )


ROWS: Mapping[str, Row] = {
  'control-surface': _surface(
    'Log-mel means and character n-grams',
    'What spectrum and spelling show of a sentence.',
    'control: the inputs without a network',
    *('COUNTS', 'FBANK'),
    features=80,
    buckets=512,
    orders=(1, 2, 3),
  ),
  'control-duration': _surface(
    'Duration',
    'Seconds of the recording, characters of the text.',
    'control: one number a sentence',
    *('LENGTH', 'DURATION'),
    features=1,
    buckets=512,
    orders=(1,),
  ),
}
VARIANTS: Mapping[str, Callable[[Row], Row]] = {
  'untrained': _untrained,
  'adaptor-redrawn': _edited(
    'ports.variants:redrawn',
    'adaptor-redrawn control: random weights in its length adaptor',
    'All but the length adaptor is as it was; what changes over the adaptor '
    'comes from its architecture, not from learning.',
  ),
  'adaptor-residual': _edited(
    'ports.variants:residual',
    'adaptor-residual control: only the residual path of its length adaptor',
    "What the adaptor's attention and feed-forward block would add is 0, so "
    'that a gated convolution alone shortens time.',
  ),
}
