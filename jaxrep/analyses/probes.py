"""How well a linear probe reads language and modality from each layer.

Language is read from text and from speech apart; modality (text or speech) from
both branches together, all languages as one, where a speech tap and the text
tap it is compared with have the same width. A probe is fitted on some sentences
and tested on the others, in which every language and both modalities of a
sentence go together: what a sentence is about cannot help it.

With 30 languages of 350 sentences and states of 1,024 numbers a tap takes about
2 s of one CPU core (50 taps: 2 minutes) and 43 MB; nothing is left out or
projected.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from jaxrep import store
from jaxrep.analyses import matching
from jaxrep.analyses import run as runs
from jaxrep.report import plots, tables
from jaxrep.stats import probe, proportions

SPLITS = 5
_TARGETS = {'language': 'language', 'modality': 'text or speech'}
_READ = ('text', 'speech', 'both')
_STYLE = plots.MODALITY_STYLE | {'both': ('#004488', 'diamond')}
_LABELS = {
  'text': 'which language, from text',
  'speech': 'which language, from speech',
  'both': 'text or speech, from both',
}
_CHANCE = plots.Key('chance: the largest class', 'floor', plots.GREY)
_INTERVAL = plots.Key('95 % intervals', 'band', plots.BAND)
_SCHEMA = pa.schema(
  [
    *((n, pa.string()) for n in ('model', 'target', 'modality')),
    ('position', pa.int64()),
    *((n, pa.string()) for n in ('tap_text', 'tap_speech')),
    *((n, pa.float64()) for n in ('accuracy', 'ci_low', 'ci_high', 'chance')),
    *((n, pa.int64()) for n in ('classes', 'sentences', 'rows', 'width')),
  ]
)


class Tap(NamedTuple):
  """What is read at once: a tap, or a text and a speech tap, of one width."""

  text: str | None
  speech: str | None
  width: int
  position: int


class Task(NamedTuple):
  """One target: the taps, and the sides of the store with their classes."""

  target: str
  modality: str
  taps: tuple[Tap, ...]
  sides: tuple[tuple[store.View, int], ...]

  @property
  def labels(self) -> Int[np.ndarray, ' row']:
    return np.repeat(
      [label for _, label in self.sides],
      [len(view.rows) for view, _ in self.sides],
    )

  @property
  def sentences(self) -> Int[np.ndarray, ' row']:
    """Which sentence each row is of, numbered."""
    ids = [one for view, _ in self.sides for one in view.ids]
    return np.unique(ids, return_inverse=True)[1]

  def states(self, tap: Tap) -> Float[np.ndarray, 'row dim']:
    return np.concatenate(
      [view.read(getattr(tap, view.entry.modality)) for view, _ in self.sides]
    )


def compute(run: runs.Run) -> pa.Table:
  """Accuracy of every probe on sentences that it was not fitted on.

  Returns:
    One row per model, `target`, `modality` that is read and tap, in layer
    order, with a 95 % interval over sentences and the share of the largest
    class, `chance`. The interval allows for splits that share sentences (see
    `stats.proportions`) and errs by being wide: it holds the expected accuracy
    in 97–100 % of simulated samples.
  """
  rows = [
    {'model': model, 'target': task.target, 'modality': task.modality} | row
    for model in run.definition['models']
    for task in tasks(run, model)
    for row in _probe(task)
  ]
  return tables.annotate(pa.Table.from_pylist(rows, _SCHEMA), run.definition)


def draw(table: pa.Table) -> plots.Figure:
  """Accuracy over layers; a panel per model and target."""
  rows, definition = table.to_pylist(), tables.definition_of(table)
  if not rows:
    return plots.Figure(1, {})
  panels = [
    _panel(own, model, target, definition)
    for target in _TARGETS
    for model, own in tables.by_model(
      [row for row in rows if row['target'] == target], definition
    )
  ]
  curves = (line for panel in panels for line in panel.lines)
  legend = (*plots.legend(curves), _INTERVAL)
  view = plots.View(
    tables.subtitle('linear probes', definition),
    tuple(panels),
    legend,
    tuple(_notes(rows, definition)),
  )
  return plots.Figure(tables.columns(table), {plots.EVERY_MEASURE: view})


def folds(sentences: Int[np.ndarray, ' row']) -> Int[np.ndarray, ' row']:
  """The split in which each row is tested; all rows of a sentence in one."""
  count = int(sentences.max()) + 1
  order = np.random.default_rng(0).permutation(count)
  return (order % SPLITS)[sentences]


def tasks(run: runs.Run, model: str) -> Iterator[Task]:
  """What can be told apart in the states that the store has of a model."""
  row = run.definition['models'][model]
  views = {
    modality: [
      run.view(model, modality, language)
      for language in run.languages(model, modality)
    ]
    for modality in matching.MODALITIES
    if run.stored(model, modality)
  }
  at = {
    m: matching.positions(run.definition, model, m) for m in matching.MODALITIES
  }
  for modality, own in views.items():
    if len(own) > 1:
      taps = tuple(
        Tap(*_only(modality, tap), width, at[modality][tap])
        for tap, width in row['taps'][modality]
      )
      sides = tuple((view, label) for label, view in enumerate(own))
      yield Task('language', modality, _shared(taps, sides), sides)
  both = set(run.languages(model, 'text', 'speech'))
  taps = tuple(
    Tap(text, speech, width, at['speech'][speech])
    for text, speech, width in _pairs(row)
    if width is not None
  )
  if both and taps and len(views) == 2:
    sides = tuple(
      (view, label)
      for label, modality in enumerate(matching.MODALITIES)
      for view in views[modality]
      if view.entry.language in both
    )
    yield Task('modality', 'both', _shared(taps, sides), sides)


def _shared(
  taps: Sequence[Tap], sides: Sequence[tuple[store.View, int]]
) -> tuple[Tap, ...]:
  """Those of all sides: an encoder of one language may have fewer layers."""
  held = [(view.entry.modality, dict(view.taps)) for view, _ in sides]
  return tuple(
    tap
    for tap in taps
    if all(getattr(tap, modality) in own for modality, own in held)
  )


def _only(modality: str, tap: str) -> tuple[str | None, str | None]:
  return (tap, None) if modality == 'text' else (None, tap)


def _pairs(model: Mapping[str, Any]) -> list[tuple[str, str, int | None]]:
  """Text tap, speech tap and their width, None where they have two."""
  widths = dict(map(tuple, model['taps']['text']))
  return [
    (text, tap, width if widths[text] == width else None)
    for tap, width in model['taps']['speech']
    if (text := model['counterparts'].get(tap)) in widths
  ]


def _probe(task: Task) -> Iterator[dict[str, Any]]:
  """A row per tap; the states of one are in memory at a time."""
  labels, sentences = task.labels, task.sentences
  classes = int(labels.max()) + 1
  split = folds(sentences)
  size = {
    'classes': classes,
    'sentences': int(sentences.max()) + 1,
    'rows': len(labels),
    'chance': float(np.bincount(labels).max() / len(labels)),
  }
  for tap in task.taps:
    x = task.states(tap)
    right = np.asarray(probe.held_out(x, labels, split, classes, SPLITS))
    yield _row(tap, right, sentences) | size


def _row(
  tap: Tap, right: Bool[np.ndarray, ' row'], sentences: Int[np.ndarray, ' row']
) -> dict[str, Any]:
  low, high = proportions.clustered_wilson(right, sentences, SPLITS)
  return {
    'position': tap.position,
    'tap_text': tap.text,
    'tap_speech': tap.speech,
    'width': tap.width,
    'accuracy': float(right.mean()),
    'ci_low': low,
    'ci_high': high,
  }


def _panel(
  rows: Sequence[tables.Row],
  model: str,
  target: str,
  definition: Mapping[str, Any],
) -> plots.Lines:
  stages = matching.stages(definition, model)
  places = plots.places(stages)
  lines, band = [], []
  for modality in _READ:
    own = [row for row in rows if row['modality'] == modality]
    if own:
      key = plots.Key(_LABELS[modality], 'mean', *_STYLE[modality])
      x = tuple(places[row['position']] for row in own)
      hover = tuple(map(_hover, own))
      for column, drawn in (('accuracy', key), ('chance', _CHANCE)):
        y = tuple(row[column] for row in own)
        lines.append(plots.Line(x, y, hover, drawn))
      ends = [(row['ci_low'], row['ci_high']) for row in own]
      band += [(at, *pair) for at, pair in zip(x, ends, strict=True)]
      band.append((x[-1], None, None))  # the next modality's is another
  return plots.Lines(
    tables.panel_title(model, _TARGETS[target], definition),
    'layer' if target == 'language' else 'speech layer',
    'held-out accuracy',
    tuple((places[i], name) for i, name in plots.ticks(stages)),
    (0.0, 1.03),
    tuple(lines),
    tuple(band),
  )


def _hover(row: tables.Row) -> str:
  taps = [row[n] for n in ('tap_text', 'tap_speech') if row[n] is not None]
  return '<br>'.join(
    [
      f'<b>{" and ".join(taps)}</b>',
      f'accuracy {tables.number(row["accuracy"])}{tables.interval(row)}',
      f'chance {tables.number(row["chance"])}',
      f'n {row["sentences"]} · {row["rows"]} rows',
    ]
  )


def _notes(
  rows: Sequence[tables.Row], definition: Mapping[str, Any]
) -> Iterator[str]:
  sentences = [row['sentences'] for row in rows]
  yield (
    'Probe: multinomial logistic regression on standardised states with an L2 '
    f'penalty of {probe.PENALTY / 2:g} |W|² (the same everywhere), fitted on '
    f'four fifths of the n = {tables.span(min(sentences), max(sentences))} '
    'sentences and tested on the fifth, five times; all languages and both '
    'modalities of a sentence are on one side. Intervals are over sentences, '
    'and count one row of each where a probe makes no error.'
  )
  yield (
    'A mean over tokens that holds the language’s own token says the language '
    'whatever the encoder does; speech also tells language by its speakers, '
    'where each language has its own.'
  )
  for model, row in definition['models'].items():
    title = tables.model_title(model, definition)
    own = {one['target'] for one in rows if one['model'] == model}
    missing = [one for one in _TARGETS if one not in own]
    pairs = _pairs(row)
    unequal = sum(width is None for *_, width in pairs)
    if unequal and own:
      yield (
        f'{title}: text and speech have different widths at {unequal} of '
        f'{len(pairs)} pairs of layers, which no probe can have in common.'
      )
    elif missing:
      yield (
        f'{title}: no probe of {" and ".join(missing)}, for want of two '
        'languages, of a modality, or of the states in the store.'
      )
