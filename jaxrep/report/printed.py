"""Figures in print: PDF and PNG by matplotlib."""

import io
import math
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

from matplotlib import axes, colors, figure, lines, patches, rc_context, ticker

from jaxrep.report import plots
from jaxrep.report.plots import (
  Dots,
  Heatmap,
  Key,
  Lines,
  Panel,
  Points,
  Ticks,
  Trees,
  Value,
  View,
)

_MARKERS = {'circle': 'o', 'square': 's', 'diamond': 'D', 'cross': 'P'}
_POINTS = {
  'hollow': {'marker': 'o', 'mfc': 'white', 'ms': 5},
  'filled': {'marker': 'o', 'ms': 5},
  'tick': {'marker': '|', 'ms': 8},
}
_DASHES = {'solid': '-', 'dash': '--', 'dot': ':', 'dashdot': '-.'}
_PRINT = {
  'font.family': 'sans-serif',
  'font.size': 8.5,
  'axes.titlesize': 9,
  'axes.labelsize': 8.5,
  'axes.edgecolor': plots.GREY,
  'axes.linewidth': 0.6,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'xtick.color': plots.INK,
  'xtick.major.width': 0.6,
  'ytick.major.width': 0.6,
  'pdf.fonttype': 42,  # text stays text, for whoever edits the figure
  'savefig.dpi': 200,
}


def render(title: str, columns: int, view: View) -> dict[str, bytes]:
  """One view in print: {'png': …, 'pdf': …}, by matplotlib."""
  rows = math.ceil(len(view.panels) / columns)
  heights = [
    max(_height(panel) for panel in view.panels[at : at + columns])
    for at in range(0, len(view.panels), columns)
  ]
  with rc_context(_PRINT):
    wide = 3.6 if columns <= 3 else 2.7
    page = figure.Figure(
      figsize=(wide * columns, sum(heights) + 1.1), layout='constrained'
    )
    page.suptitle(title, fontsize=11, fontweight='bold', x=0.01, ha='left')
    grid = page.subplots(rows, columns, squeeze=False, height_ratios=heights)
    for axis in grid.flat[len(view.panels) :]:
      axis.set_axis_off()
    for index, (axis, panel) in enumerate(
      zip(grid.flat, view.panels, strict=False)
    ):
      _DRAW[type(panel)](axis, panel)
      wrapped = isinstance(panel, (Lines, Points))
      width = int(12 * wide) if wrapped else 30
      axis.set_title(textwrap.fill(panel.title, width), loc='left')
      if index % columns and _same_scale(*view.panels[index - 1 : index + 1]):
        axis.tick_params(labelleft=False)
        axis.set_ylabel('')
    page.legend(
      handles=[_handle(key) for key in view.legend],
      loc='outside lower left',
      ncols=3 if columns == 2 else 4,
      frameon=False,
      title=textwrap.fill(view.subtitle, int(14 * wide) * columns),
      alignment='left',
    )
    page.draw_without_rendering()
    page.set_layout_engine(None)  # laid out, once for both files
    for index, panel in enumerate(view.panels):
      if isinstance(panel, Trees):
        _widen(grid.flat[index], index % columns / columns, 1 / columns)
    return {kind: _save(page, kind) for kind in ('png', 'pdf')}


def _save(page: figure.Figure, kind: str) -> bytes:
  buffer = io.BytesIO()
  undated = {'CreationDate': None} if kind == 'pdf' else None
  page.savefig(buffer, format=kind, metadata=undated)
  return buffer.getvalue()


def _widen(axis: axes.Axes, left: float, width: float) -> None:
  """Lets a panel without labels at its sides take all the width of its column.

  Which it would else share with the labels of the panels above it.
  """
  box = axis.get_position()
  axis.set_position((left + 0.01, box.y0, width - 0.02, box.height))


def _same_scale(left: Panel, right: Panel) -> bool:
  """Whether the labels of the left one's y axis are the right one's."""
  if isinstance(left, Heatmap) and isinstance(right, Heatmap):
    return (left.ylabel, left.yticks) == (right.ylabel, right.yticks)
  if not (isinstance(left, Lines) and isinstance(right, Lines)):
    return False
  return (left.ylabel, left.limits) == (right.ylabel, right.limits)


def _height(panel: Panel) -> float:
  if isinstance(panel, Dots):
    return 0.9 + 0.19 * len(panel.rows)
  if isinstance(panel, Trees):
    return 0.9 + 0.145 * panel.rows
  if isinstance(panel, Heatmap):
    return max(3.0, 0.9 + 0.145 * len(panel.yticks))
  return 2.6


def _handle(key: Key) -> lines.Line2D | patches.Patch:
  if key.role == 'band':
    return patches.Patch(color=key.colour, label=key.label)
  if key.role == 'bar':
    return lines.Line2D([], [], color=key.colour, lw=1, label=key.label)
  if key.role in _POINTS:
    style = {'ls': '', 'color': key.colour, 'label': key.label}
    return lines.Line2D([], [], **style | _POINTS[key.role])
  stroke = plots.STROKES[key.role]
  return lines.Line2D(
    *([], []),
    ls=_DASHES[stroke.dash],
    lw=stroke.width * 0.7,
    color=key.colour,
    alpha=stroke.opacity,
    marker=_MARKERS[key.symbol] if stroke.marker else '',
    ms=stroke.marker * 0.7,
    label=key.label,
  )


