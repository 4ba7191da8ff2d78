"""What the store holds of one model: the states of each of its sides."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from jaxrep import store
from jaxrep.data.parallel import Side
from jaxrep.types import Dropped, InputError

States = dict[str, Float[np.ndarray, 'sentence _']]


@dataclasses.dataclass(frozen=True)
class Held:
  """One side: its sentences, sorted by id, and their states at every tap.

  `again` are the states of another recording of the same sentences; None
  where none was asked for, or too few sentences have one.
  """

  ids: tuple[str, ...]
  states: States
  again: States | None
  dropped: tuple[Dropped, ...]

  def rows(self, ids: Sequence[str]) -> np.ndarray:
    """Where some of its sentences are."""
    return np.searchsorted(np.array(self.ids), np.array(ids))


def compared(
  definition: dict[str, Any], language_set: Literal['common', 'own']
) -> list[str]:
  """The languages of a run that are compared.

  Under 'common' these are the ones that every model has read in every modality
  that it was to read, so that no number of one model is of other languages
  than that of another, nor text of others than speech.

  Raises:
    InputError: there is none; names what each model has.
  """
  wanted = definition['languages']
  if language_set == 'own':
    return wanted
  covered = {
    f'{name} {modality}': model['languages'][modality]
    for name, model in definition['models'].items()
    for modality in model['modalities']
  }
  common = [iso for iso in wanted if all(iso in c for c in covered.values())]
  if common:
    return common
  each = '; '.join(f'{k}: {", ".join(v) or "none"}' for k, v in covered.items())
  raise InputError(
    f'No language is read by every model in every modality ({each}). Change '
    '--languages, or compare each model in its own: --language_set=own.'
  )


def read(
  definition: dict[str, Any],
  workdir: str,
  model: str,
  languages: Sequence[str],
  fewest: int | None,
) -> dict[Side, Held]:
  """All sides of a model; text first, so that it is in front in a pair.

  Args:
    definition: the run's, plan.json.
    workdir: where its store is.
    model: one of its models.
    languages: those that are compared.
    fewest: of the sentences with two recordings that speech needs to be taken
      on these alone, with `again`; None to take one recording of each.

  Raises:
    InputError: recordings are asked for and no language has as many.
  """
  opened = store.open_store(workdir)
  found = {}
  for modality in ('text', 'speech'):
    covered = definition['models'][model]['languages'][modality]
    for language in filter(set(languages).__contains__, covered):
      name = (model, modality, language)
      side = _read(opened, name, definition['recordings'])
      if fewest is not None and modality == 'speech':
        side = _repeated(opened, name, side, fewest)
      found[language, modality] = side
  if fewest is not None:
    _check(found, workdir, model, fewest)
  return found


def unrepeated(sides: dict[Side, Held]) -> list[str]:
  """The languages whose speech has no other recordings."""
  return [
    language
    for (language, modality), side in sides.items()
    if modality == 'speech' and side.again is None
  ]


def _read(
  opened: store.Store, name: tuple[str, Any, str], recordings: Any
) -> Held:
  view = opened.view(*name, recordings=recordings)
  return Held(view.ids, view.read_all(), None, view.dropped)


def _repeated(
  opened: store.Store, name: tuple[str, Any, str], side: Held, fewest: int
) -> Held:
  """The side on its sentences with two recordings, if they are enough."""
  second = opened.view(*name, recordings='second')
  if len(second.ids) < fewest:
    return side
  rows = side.rows(second.ids)
  states = {tap: x[rows] for tap, x in side.states.items()}
  return Held(second.ids, states, second.read_all(), side.dropped)


def _check(
  sides: dict[Side, Held], workdir: str, model: str, fewest: int
) -> None:
  spoken = [side for (_, kind), side in sides.items() if kind == 'speech']
  if spoken and all(side.again is None for side in spoken):
    raise InputError(
      f'--ceiling: in {workdir} no language of {model} has {fewest} sentences '
      'with two recordings. Run `run.py extract --ceiling` into another '
      '--workdir if the corpus has them, lower --minimum_ids, or leave '
      '--ceiling out.'
    )
