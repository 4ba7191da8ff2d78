"""The figures of a run: one analysis, one file, one row of `ANALYSES`."""

import dataclasses
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxrep.registry import lookup

if TYPE_CHECKING:
  from jaxrep.analyses.run import Run
  from jaxrep.report.tables import Result


@dataclasses.dataclass(frozen=True)
class Analysis:
  """One row: a module with `compute(run)`, `draw(table)`, `headlines(table)`.

  `compute` gives a tidy table (exported as CSV), `draw` a figure of it,
  `headlines` the lines that it adds to the headline table, if any. `needs`
  completes «Nothing to show: this needs …».
  """

  module: str
  title: str
  explanation: str
  needs: str


ANALYSES = {
  'text_speech': Analysis(
    'jaxrep.analyses.text_speech',
    'Text against speech, by layer',
    'How similar the text and the speech of the same sentences are, within '
    'each language, as both go through the encoder.',
    'text and speech of one language',
  ),
  'cross_lingual': Analysis(
    'jaxrep.analyses.cross_lingual',
    'Language against language, by layer',
    'How similar the same sentences are in two languages, as text and as '
    'speech: the mean over all pairs of languages at the same layer.',
    'one modality in two languages',
  ),
  'layer_map': Analysis(
    'jaxrep.analyses.layer_map',
    'Every text layer against every speech layer',
    'Where in the two branches the same sentences meet: the mean over '
    'languages for each pair of layers.',
    'text and speech of one language',
  ),
  'adaptor': Analysis(
    'jaxrep.analyses.adaptor',
    'Before and after the length adaptor',
    'Whether shortening the speech sequence brings it closer to the text: '
    'each language before and after the adaptor.',
    'a model with a length adaptor, and text and speech of one language',
  ),
  'modality_language': Analysis(
    'jaxrep.analyses.modality_language',
    'The modality gap against the language gap',
    'Whether a text is nearer to its translations or to its own speech, at the '
    'last layer: where the filled mark lies left of the hollow one, the '
    'modality gap is the larger.',
    'text and speech of two languages',
  ),
  'calibration': Analysis(
    'jaxrep.analyses.calibration',
    'What a raw score is made of, by layer',
    'How much of the similarity of text and speech is what chance gives at '
    'this number of sentences and components: a raw score that rises only '
    'with its floor, or with k, says nothing. Means over languages.',
    'text and speech of one language',
  ),
  'language_map': Analysis(
    'jaxrep.analyses.language_map',
    'Every language against every other',
    'Which languages are alike at the last layer, and whether these are '
    'relatives. A map compares two languages as text below its diagonal and '
    'as speech above it, and on it the text of a language with its speech. '
    'Each tree of likeness faces the families of its languages: lines that '
    'cross are where the two disagree.',
    'one modality in two languages',
  ),
  'retrieval': Analysis(
    'jaxrep.analyses.retrieval',
    'Retrieval, by layer',
    'How often the nearest vector on the other side is that of the same '
    'sentence, between modalities and between languages. The figure stays '
    'under every measure.',
    'R@1 in both directions (--measures=…,retrieval_r1,retrieval_r1_back)',
  ),
  'gap': Analysis(
    'jaxrep.analyses.gap',
    'What centring hides, by layer',
    'Whether text and speech, or two languages, lie in different places: '
    'the similarity measures take the means off and cannot see it. The figure '
    'stays under every measure.',
    'a measure of it (--measures=…,centroid_distance,norm_ratio,cosine_gap)',
  ),
  'by_n': Analysis(
    'jaxrep.analyses.by_n',
    'The findings against the number of sentences',
    'Whether a finding is there with few sentences, and whether it grows or '
    'fades with more.',
    '`python run.py findings` and a measure that it tests',
  ),
  'token_overlap': Analysis(
    'jaxrep.analyses.token_overlap',
    'Shared tokens against similarity of texts',
    'Whether languages whose texts share tokens are also the ones whose texts '
    'are similar: a point for every two languages.',
    'three languages as text, and their texts in the store',
  ),
  'probes': Analysis(
    'jaxrep.analyses.probes',
    'Language and modality as a linear probe reads them',
    'How much of the language, and of whether it was text or speech, a linear '
    'classifier finds in each layer, tested on sentences that it has not seen.',
    'the states in the store, of two languages or of both modalities',
  ),
}


def analyze(run: 'Run', names: Sequence[str] = ()) -> 'tuple[Result, ...]':
  """Computes and draws the named analyses, by default all of them.

  Raises:
    InputError: there is no analysis of that name.
  """
  return tuple(_analyze(run, name) for name in names or ANALYSES)


def _analyze(run: 'Run', name: str) -> 'Result':
  from jaxrep.report.tables import Result

  row = lookup(ANALYSES, name, 'analysis')
  module = importlib.import_module(row.module)
  table = module.compute(run)
  return Result(
    name,
    row.title,
    row.explanation,
    row.needs,
    table,
    module.draw(table),
    module.headlines(table) if hasattr(module, 'headlines') else (),
  )
