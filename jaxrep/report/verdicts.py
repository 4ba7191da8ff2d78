"""What a run says of each finding: rows of a test, as page, CSV and JSON."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from jaxrep.report import measures, tables


@dataclasses.dataclass(frozen=True)
class Verdict:
  """One finding in one model under one measure.

  Attributes:
    finding: '1', or '1.dip' for a part of finding 1.
    claim: what the finding says, one sentence.
    statistic: what is computed, one sentence; it is positive where the claim
      holds.
    model: its name in the run.
    measure: its name in the run.
    value: the statistic before calibration; null where not measured.
    ci_low: lower end of its 95 % interval.
    ci_high: upper end.
    p: raw, before calibration.
    calibrated: the same statistic of calibrated scores; null without a floor.
    calibrated_low: lower end of its 95 % interval.
    calibrated_high: upper end.
    calibrated_p: after calibration.
    effect: the statistic in standard deviations.
    n: sentences.
    k: components kept, where the measure keeps some.
    languages: how many.
    verdict: a key of `MARKS`.
    note: why it was not measured, or a caveat.
  """

  finding: str
  claim: str
  statistic: str
  model: str
  measure: str
  value: float | None
  ci_low: float | None
  ci_high: float | None
  p: float | None
  calibrated: float | None
  calibrated_low: float | None
  calibrated_high: float | None
  calibrated_p: float | None
  effect: float | None
  n: int | None
  k: int | None
  languages: int
  verdict: str
  note: str = ''


class Mark(NamedTuple):
  """How the page shows a verdict: a class of its style, and a shape."""

  style: str
  symbol: str


# Colours as in `plots`; the shape and the word say what the colour says.
MARKS = {
  'holds': Mark('holds', '●'),
  'holds only before calibration': Mark('before', '◐'),
  'holds only after calibration': Mark('after', '◑'),
  'reversed': Mark('reversed', '◆'),
  'no effect': Mark('none', '○'),
  'undecided': Mark('open', '?'),
  'not measured': Mark('missing', '–'),
}
# The calibrated interval → the verdict where the raw one is above 0, and where
# it is not.
RULE = {
  'is above 0': ('holds', 'holds only after calibration'),
  'holds 0, and no effect of interest': (
    'holds only before calibration',
    'no effect',
  ),
  'holds 0, and effects of interest too': ('undecided', 'undecided'),
  'is below 0': ('reversed', 'reversed'),
}
_NUMBERS = ('value', 'ci_low', 'ci_high', 'p')
_CALIBRATED = (
  *('calibrated', 'calibrated_low', 'calibrated_high', 'calibrated_p'),
)
_COLUMNS = {
  int: pa.int64(),
  str: pa.string(),
  float | None: pa.float64(),
  int | None: pa.int64(),
}


def board(
  verdicts: Sequence[Verdict],
  names: Iterable[str],
  definition: Mapping[str, Any],
) -> dict[str, list[dict[str, Any]]]:
  """measure → a row per main finding, with a cell for each model of the run."""
  found = {(v.finding, v.model, v.measure): v for v in verdicts}
  beside = collections.defaultdict(list)
  for v in verdicts:
    beside[v.finding, v.model].append(v)
  claims = {v.finding: v.claim for v in reversed(verdicts)}
  main = sorted(name for name in claims if '.' not in name)
  return {
    measure: [
      {
        'finding': finding,
        'claim': claims[finding],
        'cells': [
          _cell(found.get((finding, model, measure)), beside[finding, model])
          for model in definition['models']
        ],
      }
      for finding in main
    ]
    for measure in names
  }


def _cell(
  verdict: Verdict | None, verdicts: Sequence[Verdict]
) -> dict[str, Any]:
  """`verdicts` are those of the same finding and model, of all measures."""
  if verdict is None:
    missing = MARKS['not measured']
    return {
      'verdict': 'not measured',
      'mark': missing,
      'estimate': '',
      'agreement': '',
    }
  low, high = verdict.ci_low, verdict.ci_high
  value, of = verdict.value, 'raw '
  if verdict.calibrated is not None:
    value, of = verdict.calibrated, ''
    low, high = verdict.calibrated_low, verdict.calibrated_high
  return {
    'verdict': verdict.verdict,
    'mark': MARKS[verdict.verdict],
    'estimate': '' if value is None else of + estimate(value, low, high),
    'agreement': _agreement(verdict, verdicts),
  }


def _agreement(verdict: Verdict, verdicts: Sequence[Verdict]) -> str:
  """'3/4': under 3 of 4 measures it is the same; '' where there is one.

  SVCCA, which is read with two raw scores, counts once, by the study's own.
  """
  measured = [one for one in verdicts if one.verdict != 'not measured']
  measured.sort(key=lambda one: not one.measure.endswith('_k'))
  judged = {
    one.measure.removesuffix('_k'): one.verdict for one in (*measured, verdict)
  }
  if len(judged) < 2 or verdict.verdict == 'not measured':
    return ''
  same = [*judged.values()].count(verdict.verdict)
  return f'{same}/{len(judged)}'


def estimate(value: float | None, low: float | None, high: float | None) -> str:
  """'+0.120 [0.080, 0.160]', as much of it as there is."""
  text = tables.number(value, signed=True)
  if low is None or high is None:
    return text
  ends = (tables.number(end) for end in (low, high))
  return f'{text} [{", ".join(ends)}]'


def full(
  verdicts: Iterable[Verdict], definition: Mapping[str, Any]
) -> list[dict[str, Any]]:
  """All rows as the page's table shows them: texts, and numbers to sort by."""
  return [
    dataclasses.asdict(v)
    | {
      'mark': MARKS[v.verdict],
      'model_title': model_title(v.model, definition),
      'measure_title': measures.title(v.measure),
      'raw_text': estimate(v.value, v.ci_low, v.ci_high),
      'calibrated_text': estimate(
        v.calibrated, v.calibrated_low, v.calibrated_high
      ),
      'p_text': tables.probability(v.p),
      'calibrated_p_text': tables.probability(v.calibrated_p),
      'effect_text': _signed(v.effect),
    }
    for v in verdicts
  ]


