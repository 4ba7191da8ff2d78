"""Types that the whole of jaxrep shares."""

import dataclasses
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

Modality = Literal['text', 'speech']
SAMPLE_RATE = 16_000


class InputError(ValueError):
  """What the user gave cannot be used.

  The message is one sentence or two that name the file, language or flag, and
  what to do about it; `run.py` prints it without a traceback and exits with 1.
  """


@dataclasses.dataclass(frozen=True)
class Example:
  """One sentence in one language: its text, or one recording of it.

  `id` is shared by all languages and both modalities. `recording` counts the
  recordings of one id in one language from 0 (always 0 for text), `audio` is
  what `Corpus.waveform` reads, `samples` its length at 16 kHz (0 for text).
  `checksum` is of parts of its file, '' where a corpus gives none.
  """

  id: str
  language: str
  text: str
  split: str = ''
  recording: int = 0
  speaker: str = ''
  audio: str = ''
  samples: int = 0
  checksum: str = ''


@dataclasses.dataclass(frozen=True)
class Dropped:
  """One example that is left out of a run, and why.

  `reason` is the same for all that it is true of; `audio` names the recording,
  where it is one that is left out.
  """

  language: str
  modality: Modality
  id: str
  reason: str
  audio: str = ''


@dataclasses.dataclass(frozen=True)
class CorpusOptions:
  """What of a corpus a run reads.

  `source` is the manifest file of a manifest corpus, or the folder that holds
  (or will hold) a downloaded one; empty means the default place. `splits` are
  in order of preference: where an id has recordings in several, those of the
  earlier split come first. `recordings` 'first' keeps the first usable
  recording of each sentence, 'all' keeps every one. `on_bad_input` 'error'
  raises at the first bad example, 'skip' drops it and says so in
  `Corpus.dropped`.
  """

  source: str = ''
  languages: tuple[str, ...] = ()
  splits: tuple[str, ...] = ('test',)
  recordings: Literal['first', 'all'] = 'first'
  on_bad_input: Literal['error', 'skip'] = 'error'


@runtime_checkable
class Corpus(Protocol):
  """Parallel text and speech: the same sentence ids in several languages.

  `languages` are ISO 639-3 codes. `examples` has a fixed order; `dropped`
  fills while examples are listed.
  """

  name: str
  title: str
  licence: str
  synthetic: bool
  note: str
  languages: tuple[str, ...]
  dropped: list[Dropped]

  def examples(self, language: str, modality: Modality) -> list[Example]: ...

  def waveform(self, example: Example) -> Float[np.ndarray, ' sample']:
    """Mono float32 at 16 kHz; raises InputError where it cannot be read."""
    ...
