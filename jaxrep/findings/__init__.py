"""The study's findings as tests: statistic, interval, verdict."""

import dataclasses
from typing import Literal

Kind = Literal['plain', 'picked', 'uncentred', 'over ceiling']


@dataclasses.dataclass(frozen=True)
class Finding:
  """One row: what is claimed, and the statistic that is positive where it is.

  `statistic` names a function of `jaxrep.findings.statistics`, from a model's
  layout. Of the kind 'picked' it takes also a layer that is picked on one half
  of the sentences, and is computed on the other half; 'uncentred' is for
  measures that see what centring hides; 'over ceiling' divides each score by
  what the noise of recordings leaves of a perfect one.
  """

  claim: str
  meaning: str
  statistic: str
  kind: Kind = 'plain'


# The four findings, and parts of them with a name behind a dot.
FINDINGS = {
  '1': Finding(
    'Text and speech of a sentence converge with depth.',
    'Change of text–speech similarity from the first layer to the last, by the '
    'least-squares line over all layers; mean over languages.',
    'convergence',
  ),
  '1.dip': Finding(
    'Before that, text–speech similarity falls.',
    'First layer less the lowest inner layer, which is picked on one half of '
    'the sentences and compared on the other; mean over languages.',
    'dip',
    kind='picked',
  ),
  '1.rise': Finding(
    'After its lowest point text–speech similarity rises.',
    'Last layer less the lowest inner layer, which is picked on one half of '
    'the sentences and compared on the other; mean over languages.',
    'rise',
    kind='picked',
  ),
  '1.resource': Finding(
    'At the end text and speech are nearer in languages with more data.',
    'Text–speech similarity at the last layer: mean of the high class less '
    'that of the low class.',
    'resource',
  ),
  '1.hours': Finding(
    'At the end text and speech are nearer the more hours were trained on.',
    'Text–speech similarity at the last layer: its slope over the logarithm of '
    'hours (--resource_table), for ten times as many.',
    'per_tenfold_hours',
  ),
  '2': Finding(
    'The length adaptor brings speech nearer to text.',
    'Text–speech similarity after the adaptor less that before it; mean over '
    'languages.',
    'adaptation',
  ),
  '2.resource': Finding(
    'It does so mainly for languages with more data.',
    'Change over the adaptor: mean of the high and medium classes less that of '
    'the low class.',
    'adaptation_by_resource',
  ),
  '2.hours': Finding(
    'It does so the more, the more hours were trained on.',
    'Change over the adaptor: its slope over the logarithm of hours '
    '(--resource_table), for ten times as many.',
    'adaptation_per_tenfold_hours',
  ),
  '3': Finding(
    'Speech differs more between languages than text.',
    'Similarity of two languages as text less that as speech, at the first, '
    'the middle and the last layer; mean over pairs of languages.',
    'spread',
  ),
  '3.last': Finding(
    'Speech differs more between languages than text at the end.',
    'Similarity of two languages as text less that as speech, at the last '
    'layer; mean over pairs of languages.',
    'spread_at_last',
  ),
  '3.ceiling': Finding(
    'It does so beyond the noise of recordings.',
    'As finding 3 at the last layer, with each score of speech over its '
    'ceiling: what the same sentences score when they are read again.',
    'spread_at_last',
    kind='over ceiling',
  ),
  '4': Finding(
    'The gap between text and speech is larger than that between languages.',
    'At the last layer: similarity of a text to its translations less that to '
    'its own speech; mean over languages.',
    'gaps',
  ),
  '4.ceiling': Finding(
    'The gap between text and speech is larger beyond the noise of recordings.',
    'As finding 4, with each score of speech over its ceiling: what the same '
    'sentences score when they are read again.',
    'gaps',
    kind='over ceiling',
  ),
  '4.speech': Finding(
    'Speech is nearer to speech of other languages than to its own text.',
    'At the last layer: similarity of speech to that of other languages less '
    'that to its own text; mean over languages.',
    'speech_gaps',
  ),
  '4.uncentred': Finding(
    'The gap between text and speech is larger without centring too.',
    'As finding 4, by retrieval without centring, which sees a gap that is one '
    'offset of all sentences.',
    'gaps',
    kind='uncentred',
  ),
}
SMALLEST = 0.02
"""The smallest effect of interest, in units of a measure that ends at 1."""
