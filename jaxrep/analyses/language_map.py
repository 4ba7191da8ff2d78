"""Languages by languages at the last layer, and whether kinship orders them."""

import dataclasses
import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float
from scipy.cluster import hierarchy
from scipy.spatial import distance

from jaxrep.analyses import matching
from jaxrep.analyses import run as runs
from jaxrep.languages import LANGUAGES
from jaxrep.report import plots, tables, trees
from jaxrep.report.means import mean_cells

KINSHIP = ('branch', 'family', 'none', 'unknown', 'itself')
_KEYS = (
  *('model', 'measure', 'modality_a', 'modality_b', 'lang_a', 'lang_b'),
  *('tap_a', 'tap_b'),
)
_QUANTITIES = {'value': 'raw', 'calibrated': 'calibrated'}
_COLUMNS = 2
_FACING = 'by likeness and by family'
_HALVES = 'text below the diagonal, speech above'
_ORDER = (
  'Languages of a map stand as average linkage of the mean of text and speech '
  'puts them. A tree joins what is most alike first, and a fork stands at the '
  'mean over all pairs of languages across it.'
)
_RELATIONS = {
  'branch': 'within a branch of a family',
  'family': 'between branches of a family',
  'none': 'between families',
}
_DISTANCES = ('centroid_distance',)  # the nearer, the smaller
_OPEN = plots.Key('undefined, or not compared', 'band', plots.GAP)


class _Tree(NamedTuple):
  """Average linkage of languages; `order` has those that all others have."""

  order: tuple[str, ...]
  merges: tuple[trees.Merge, ...]


def compute(run: runs.Run) -> pa.Table:
  """The single cells of the last tap of text and of speech.

  Text with text and speech with speech of two languages, and the text of each
  with the speech of each.

  Returns:
    One row per model, measure, and pair of (modality, language); `kinship` is
    the closest of 'branch', 'family' and 'none' that both languages share.
  """
  last = {
    (model, a, b): 'last'
    for model in run.definition['models']
    for a, b in _last(run.definition, model)
  }
  keys = ('model', 'tap_a', 'tap_b')
  taps = sorted({tap for _, *pair in last for tap in pair})
  cells = run.cells(pc.field('tap_a').isin(taps) & pc.field('tap_b').isin(taps))
  cells = runs.labelled(cells, keys, 'at', last, pa.string()).filter(
    (pc.field('modality_a') != pc.field('modality_b'))
    | (pc.field('lang_a') != pc.field('lang_b'))
  )
  cells = mean_cells(cells, _KEYS)
  pairs = zip(*(cells[f'lang_{x}'].to_pylist() for x in 'ab'), strict=True)
  kin = pa.array([kinship(*pair) for pair in pairs], pa.string())
  one = pa.array([1] * len(cells), pa.int64())
  cells = cells.append_column('kinship', kin).append_column('of', one)
  languages = run.definition['languages']
  orders = run.orders | {
    **dict.fromkeys(('modality_a', 'modality_b'), matching.MODALITIES),
    **dict.fromkeys(('lang_a', 'lang_b'), languages),
  }
  return tables.annotate(tables.in_order(cells, orders), run.definition)


def draw(table: pa.Table) -> plots.Figure:
  """Raw and calibrated map of each model, and under them its trees."""
  definition = tables.definition_of(table)
  views, cells = tables.views(table, _view), table.to_pylist()
  for measure, view in views.items():
    rows = [row for row in cells if row['measure'] == measure]
    more = _kin_notes(rows, measure, definition)
    views[measure] = dataclasses.replace(view, notes=(*view.notes, *more))
  return plots.Figure(_COLUMNS, views)


def kinship(a: str, b: str) -> str:
  """One of `KINSHIP`: the closest relation that the language table knows."""
  if a == b:
    return 'itself'
  if not (a in LANGUAGES and b in LANGUAGES):
    return 'unknown'
  one, other = LANGUAGES[a], LANGUAGES[b]
  if one.family != other.family:
    return 'none'
  same = one.subgroup and one.subgroup == other.subgroup
  return 'branch' if same else 'family'


def _last(definition: Mapping[str, Any], model: str) -> set[tuple[str, str]]:
  """The pairs of taps of a model that its maps hold."""
  taps = definition['models'][model]['taps']
  last = [taps[one][-1][0] for one in matching.MODALITIES if taps[one]]
  across = [
    (text, speech)
    for speech, text in matching.counterparts(definition, model)[-1:]
  ]
  return {(tap, tap) for tap in last} | set(across)


