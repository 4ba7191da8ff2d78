"""Shared tokens of two languages' texts against their similarity (Finding 3).

The overlap of two languages is the mean, over the sentences that both have, of
the Jaccard index of the token types of the two texts, as the model's own
tokenizer makes them. What frames every text is left out: the tokens with which
all texts of a language begin (its language token, a prompt) and those with
which all texts of all languages end (`</s>`).

How the study counted is not public. Most likely it took the types of all texts
of a language together, which is `vocabulary` here.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jaxrep import languages, store
from jaxrep.analyses import run as runs
from jaxrep.report import plots, tables
from jaxrep.report.means import mean_cells
from jaxrep.stats import mantel

READS = {'last': 'last layer', 'mean': 'mean over layers'}
_FEWEST = 3  # languages, of which three pairs can correlate
_OVERLAPS = ('overlap', 'vocabulary')
_ASSOCIATIONS = {  # prefix of its columns: statistic, overlap, kind
  'raw_': ('value', 'overlap', 'pearson'),
  'rank_': ('value', 'overlap', 'spearman'),
  'calibrated_': ('calibrated', 'overlap', 'pearson'),
  'vocabulary_': ('value', 'vocabulary', 'pearson'),
}
_FOUND = ('r', 'p', 'p_two_sided', 'p_naive')
_KEYS = {
  True: plots.Key('two languages of one script', 'filled', plots.INK),
  False: plots.Key('of two scripts', 'hollow', '#AA4499'),
}
_MEANING = (
  'Token overlap: the mean, over the sentences that two languages share, of '
  'the Jaccard index of the token types of the two texts (by the model’s own '
  'tokenizer, without the tokens that frame every text). How the study counted '
  'is not public; most likely the types of all texts of a language at once, '
  'which the CSV has as «vocabulary».'
)

Types = dict[str, frozenset[int]]  # sentence id → token types


def compute(run: runs.Run) -> pa.Table:
  """Overlap and text similarity of every two languages, and their relation.

  Returns:
    One row per model, measure, `read` (the last tap, or the mean over all taps)
    and pair of languages, with `overlap`, `vocabulary` and whether both are of
    `one_script`. The columns `raw_r`, `raw_p` (one-sided), `raw_p_two_sided`
    and `raw_p_naive` say how overlap and raw score are related over the pairs
    of this model, measure and read (see `stats.mantel`), and stand in each of
    their rows; so do those of the ranks (`rank_`), of the calibrated scores
    (`calibrated_`) and of `vocabulary` (`vocabulary_`).
  """
  models = [
    model
    for model in run.definition['models']
    if len(run.languages(model, 'text')) >= _FEWEST
    and run.stored(model, 'text')
  ]
  overlaps = {model: _overlaps(run, model) for model in models}
  means = _means(run, models)
  rows = means.to_pylist()
  for row in rows:
    pair = row['lang_a'], row['lang_b']
    row |= overlaps[row['model']][frozenset(pair)]
    row['one_script'] = _one_script(*pair)
  keys = [(row['model'], row['measure'], row['read']) for row in rows]
  for key in dict.fromkeys(keys):
    own = [row for row, k in zip(rows, keys, strict=True) if k == key]
    found = _associations(own, run.languages(key[0], 'text'))
    for row in own:
      row |= found
  table = pa.Table.from_pylist(rows, _schema(means.schema))
  return tables.annotate(table, run.definition)


def draw(table: pa.Table) -> plots.Figure:
  """A point per pair of languages; a panel per model and read."""
  views = {
    measure: plots.View(
      view.subtitle,
      view.panels,
      view.legend,
      (_MEANING, *view.notes, *_notes(table, measure)),
    )
    for measure, view in tables.views(table, _view).items()
  }
  return plots.Figure(tables.columns(table), views)


def _means(run: runs.Run, models: Sequence[str]) -> pa.Table:
  """Text scores of two languages at the same tap: the last one, and all."""
  cells = run.cells(
    (pc.field('modality_a') == 'text')
    & (pc.field('modality_b') == 'text')
    & (pc.field('tap_a') == pc.field('tap_b'))
    & (pc.field('lang_a') != pc.field('lang_b'))
  ).rename_columns({'tap_a': 'tap'})
  taps = {
    model: [tap for tap, _ in run.definition['models'][model]['taps']['text']]
    for model in models
  }
  parts, sizes = [], {}
  for read in READS:
    chosen = {
      (model, tap): read
      for model, own in taps.items()
      for tap in (own[-1:] if read == 'last' else own)
    }
    own = runs.labelled(cells, ('model', 'tap'), 'read', chosen, pa.string())
    keys = ('model', 'measure', 'read', 'lang_a', 'lang_b')
    parts.append(mean_cells(own, keys))
    sizes |= {
      (model, read): 1 if read == 'last' else len(own)
      for model, own in taps.items()
    }
  means = runs.with_sizes(pa.concat_tables(parts), ('model', 'read'), sizes)
  order = run.definition['languages']
  orders = {'read': tuple(READS), 'lang_a': order, 'lang_b': order}
  return tables.in_order(means, run.orders | orders)


def _schema(means: pa.Schema) -> pa.Schema:
  numbers = [*_OVERLAPS]
  numbers += [f'{prefix}{name}' for prefix in _ASSOCIATIONS for name in _FOUND]
  return pa.schema(
    [
      *means,
      ('one_script', pa.bool_()),
      *((name, pa.float64()) for name in numbers),
      ('relabellings', pa.int64()),
    ]
  )


def _overlaps(
  run: runs.Run, model: str
) -> dict[frozenset[str], dict[str, float]]:
  """Both overlaps of every pair of languages."""
  rows = {
    language: run.view(model, 'text', language).rows
    for language in run.languages(model, 'text')
  }
  types = _types(rows)
  return {
    frozenset((a, b)): _overlap(types[a], types[b])
    for a, b in itertools.combinations(types, 2)
  }


def _types(rows: Mapping[str, Sequence[store.Row]]) -> dict[str, Types]:
  """The token types of each text of each language, without its frame."""
  tokens = {
    language: [row.token_ids or () for row in own]
    for language, own in rows.items()
  }
  every = itertools.chain.from_iterable(tokens.values())
  behind = _in_common([one[::-1] for one in every])
  found = {}
  for language, own in tokens.items():
    front = _in_common(own)
    found[language] = {
      row.id: frozenset(one[front : len(one) - behind])
      for row, one in zip(rows[language], own, strict=True)
    }
  return found


def _in_common(sequences: Iterable[tuple[int, ...]]) -> int:
  """How many tokens all of them begin with."""
  columns = zip(*sequences, strict=False)
  same = itertools.takewhile(lambda column: len(set(column)) == 1, columns)
  return sum(1 for _ in same)


def _overlap(a: Types, b: Types) -> dict[str, float]:
  shared = sorted(a.keys() & b.keys())
  each = [_jaccard(a[one], b[one]) for one in shared]
  whole = [frozenset().union(*(x[one] for one in shared)) for x in (a, b)]
  return {
    'overlap': sum(each) / max(len(each), 1),
    'vocabulary': _jaccard(*whole),
  }


def _jaccard(a: frozenset[int], b: frozenset[int]) -> float:
  return len(a & b) / max(len(a | b), 1)


def _one_script(a: str, b: str) -> bool:
  known = languages.LANGUAGES
  return a in known and b in known and known[a].script == known[b].script


def _associations(
  rows: Iterable[tables.Row], names: Sequence[str]
) -> dict[str, Any]:
  """The columns of every association over these pairs of languages."""
  found = {}
  for prefix, (statistic, overlap, kind) in _ASSOCIATIONS.items():
    x, y = (_matrix(rows, column, names) for column in (overlap, statistic))
    association = mantel.mantel(x, y, kind)
    for name in _FOUND:
      value = getattr(association, name)
      found[prefix + name] = None if np.isnan(value) else value
    found['relabellings'] = association.relabellings
  return found


def _matrix(
  rows: Iterable[tables.Row], column: str, names: Sequence[str]
) -> np.ndarray:
  matrix = np.full((len(names), len(names)), np.nan)
  for row in rows:
    a, b = (names.index(row[side]) for side in ('lang_a', 'lang_b'))
    value = row[column]
    matrix[a, b] = matrix[b, a] = np.nan if value is None else value
  return matrix


def _view(
  rows: Sequence[tables.Row], measure: str, definition: Mapping[str, Any]
) -> tuple[list[plots.Points], list[plots.Key]]:
  across = plots.limits(row['overlap'] for row in rows)
  panels = []
  for read, what in READS.items():
    up = plots.limits(row['value'] for row in rows if row['read'] == read)
    for model, own in tables.by_model(rows, definition):
      shown = [row for row in own if row['read'] == read]
      panels.append(
        plots.Points(
          _title(tables.panel_title(model, what, definition), shown[0]),
          'token overlap',
          tables.axis_title(measure, 'value'),
          across,
          up,
          tuple(_point(row, definition) for row in shown),
        )
      )
  if len(panels) > 2 * tables.SIDE_BY_SIDE:  # a line a model
    half = len(panels) // 2
    pairs = zip(panels[:half], panels[half:], strict=True)
    panels = list(itertools.chain.from_iterable(pairs))
  there = {row['one_script'] for row in rows}
  return panels, [key for one, key in _KEYS.items() if one in there]


def _title(head: str, row: tables.Row) -> str:
  r, p, naive = (row[f'raw_{n}'] for n in ('r', 'p_two_sided', 'p_naive'))
  if r is None:
    return f'{head}, r undefined'
  shown = [f'r {tables.number(r)}', f'p {tables.probability(p)}']
  shown.append(f'(naive {tables.probability(naive)})')
  unbroken = [part.replace(' ', '\xa0') for part in shown]
  return f'{head}, {unbroken[0]}, {unbroken[1]} {unbroken[2]}'


def _point(row: tables.Row, definition: Mapping[str, Any]) -> plots.Point:
  names = definition['language_names']
  head = f'{names[row["lang_a"]]} and {names[row["lang_b"]]}'
  hover = tables.hover(head, row)
  hover += f'<br>token overlap {tables.number(row["overlap"])}'
  return plots.Point(
    row['overlap'], row['value'], hover, _KEYS[row['one_script']]
  )


def _notes(table: pa.Table, measure: str) -> list[str]:
  """How p was found, and what a few languages can show at most."""
  own = table.filter(pc.field('measure') == measure).to_pylist()
  definition = tables.definition_of(table)
  count = len({row[side] for row in own for side in ('lang_a', 'lang_b')})
  pairs = len({(row['lang_a'], row['lang_b']) for row in own})
  number = max(row['relabellings'] for row in own)
  which = 'all' if count <= mantel.EXACT else 'random'
  found = [
    f'p: two-sided, by {number:,} relabellings of the languages ({which}; '
    'Mantel’s test of one association, not corrected for their number). The '
    f'naive p takes the {pairs} pairs of {count} languages for independent, '
    'which they are not.'
  ]
  absent = [
    tables.model_title(model, definition)
    for model in definition['models']
    if model not in {row['model'] for row in own}
  ]
  if absent:
    found.append(
      f'Not shown: {", ".join(absent)}, for want of three languages as text or '
      'of the texts in the store.'
    )
  return found
