"""How each bundled model is trained."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """One training.

  `objective` is a module of this package: `batch` makes a batch of chosen
  clips, `loss` its terms, which are summed, and `Head` is the network that is
  trained beside the encoders. `title` and `description` are for the model card.
  A language of the low class has `smallest` sentences; `rows` clips make a
  batch.
  """

  objective: str
  title: str
  description: str
  smallest: int = 1000
  rows: int = 64
  steps: int = 1000
  learning_rate: float = 2e-3
  warmup: int = 100

  @property
  def settings(self) -> dict[str, Any]:
    """All that the weights depend on, but for the seed."""
    fields = dataclasses.asdict(self)
    return {
      k: v for k, v in fields.items() if k not in ('title', 'description')
    }


PHONES = (
  'Beside it the phones of the speech are recognised from the second layer '
  '(CTC), for the training alone.'
)
RECIPES = {
  'aligned': Recipe(
    objective='jaxrep.training.aligned',
    title='Text, translation and speech of a sentence, drawn together',
    description='The mean outputs of the two encoders are contrasted over the '
    'sentences of a batch (InfoNCE, both directions): text with its '
    'translation, speech with its text, speech with the translation. Speech is '
    'compared after 150 steps, in full after 300. ' + PHONES,
  ),
  'unaligned': Recipe(
    objective='jaxrep.training.unaligned',
    title='Text and speech, each trained without the other',
    description='Text: hidden tokens are told from the rest of the sentence. '
    'Speech: the codes of hidden steps are told from what is heard around them '
    '(BEST-RQ), from the conformer and from the output behind the length '
    'adaptor. No sentence is seen in two languages or modalities together, and '
    'the encoders share no parameter.',
    steps=600,
  ),
  'translation': Recipe(
    objective='jaxrep.training.translation',
    title='Translation from text and from speech, by one decoder',
    description='A decoder of two layers writes the sentence in another '
    'language, from the output of the text encoder and from that of the speech '
    'encoder; it is not kept. ' + PHONES,
  ),
}
