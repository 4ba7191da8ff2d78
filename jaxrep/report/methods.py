"""The methods section of a run, in words that can go into a paper."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxrep.report import measures, references
from jaxrep.report.verdicts import Verdict

COMMON_IDS = {
  'pair': 'each pair of representations on the sentences that both have',
  'all': 'only on the sentences that every language has in every modality',
}
RECORDINGS = {
  'first': 'the first usable recording of each sentence',
  'mean': 'the mean over the recordings of each sentence',
}


def paragraphs(
  definition: Mapping[str, Any],
  sentences: str,
  verdicts: Sequence[Verdict] = (),
) -> tuple[str, ...]:
  """Plain text, filled from plan.json; `sentences` is the range of n."""
  return tuple(
    ' '.join(sentence for sentence in found if sentence)
    for found in (
      _material(definition),
      _comparison(definition, sentences),
      _judgement(definition, verdicts),
    )
  )


def _material(definition: Mapping[str, Any]) -> list[str]:
  count = len(definition['compared_languages'])
  names = [
    definition['language_names'][iso]
    for iso in definition['compared_languages']
  ]
  corpus = definition['corpus']
  splits = ' + '.join(corpus['splits'])
  cited = references.cited(references.of_corpus(corpus['name']))
  return [
    'We compared how the same sentence is represented as text and as speech, '
    f'and in different languages, as Lee et al. (2025) did, in {count} '
    f'language{"" if count == 1 else "s"}: {_listed(names)}.',
    *(_model(name, one) for name, one in definition['models'].items()),
    *_computed(definition['models'].values()),
    f'The sentences are those of {corpus["title"]}{cited}'
    + (f', {splits} split' if splits else '')
    + ('; its speech is synthetic.' if corpus['synthetic'] else '.'),
    f'Of speech we took {RECORDINGS[definition["recordings"]]}.',
    _dropped(definition['dropped']),
  ]


def _model(name: str, model: Mapping[str, Any]) -> str:
  sources: dict[str, list[str]] = {}
  for one in model['checkpoints']:
    known = f'{one["source"]}, fingerprint {one["fingerprint"]}'
    own = sources.setdefault(known, [])
    if one['modality'] not in own:
      own.append(one['modality'])
  weights = '; '.join(
    f'{_listed(read)}: {known}' for known, read in sources.items()
  )
  layers = _listed(
    [
      f'{len(model["taps"][m])} stages of its {m} encoder'
      for m in model['modalities']
    ]
  )
  cited = references.cited(references.of_model(name))
  kind = f' ({model["control"]})' if model['control'] else ''
  return f'{model["title"]}{cited}{kind} was read at {layers} ({weights}).'


def _computed(models: Iterable[Mapping[str, Any]]) -> list[str]:
  ways = {
    (one['dtype'], one['pooling'], one.get('prompt') or ''): None
    for one in models
  }
  return [
    f'Activations were computed in {dtype} and pooled over time ({pooling})'
    + (f' inside the prompt «{prompt}».' if prompt else '.')
    for dtype, pooling, prompt in ways
  ]


def _dropped(dropped: Sequence[Mapping[str, str]]) -> str:
  if not dropped:
    return 'No example was left out.'
  reasons = _listed(list(dict.fromkeys(row['reason'] for row in dropped)))
  be = 'example was' if len(dropped) == 1 else 'examples were'
  return f'{len(dropped)} {be} left out ({reasons}).'


def _comparison(definition: Mapping[str, Any], sentences: str) -> list[str]:
  found = [
    'Sentences were aligned by their identifiers, and we compared '
    f'{COMMON_IDS[definition["common_ids"]]} (n = {sentences}).'
  ]
  for name in measures.of_run(definition):
    title = measures.title(name)
    cited = references.cited(references.of_measure(name))
    defined = definition['measures'][name].removeprefix(f'{title}: ')
    found.append(
      f'{title[0].upper()}{title[1:]}{cited}: {defined.rstrip(".")}.'
    )
  return found


def _judgement(
  definition: Mapping[str, Any], verdicts: Sequence[Verdict]
) -> list[str]:
  found = []
  without = [
    measures.title(name)
    for name in measures.of_run(definition)
    if not references.has_floor(definition['measures'][name])
  ]
  if len(without) < len(definition['measures']):
    but = f' but those of {_listed(without)}' if without else ''
    found.append(
      f'All scores{but} stand beside their floor, what they are when '
      'sentences are paired at random, and calibrated scores are (raw − floor) '
      '/ (1 − floor) ('
      f'{references.REFERENCES[references.CALIBRATION].cite} take a critical '
      'value of chance where the floor is its mean); q is the false discovery '
      'rate over all cells of a model and measure but those of a '
      'representation with itself'
      f'{references.cited([references.DISCOVERIES])}.'
    )
  if definition['ceiling']:
    found.append(
      'The ceiling is how alike the same text is when recorded again, on '
      'sentences with two recordings.'
    )
  if verdicts:
    found += [
      'Each finding is one statistic, positive where the claim holds, with a '
      '95 % interval by resampling sentences jointly over all cells, the '
      'languages fixed.',
      *dict.fromkeys(
        f'Finding {v.finding}: {v.statistic.rstrip(".")}.' for v in verdicts
      ),
      'A finding holds where the interval of raw and of calibrated scores '
      'are both above 0, only before calibration where the calibrated one '
      'holds 0 and no effect of interest, only after calibration where the raw '
      'one is not above 0, and is reversed where the calibrated one is below '
      '0; it has no effect where neither is above 0 and the calibrated one '
      'holds no effect of interest, and is undecided where that holds both.',
    ]
  versions = _listed([f'{n} {v}' for n, v in definition['versions'].items()])
  return [
    *found,
    f'All of it was run with jaxrep {definition["jaxrep"]} ({versions}).',
  ]


def _listed(names: Sequence[str]) -> str:
  *most, last = names
  return f'{", ".join(most)} and {last}' if most else last
