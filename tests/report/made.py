"""Findings of known verdicts for pages that tests render."""

from jaxrep.report.verdicts import MARKS, Verdict

CLAIMS = {
  '1': 'Text and speech come together with depth.',
  '1.dip': 'Before they come together, they first move apart.',
  '2': 'Length adaptation brings speech closer to text.',
  '2.resource': 'It does so more in high-resource languages.',
  '3': 'Speech differs more between languages than text does.',
  '4': 'The modality gap is larger than the language gap.',
}


def verdict(finding, model, measure, word, value=0.12, **changes):
  """A verdict whose numbers suit its word, or have none if not measured."""
  there = word != 'not measured'
  calibrated = {'reversed': -0.08, 'no effect': 0.002}.get(word, value / 2)
  numbers = {
    **{'value': value, 'ci_low': value - 0.04, 'ci_high': value + 0.04},
    **{'p': 0.0004, 'effect': 1.25, 'n': 118, 'calibrated_p': 0.04},
    'k': 30 if measure == 'svcca' else None,
    'calibrated': calibrated,
    'calibrated_low': calibrated - 0.02,
    'calibrated_high': calibrated + 0.02,
  }
  if not there:
    numbers = dict.fromkeys(numbers)
  row = {
    **{'finding': finding, 'claim': CLAIMS[finding], 'model': model},
    **{'statistic': f'The statistic of {finding}.', 'measure': measure},
    **{'languages': 6, 'verdict': word},
    'note': '' if there else 'The model has no length adaptor.',
  }
  return Verdict(**(row | numbers | changes))


def verdicts(definition, measures=('svcca', 'cka_debiased', 'retrieval_r1')):
  """Every finding in every model, all words in turn."""
  words = list(MARKS)
  cells = [
    (finding, model, measure)
    for finding in CLAIMS
    for model in definition['models']
    for measure in measures
  ]
  return [
    verdict(*cell, words[i % len(words)], 0.04 + i / 200)
    for i, cell in enumerate(cells)
  ]
