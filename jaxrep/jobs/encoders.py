"""Which encoders a run reads with, and what plan.json says of them."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jaxrep import models, opened
from jaxrep.extract.plan import EntryPlan
from jaxrep.jobs.settings import Selection
from jaxrep.model_row import Row
from jaxrep.models import row_of
from jaxrep.opened import Model, Places
from jaxrep.types import InputError, Modality

MODALITIES: tuple[Modality, ...] = ('text', 'speech')


@dataclasses.dataclass(frozen=True)
class Encoders:
  """One modality of a model: one encoder for all languages, or one for each."""

  name: str
  modality: Modality
  places: Places
  fine: bool
  prompt: str
  _by_weights: dict[str, Model] = dataclasses.field(default_factory=dict)

  def of(self, language: str) -> Model | None:
    """The encoder that reads a language; None where none does.

    Languages with the same weights get the same object, so that these are
    loaded once.
    """
    row = row_of(self.name)
    if not models.language_code(row, self.modality, language):
      return None
    if not row.parts[self.modality].by_language:
      language = ''
    model = self._open(language)
    weights = model.fingerprint
    if row.seed is None:
      weights = model.checkpoint.file
    return self._by_weights.setdefault(weights, model)

  @property
  def all(self) -> list[Model]:
    """Those that were asked for."""
    return list(self._by_weights.values())

  def _open(self, language: str) -> Model:
    return opened.open_model(
      self.name,
      self.modality,
      self.places,
      self.fine,
      language,
      self.prompt if row_of(self.name).parts[self.modality].template else '',
    )


def open_families(config: Selection) -> list[Encoders]:
  """Of each model those of the modalities that it has and that are asked for.

  Raises:
    InputError: --models, --modalities or --checkpoints cannot be used.
  """
  unknown = set(config.modalities) - set(MODALITIES)
  if unknown or not config.modalities:
    raise InputError('--modalities takes text, speech, or both.')
  parts = {name: row_of(name).parts for name in config.models}
  if config.prompt and not any(
    part.template for own in parts.values() for part in own.values()
  ):
    raise InputError(f'--prompt: none of {", ".join(parts)} reads one.')
  places = _places(config)
  return [
    Encoders(
      name,
      modality,
      places(name, modality),
      config.taps == 'fine',
      config.prompt,
    )
    for name, own in parts.items()
    for modality in MODALITIES
    if modality in own and modality in config.modalities
  ]


def _places(config: Selection) -> Callable[[str, Modality], Places]:
  """Where the checkpoints of a model's modality are, of --checkpoints.

  A model's variants have its checkpoint, and it is named without them.
  """
  found: dict[tuple[str, str], str] = {}
  models = {_base(name) for name in config.models}
  for text in config.checkpoints:
    whose, equals, place = text.partition('=')
    name, slash, one = whose.partition('/')
    if name not in models and equals:
      raise InputError(f'--checkpoints names {name}, which --models does not.')
    if not (equals and place) or (
      slash and one not in (*MODALITIES, *row_of(name).components)
    ):
      raise InputError(
        f'--checkpoints={text}: write model=folder or model=hub id; '
        'model/text= and model/speech= name one of its encoders, and '
        'model/whisper= one of several checkpoints.'
      )
    found[name, one] = place

  def places(name: str, modality: Modality) -> Places:
    name = _base(name)
    whole = found.get((name, modality), found.get((name, ''), ''))
    inner = row_of(name).parts[modality].components
    parts = {x: found[name, x] for x in inner if (name, x) in found}
    return {'': whole, **parts} if parts else whole

  return places


def _base(name: str) -> str:
  return name.partition('@')[0]


def describe(
  name: str,
  families: Sequence[Encoders],
  entries: Iterable[EntryPlan],
  config: Selection,
) -> dict[str, Any]:
  """What plan.json says of a model."""
  row = row_of(name)
  own = {one.modality: one.all for one in families if one.name == name}
  covered = {
    modality: [
      (entry.language, entry.model)
      for entry in entries
      if (entry.model.name, entry.model.modality) == (name, modality)
    ]
    for modality in MODALITIES
  }
  before_after = zip(('before', 'after'), row.adaptor or (), strict=False)
  return {
    'title': row.title,
    'modalities': list(own),
    'trained': row.seed is None,
    'note': row.note,
    'demonstration': row.demonstration,
    'control': row.control,
    'checkpoints': [
      described
      for modality, encoders in own.items()
      for model in encoders
      for described in _checkpoints(
        model, [iso for iso, one in covered[modality] if one is model]
      )
    ],
    'dtype': config.precision,
    'pooling': config.pooling,
    'prompt': config.prompt if _reads_prompt(row) else None,
    'taps': {modality: _taps(own.get(modality, [])) for modality in MODALITIES},
    'counterparts': _counterparts(own),
    'adaptor': dict(before_after),
    'languages': {
      modality: [iso for iso, _ in pairs] for modality, pairs in covered.items()
    },
  }


def _reads_prompt(row: Row) -> bool:
  return any(part.template for part in row.parts.values())


def _checkpoints(model: Model, languages: list[str]) -> list[dict[str, Any]]:
  """Where an encoder is from; `languages` are those that it reads here."""
  by_language = model.row.parts[model.modality].by_language
  several = model.row.seed is None and len(model.checkpoint.each) > 1
  return [
    {
      'modality': model.modality,
      'languages': languages if by_language else [],
      'source': one.title,
      'fingerprint': one.fingerprint[:16] if several else model.fingerprint,
      'licence': one.licence,
    }
    for one in model.checkpoint.each
  ]


def _taps(encoders: Iterable[Model]) -> list[list[Any]]:
  """Those of all encoders in layer order; some have more layers than others."""
  longest = sorted(encoders, key=lambda one: len(one.taps), reverse=True)
  found = {spec.name: list(spec) for one in longest for spec in one.taps}
  return list(found.values())


def _counterparts(own: dict[Modality, list[Model]]) -> dict[str, str]:
  found: dict[str, str] = {}
  for speech in own.get('speech', []):
    for text in own.get('text', []):
      found = opened.counterparts(text, speech) | found
  order = [name for name, _ in _taps(own.get('speech', []))]
  return {tap: found[tap] for tap in order if tap in found}
