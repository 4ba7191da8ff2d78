"""What is said of a model: a row of `jaxrep.models.MODELS`."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxrep import languages
from jaxrep.registry import resolve
from jaxrep.types import Modality


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
  """One checkpoint.

  `checkpoint` is a hub id or 'bundled:<folder>', `file` the weights in it where
  they have a name of their own; `sizes` stands for the config.json of a
  checkpoint that has none. With `embedded`, its config is under this key of the
  weights' file. In a folder of several checkpoints it is the one whose name
  matches `pattern`, whatever its case.
  """

  checkpoint: str
  licence: str
  file: str = ''
  sizes: Mapping[str, Any] | None = None
  embedded: str = ''
  pattern: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part(Files):
  """One modality of a model. Code is named as 'module:attribute'.

  `network` is a `ports.loading.Network`, `reader` a tokenizer of
  `jaxrep.tokenizers`, a `jaxrep.audio.frontends.Frontend`, or a function from
  the network's sizes to one. With `by_language` each language has its own
  encoder: it names a function from a `Language` to what is `Released` for it.
  `codes` names the field of `Language` that holds the model's codes; without
  it the model reads any language. The tokenizer lies with the checkpoint, or at
  `tokenizer`. A network of several checkpoints has `components` by name in
  place of its own, and its config is a table of theirs. One that reads a prompt
  has the `template` that an instruction goes into.
  """

  network: str
  reader: str
  checkpoint: str = ''
  licence: str = ''
  by_language: str = ''
  codes: str = ''
  tokenizer: str = ''
  components: Mapping[str, Files] = dataclasses.field(default_factory=dict)
  template: str = ''

  def released(self, language: str) -> 'Released':
    """The checkpoint of a language, by its ISO 639-3 code; '' for any."""
    known = languages.LANGUAGES.get(language)
    if self.by_language and known:
      return resolve(self.by_language)(known)
    return Released(self.file, self.licence, self.sizes)


class Released(NamedTuple):
  """A checkpoint's file, licence and sizes, as of `Part`."""

  file: str
  licence: str
  sizes: Mapping[str, Any] | None


class Resources(NamedTuple):
  """The table of what models were trained on, as of `resource_classes`.

  `meaning` is one sentence for the report: what its classes are.
  """

  table: str
  meaning: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One model: its parts by modality, and how they are compared.

  `counterparts` names a function from the sizes of text and speech to {speech
  tap: text tap}, `adaptor` the speech taps before and after the length
  adaptor. Where `languages` is given, the model knows those alone, by their ISO
  639-3 codes. With a `seed` the weights are random, and the checkpoint holds
  none. `resources` says how much of each language it was trained on, where
  that is known. A `demonstration` is no model that anybody uses; it says of
  such models what they are, and the report warns of them. A `control` shows
  what less than a trained model shows: a short name, a colon, and what it is.
  `edit` names what is done to the length adaptor's loaded parameters: a
  function from a `ports.layers.AdaptorParameters` to a `ports.variants.Edit`.
  """

  title: str
  parts: Mapping[Modality, Part]
  counterparts: str = ''
  adaptor: tuple[str, str] | None = None
  languages: tuple[str, ...] = ()
  seed: int | None = None
  note: str = ''
  resources: Resources | None = None
  demonstration: str = ''
  control: str = ''
  edit: str = ''

  @property
  def components(self) -> tuple[str, ...]:
    """The names of its several checkpoints, of all modalities."""
    names = [name for part in self.parts.values() for name in part.components]
    return tuple(dict.fromkeys(names))