def _signed(value: float | None) -> str:
  return '–' if value is None else f'{value:+.2f}'.replace('-', '−')


def model_title(model: str, definition: Mapping[str, Any]) -> str:
  """A model's title; its name where the run's definition has none."""
  known = model in definition['models']
  return tables.model_title(model, definition) if known else model


def summary(verdicts: Iterable[Verdict]) -> dict[str, Any]:
  """finding → model → measure → what summary.json says of it.

  `statistic`, `ci_low`, `ci_high` and `p` are those that decide: of calibrated
  scores where the measure has a floor, else the raw ones. Both stand below, as
  `raw` and `calibrated`.
  """
  found: dict[str, Any] = {}
  for v in verdicts:
    raw, calibrated = (
      dict(
        zip(
          ('statistic', 'ci_low', 'ci_high', 'p'),
          (getattr(v, name) for name in names),
          strict=True,
        )
      )
      for names in (_NUMBERS, _CALIBRATED)
    )
    decides = raw if v.calibrated is None else calibrated
    rest = {
      name: getattr(v, name)
      for name in ('verdict', 'effect', 'n', 'k', 'languages', 'note')
    }
    by_measure = found.setdefault(v.finding, {}).setdefault(v.model, {})
    by_measure[v.measure] = (
      decides | rest | {'raw': raw, 'calibrated': calibrated}
    )
  return found


def to_table(verdicts: Iterable[Verdict]) -> pa.Table:
  """One row a verdict, a column a field."""
  schema = pa.schema(
    [(f.name, _COLUMNS[f.type]) for f in dataclasses.fields(Verdict)]
  )
  return pa.Table.from_pylist([dataclasses.asdict(v) for v in verdicts], schema)