def _numbers(values: Iterable[Value]) -> list[float]:
  return [math.nan if value is None else value for value in values]


def _lines(axis: axes.Axes, panel: Lines) -> None:
  for stretch in plots.unbroken(panel.band):
    axis.fill_between(*zip(*stretch, strict=True), color=plots.BAND, lw=0)
  for line in map(plots.seen, panel.lines):
    artist = _handle(line.key)
    artist.set_data(line.x, _numbers(line.y))
    axis.add_line(artist)
  if panel.limits[0] < 0 < panel.limits[1]:
    axis.axhline(0, color=plots.GREY, lw=0.8, ls='--', zorder=1)
  positions = [x for line in panel.lines for x in line.x]
  positions = positions or [place for place, _ in panel.ticks]
  axis.set(xlabel=panel.xlabel, ylabel=panel.ylabel, ylim=panel.limits)
  axis.set_xlim(min(positions) - 0.5, max(positions) + 0.5)
  _ticks(axis.set_xticks, panel.ticks, rotate=True)
  axis.grid(color='#ececf0', lw=0.6)
  axis.set_axisbelow(True)


def _map(axis: axes.Axes, panel: Heatmap) -> None:
  scale = colors.LinearSegmentedColormap.from_list(
    '', plots.SCALES[panel.scale]
  ).with_extremes(bad=plots.GAP)
  image = axis.imshow(
    [_numbers(row) for row in panel.z],
    cmap=scale,
    vmin=panel.limits[0],
    vmax=panel.limits[1],
    origin='lower',
    aspect='auto',
    interpolation='nearest',
  )
  bar = axis.figure.colorbar(image, ax=axis, aspect=30, pad=0.02)
  bar.outline.set_visible(False)
  axis.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
  _ticks(axis.set_xticks, panel.xticks, rotate=True)
  _ticks(axis.set_yticks, panel.yticks, rotate=False)


def _dots(axis: axes.Axes, panel: Dots) -> None:
  for position, height, *ends in plots.whiskers(panel):
    colour = panel.rows[position].colour
    axis.plot(ends, [height] * 2, '-', color=colour, lw=0.8, alpha=0.6)
  for position, row in enumerate(panel.rows):
    width, size = (2, 6) if row.emphasis else (1, 4)
    ends = _numbers((row.before, row.after))
    line = {'color': row.colour, 'marker': _MARKERS[row.symbol], 'ms': size}
    axis.plot(_numbers(row.floors), [position] * 2, '|', color=plots.GREY, ms=7)
    axis.plot(ends, [position] * 2, '-', color=row.colour, lw=width)
    axis.plot(ends[:1], [position], ls='', mfc='white', **line)
    axis.plot(ends[1:], [position], ls='', **line)
  if panel.limits[0] < 0 < panel.limits[1]:
    axis.axvline(0, color=plots.GREY, lw=0.8, ls='--', zorder=1)
  axis.set_yticks(range(len(panel.rows)), [row.label for row in panel.rows])
  for label, row in zip(axis.get_yticklabels(), panel.rows, strict=True):
    label.set_fontweight('bold' if row.emphasis else 'normal')
  axis.set(xlabel=panel.xlabel, xlim=panel.limits)
  axis.set_ylim(len(panel.rows) - 0.4, -0.6)
  axis.xaxis.set_major_locator(ticker.MaxNLocator(5))
  axis.grid(axis='x', color='#ececf0', lw=0.6)
  axis.set_axisbelow(True)


def _trees(axis: axes.Axes, panel: Trees) -> None:
  for branches, colour in (
    (panel.ties, plots.GAP),
    (panel.branches, plots.INK),
  ):
    for branch in branches:
      axis.plot(branch.x, branch.y, '-', color=colour, lw=0.9)
  for label in panel.labels:
    weight = 'bold' if label.bold else 'normal'
    axis.text(
      label.x, label.y, label.text, va='center', fontsize=8, fontweight=weight
    )
  axis.set(xlim=(0, 1), ylim=(panel.rows - 0.5, -0.5), yticks=[])
  axis.set_xlabel(panel.xlabel, loc='left')
  _ticks(axis.set_xticks, panel.ticks, rotate=False)
  axis.spines[['left', 'bottom']].set_visible(False)


def _points(axis: axes.Axes, panel: Points) -> None:
  for point in panel.points:
    artist = _handle(point.key)
    artist.set_data([point.x], _numbers([point.y]))
    axis.add_line(artist)
  if panel.ylimits[0] < 0 < panel.ylimits[1]:
    axis.axhline(0, color=plots.GREY, lw=0.8, ls='--', zorder=1)
  axis.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
  axis.set(xlim=panel.xlimits, ylim=panel.ylimits)
  axis.xaxis.set_major_locator(ticker.MaxNLocator(5))
  axis.grid(color='#ececf0', lw=0.6)
  axis.set_axisbelow(True)


def _ticks(
  setter: Callable[..., Any],
  pairs: Ticks,
  rotate: bool,
) -> None:
  turn = {'rotation': 90} if rotate and len(pairs) > 6 else {}
  setter([p for p, _ in pairs], [label for _, label in pairs], **turn)


_DRAW: dict[type, Callable[[axes.Axes, Any], None]] = {
  Lines: _lines,
  Heatmap: _map,
  Dots: _dots,
  Trees: _trees,
  Points: _points,
}