def _view(
  rows: Sequence[tables.Row], measure: str, definition: Mapping[str, Any]
) -> tuple[list[plots.Panel], list[plots.Key]]:
  scales = _scales(rows)
  quantities = tables.quantities(rows, _QUANTITIES)
  judged = list(quantities)[-1]
  maps, faced = [], []
  for model, own in tables.by_model(rows, definition):
    present = {row[f'lang_{side}'] for row in own for side in 'ab'}
    languages = [one for one in definition['languages'] if one in present]
    squares = {
      modality: _square(own, modality, judged, languages)
      for modality in matching.MODALITIES
    }
    order = _tree(_mean(squares.values()), languages, measure).order
    order += tuple(one for one in languages if one not in order)
    found = []
    for statistic, quantity in quantities.items():
      title = f'{quantity}, {_HALVES}'
      title = tables.panel_title(model, title, definition)
      found.append(
        _map(own, order, statistic, title, *scales[statistic], definition)
      )
    maps.append(found)
    trees_of = {
      tables.panel_title(model, f'{one}, {_FACING}', definition): _tree(
        square, languages, measure
      )
      for one, square in squares.items()
    }
    faced.append(
      _faced(trees_of, tables.axis_title(measure, judged), definition)
    )
  gaps = any(None in line for some in maps for one in some for line in one.z)
  return _in_lines(maps, faced), [_OPEN] if gaps else []


def _scales(
  rows: Sequence[tables.Row],
) -> dict[str, tuple[plots.Scale, tuple[float, float]]]:
  """Of each statistic, over the cells that are drawn."""
  drawn = [row for row in rows if _drawn(row)]
  calibrated = plots.limits((row['calibrated'] for row in drawn), 0.0)
  reach = max(abs(end) for end in calibrated)
  return {
    'value': ('sequential', plots.limits(row['value'] for row in drawn)),
    'calibrated': ('diverging', (-reach, reach)),
  }


def _drawn(row: tables.Row) -> bool:
  """Maps hold what shares the modality, or the language."""
  same_language = row['lang_a'] == row['lang_b']
  return same_language or row['modality_a'] == row['modality_b']


def _faced(
  found: Mapping[str, _Tree], xlabel: str, definition: Mapping[str, Any]
) -> list[plots.Trees]:
  """The trees that there are, by their titles, each facing the families."""
  return [
    trees.facing(
      title, xlabel, tree.merges, [_leaf(x, definition) for x in tree.order]
    )
    for title, tree in found.items()
    if tree.merges
  ]


def _in_lines(
  maps: Sequence[Sequence[plots.Panel]], faced: Sequence[Sequence[plots.Panel]]
) -> list[plots.Panel]:
  """Each model's maps over its trees, if both fill their lines.

  Else all maps first, so that no map stands beside a tree but once.
  """
  groups = itertools.chain.from_iterable(zip(maps, faced, strict=True))
  if any(len(some) % _COLUMNS for some in (*maps, *faced)):
    groups = itertools.chain(maps, faced)
  return list(itertools.chain.from_iterable(groups))


def _map(
  rows: Sequence[tables.Row],
  order: Sequence[str],
  statistic: str,
  title: str,
  scale: plots.Scale,
  limits: tuple[float, float],
  definition: Mapping[str, Any],
) -> plots.Heatmap:
  """From the top in order: text left below, speech right above, both on it."""
  place = {language: i for i, language in enumerate(order)}
  cells: dict[tuple[int, int], tables.Row] = {}
  for row in filter(_drawn, rows):
    low, high = sorted((place[row['lang_a']], place[row['lang_b']]))
    text = row['modality_a'] == row['modality_b'] == 'text'
    cells[(high, low) if text else (low, high)] = row
  across = range(len(order))
  grid = [[cells.get((i, j)) for j in across] for i in reversed(across)]
  names = definition['language_names']
  return plots.Heatmap(
    title,
    'the same languages in the same order',
    '',
    (),
    tuple((len(order) - 1 - i, names[one]) for one, i in place.items()),
    tuple(tuple(row and row[statistic] for row in line) for line in grid),
    tuple(tuple(_hover(row, statistic) for row in line) for line in grid),
    scale,
    limits,
  )


