"""Layers that belong together, and one layer axis for both modalities.

Three comparisons recur: `within` is a language's text with its own speech, at
each speech tap with the text tap that is its counterpart; `text` and `speech`
are the same modality in two languages, at the same tap.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jaxrep.analyses import run as runs
from jaxrep.report import plots

MODALITIES = ('text', 'speech')
KINDS = ('within', *MODALITIES)


def counterparts(
  definition: Mapping[str, Any], model: str
) -> list[tuple[str, str]]:
  """(speech tap, the text tap that it is compared with) in layer order."""
  named = definition['models'][model]['counterparts']
  taps = definition['models'][model]['taps']['speech']
  return [(tap, named[tap]) for tap, _ in taps if tap in named]


def stages(definition: Mapping[str, Any], model: str) -> list[str]:
  """One layer axis for both modalities: speech's, with text's own put in."""
  text, merged = (
    [plots.stage(tap) for tap in _taps(definition, model, modality)]
    for modality in MODALITIES
  )
  at = 0
  for name in text:
    if name in merged:
      at = merged.index(name) + 1
    else:
      merged.insert(at, name)
      at += 1
  return merged


def positions(
  definition: Mapping[str, Any], model: str, modality: str
) -> dict[str, int]:
  """Tap → its place in `stages`."""
  axis = stages(definition, model)
  return {
    tap: axis.index(plots.stage(tap))
    for tap in _taps(definition, model, modality)
  }


def within(run: runs.Run) -> pa.Table:
  """`run.text_speech_cells()` of counterparts alone.

  With a column `position`: that of the speech tap in `counterparts`.
  """
  places = {
    (model, text, speech): position
    for model in run.definition['models']
    for position, (speech, text) in enumerate(
      counterparts(run.definition, model)
    )
  }
  return runs.labelled(
    run.text_speech_cells(),
    ('model', 'tap_text', 'tap_speech'),
    'position',
    places,
    pa.int64(),
  )


def cells(run: runs.Run, measures: Sequence[str]) -> pa.Table:
  """The scores of all `KINDS` at matching layers.

  With columns `kind` and `position`: the place in `stages`, of `within` that
  of the speech tap.
  """
  same_language = pc.field('lang_a') == pc.field('lang_b')
  parts = []
  for kind in KINDS:
    a, b = ('text', 'speech') if kind == 'within' else (kind, kind)
    chosen = run.cells(
      pc.field('measure').isin(list(measures))
      & (pc.field('modality_a') == a)
      & (pc.field('modality_b') == b)
      & (same_language if kind == 'within' else ~same_language)
    )
    places = _places(run.definition, kind)
    keys = ('model', 'tap_a', 'tap_b')
    chosen = runs.labelled(chosen, keys, 'position', places, pa.int64())
    column = pa.array([kind] * len(chosen), pa.string())
    parts.append(chosen.append_column('kind', column))
  return pa.concat_tables(parts)


def sizes(run: runs.Run) -> dict[tuple[str, str], int]:
  """(model, kind) → how many languages, or pairs of them, there are."""
  found = {}
  for model in run.definition['models']:
    found[model, 'within'] = len(run.languages(model, *MODALITIES))
    for modality in MODALITIES:
      count = len(run.languages(model, modality))
      found[model, modality] = math.comb(count, 2)
  return found


def _places(
  definition: Mapping[str, Any], kind: str
) -> dict[tuple[str, str, str], int]:
  found = {}
  for model in definition['models']:
    if kind == 'within':
      at = positions(definition, model, 'speech')
      pairs = counterparts(definition, model)
      found |= {(model, text, tap): at[tap] for tap, text in pairs}
    else:
      at = positions(definition, model, kind)
      found |= {(model, tap, tap): place for tap, place in at.items()}
  return found


def _taps(
  definition: Mapping[str, Any], model: str, modality: str
) -> list[str]:
  return [tap for tap, _ in definition['models'][model]['taps'][modality]]
