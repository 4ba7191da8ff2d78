"""The study's findings as statistics, each positive where the finding holds.

Lee et al., "How do Multimodal Foundation Models Encode Text and Speech?", NAACL
2025. A function makes a statistic of a model's layout, or gives None where the
model, the languages or their classes do not have what it is about.
"""

import itertools

import numpy as np

from jaxrep.findings import cells
from jaxrep.findings.cells import Layout, Pair, Statistic, Weights, spoken

_GROUPS = ('high', 'medium'), ('low',)


def convergence(layout: Layout) -> Statistic | None:
  """The rise of text-speech similarity from the first layer to the last.

  By the least-squares line over the layers, which stand at equal distances
  from 0 to 1, so that it is the change over the whole depth.
  """
  count = len(layout.layers)
  if count < 3:
    return None
  depth = np.linspace(-0.5, 0.5, count)
  slopes = depth / np.sum(depth**2)
  return cells.mean(
    {
      language: {
        spoken(language, pair): float(slope)
        for pair, slope in zip(layout.layers, slopes, strict=True)
      }
      for language in layout.languages
    }
  )


def by_layer(layout: Layout) -> list[Statistic]:
  """Text-speech similarity at each inner layer, from which one is picked."""
  return [
    cells.mean({one: {spoken(one, pair): 1.0} for one in layout.languages})
    for pair in layout.layers[1:-1]
  ]


def dip(layout: Layout, lowest: int) -> Statistic | None:
  """How far below the first layer the lowest inner one is."""
  return _step(layout, layout.layers[1 + lowest], layout.layers[0])


def rise(layout: Layout, lowest: int) -> Statistic | None:
  """How far above the lowest inner layer the last one is."""
  return _step(layout, layout.layers[1 + lowest], layout.layers[-1])


def resource(layout: Layout) -> Statistic | None:
  """Text-speech similarity at the last layer: high class less low class."""
  if not layout.layers:
    return None
  last = layout.layers[-1]
  units = {one: {spoken(one, last): 1.0} for one in layout.languages}
  return _contrast(layout, units, (('high',), ('low',)))


def per_tenfold_hours(layout: Layout) -> Statistic | None:
  """The change of text-speech similarity at the last layer with hours.

  By the least-squares line over the logarithm of hours, for ten times as many.
  """
  if not layout.layers:
    return None
  last = layout.layers[-1]
  units = {one: {spoken(one, last): 1.0} for one in layout.languages}
  return _per_tenfold(layout, units)


def adaptation_per_tenfold_hours(layout: Layout) -> Statistic | None:
  """The change over the adaptor with hours, for ten times as many."""
  if layout.adaptor is None:
    return None
  units = {one: _change(one, *layout.adaptor) for one in layout.languages}
  return _per_tenfold(layout, units)


def adaptation(layout: Layout) -> Statistic | None:
  """The change of text-speech similarity over the length adaptor."""
  if layout.adaptor is None:
    return None
  return _step(layout, *layout.adaptor)


def adaptation_by_resource(layout: Layout) -> Statistic | None:
  """That change in the high and medium classes, less that in the low one."""
  if layout.adaptor is None:
    return None
  units = {one: _change(one, *layout.adaptor) for one in layout.languages}
  return _contrast(layout, units, _GROUPS)


def spread(layout: Layout) -> Statistic | None:
  """How much more alike languages are as text than as speech, over depth.

  The mean of the first, the middle and the last pair of layers.
  """
  if not layout.layers:
    return None
  chosen = dict.fromkeys((0, len(layout.layers) // 2, len(layout.layers) - 1))
  return _spread(layout, [layout.layers[i] for i in chosen])


def spread_at_last(layout: Layout) -> Statistic | None:
  """How much more alike languages are as text than as speech, at the end."""
  if not layout.layers:
    return None
  return _spread(layout, [layout.layers[-1]])


def gaps(layout: Layout) -> Statistic | None:
  """How much nearer a text is to its translations than to its own speech.

  At the last layer; of each language the mean over all others.
  """
  return _gaps(layout, 'text')


def speech_gaps(layout: Layout) -> Statistic | None:
  """How much nearer speech is to that of other languages than to its text."""
  return _gaps(layout, 'speech')


def _change(language: str, before: Pair, after: Pair) -> Weights:
  return {spoken(language, before): -1.0, spoken(language, after): 1.0}


def _step(layout: Layout, before: Pair, after: Pair) -> Statistic:
  return cells.mean(
    {one: _change(one, before, after) for one in layout.languages}
  )


def _contrast(
  layout: Layout,
  units: dict[str, Weights],
  groups: tuple[tuple[str, ...], tuple[str, ...]],
) -> Statistic | None:
  first, second = (layout.of_class(*names) for names in groups)
  if not first or not second:
    return None
  return cells.difference(units, first, second)


def _per_tenfold(layout: Layout, units: dict[str, Weights]) -> Statistic | None:
  """The slope over languages, as one unit of all of them."""
  names = [one for one in layout.languages if one in layout.hours]
  logs = np.log10([layout.hours[one] for one in names])
  if len(names) < 3 or not np.ptp(logs) > 0:
    return None
  slopes = (logs - logs.mean()) / np.sum((logs - logs.mean()) ** 2)
  weights = {
    cell: float(slope) * weight
    for name, slope in zip(names, slopes, strict=True)
    for cell, weight in units[name].items()
  }
  return Statistic((' '.join(names),), (weights,), (1,), of_pairs=True)


def _spread(layout: Layout, pairs: list[Pair]) -> Statistic | None:
  if len(layout.languages) < 2:
    return None
  units = {}
  for a, b in itertools.combinations(layout.languages, 2):
    weights = {}
    for text, speech in pairs:
      weights[cells.translated(a, b, 'text', text)] = 1 / len(pairs)
      weights[cells.translated(a, b, 'speech', speech)] = -1 / len(pairs)
    units[f'{a} {b}'] = weights
  return cells.mean(units, of_pairs=True)


def _gaps(layout: Layout, modality: str) -> Statistic | None:
  if not layout.layers or len(layout.languages) < 2:
    return None
  last = layout.layers[-1]
  tap = last[0] if modality == 'text' else last[1]
  units = {}
  for one in layout.languages:
    weights = {spoken(one, last): -1.0}
    for other in layout.languages:
      if other != one:
        a, b = sorted((one, other), key=layout.languages.index)
        cell = cells.translated(a, b, modality, tap)
        weights[cell] = 1 / (len(layout.languages) - 1)
    units[one] = weights
  return cells.mean(units)