def _hover(row: tables.Row | None, statistic: str) -> str:
  """Short, since a page holds tens of thousands of them."""
  if row is None:
    return ''
  if row['modality_a'] == row['modality_b']:
    head = f'{row["lang_a"]}–{row["lang_b"]} {row["modality_a"]}'
  else:
    head = f'{row["lang_a"]} text–speech'
  if row['value'] is None:
    return f'{head}: undefined'
  head += f' {tables.number(row[statistic])}'
  if statistic == 'calibrated':
    q = row['q']
    return head + ('' if q is None else f', q {tables.probability(q)}')
  kept = '' if row['k_min'] is None else f', k {row["k_min"]}'
  floor = f'floor {tables.number(row["floor"])}'
  return f'{head}{tables.interval(row)}<br>{floor}, n {row["n_min"]}{kept}'


def _leaf(language: str, definition: Mapping[str, Any]) -> trees.Leaf:
  known = LANGUAGES.get(language)
  return trees.Leaf(
    definition['language_names'][language],
    known.family if known else '',
    known.subgroup if known else '',
  )


def _square(
  rows: Sequence[tables.Row],
  modality: str,
  statistic: str,
  languages: Sequence[str],
) -> Float[np.ndarray, 'l l']:
  """Languages by languages of one modality; NaN where undefined."""
  place = {language: i for i, language in enumerate(languages)}
  found = np.full((len(languages),) * 2, np.nan)
  for row in rows:
    same = row['modality_a'] == row['modality_b'] == modality
    if same and row[statistic] is not None:
      a, b = place[row['lang_a']], place[row['lang_b']]
      found[a, b] = found[b, a] = row[statistic]
  return found


def _mean(
  squares: Iterable[Float[np.ndarray, 'l l']],
) -> Float[np.ndarray, 'l l']:
  """Over those that are defined."""
  stack = np.stack(list(squares))
  count = np.sum(~np.isnan(stack), axis=0)
  total = np.nansum(stack, axis=0)
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _complete(values: Float[np.ndarray, 'l l']) -> list[int]:
  """Languages without an undefined pair, after leaving out the worst."""
  kept = list(range(len(values)))
  while kept:
    lacking = np.isnan(values[np.ix_(kept, kept)]).sum(axis=1)
    if lacking.max() <= 1:  # a language with itself
      break
    kept.pop(int(lacking.argmax()))
  return kept if len(kept) > 2 else []


def _tree(
  values: Float[np.ndarray, 'l l'], languages: Sequence[str], measure: str
) -> _Tree:
  """Average linkage, so that a merge has the mean of the pairs across it."""
  kept = _complete(values)
  if not kept:
    return _Tree((), ())
  sign = -1 if measure in _DISTANCES else 1
  near = sign * values[np.ix_(kept, kept)]
  top = np.nanmax(near) + 1  # 1: so that no merge is as low as a leaf
  away = distance.squareform(top - near, checks=False)
  linkage = hierarchy.linkage(away, 'average', optimal_ordering=True)
  drawn = hierarchy.dendrogram(linkage, no_plot=True)

  def level(height: float) -> float | None:
    return float(sign * (top - height)) if height else None

  merges = [
    trees.Merge(
      level(heights[1]),
      (level(heights[0]), level(heights[3])),
      ((ends[0] - 5) / 10, (ends[3] - 5) / 10),
    )
    for heights, ends in sorted(
      zip(drawn['dcoord'], drawn['icoord'], strict=True),
      key=lambda merge: merge[0][1],
    )
  ]
  order = tuple(languages[kept[leaf]] for leaf in drawn['leaves'])
  return _Tree(order, tuple(merges))


def _kin_notes(
  rows: Sequence[tables.Row], measure: str, definition: Mapping[str, Any]
) -> list[str]:
  """Means by kinship, of each model and modality."""
  statistic = list(tables.quantities(rows, _QUANTITIES))[-1]
  found = [_ORDER]
  for model, own in tables.by_model(rows, definition):
    for modality in matching.MODALITIES:
      means = []
      for kin, label in _RELATIONS.items():
        some = [
          row[statistic]
          for row in own
          if row['kinship'] == kin
          and row['modality_a'] == row['modality_b'] == modality
          and row[statistic] is not None
        ]
        if some:
          mean = tables.number(statistics.fmean(some))
          means.append(f'{mean} {label} (pairs: {len(some)})')
      if means:
        axis = tables.axis_title(measure, statistic)
        title = tables.panel_title(model, modality, definition)
        found.append(f'{title}, mean {axis} {", ".join(means)}.')
  return found
