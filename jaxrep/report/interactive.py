"""Figures for the page: panels as plotly's JSON."""

from collections.abc import Iterable
from typing import Any

from jaxrep.report import plots
from jaxrep.report.plots import (
  Branch,
  Dots,
  Heatmap,
  Lines,
  Panel,
  Points,
  Ticks,
  Trees,
  Value,
)

Trace = dict[str, Any]


def panel_json(panel: Panel) -> dict[str, Any]:
  """A panel as plotly's JSON: {'data': […], 'layout': {…}}.

  The title is left to the page, where it wraps; so is the legend, which
  would cover narrow plots.
  """
  draw = {
    Lines: _lines,
    Heatmap: _map,
    Dots: _dots,
    Trees: _trees,
    Points: _points,
  }
  data, layout = draw[type(panel)](panel)
  shared = {
    'font': {'family': 'system-ui, sans-serif', 'size': 12, 'color': plots.INK},
    'margin': {'l': 8, 'r': 8, 't': 8, 'b': 8},
    'paper_bgcolor': '#ffffff',
    'plot_bgcolor': '#ffffff',
    'showlegend': False,
    'hovermode': 'closest',
    'hoverlabel': {'align': 'left', 'bgcolor': '#ffffff'},
  }
  return {'data': data, 'layout': shared | layout}


def _axis(title: str, **more: Any) -> dict[str, Any]:
  return {
    'title': {'text': title, 'standoff': 8},
    'automargin': True,
    'zeroline': False,
    'zerolinecolor': plots.GREY,
    'gridcolor': '#ececf0',
    'linecolor': plots.GREY,
    'fixedrange': True,  # else a finger that scrolls the page zooms the plot
  } | more


def _ticks(pairs: Ticks) -> dict[str, Any]:
  return {
    'tickmode': 'array',
    'tickvals': [position for position, _ in pairs],
    'ticktext': [label for _, label in pairs],
    'autotickangles': [0, 90],  # a slanted last label would be cut off
  }


def _lines(panel: Lines) -> tuple[list[Trace], Trace]:
  data = []
  for stretch in plots.unbroken(panel.band):
    x, low, high = zip(*stretch, strict=True)
    outline = {'x': [*x, *reversed(x)], 'y': [*low, *reversed(high)]}
    data.append(
      outline
      | {'type': 'scatter', 'mode': 'lines', 'fill': 'toself'}
      | {'fillcolor': plots.BAND, 'line': {'width': 0}, 'hoverinfo': 'skip'}
    )
  for line in map(plots.seen, panel.lines):
    stroke = plots.STROKES[line.key.role]
    data.append(
      {
        'type': 'scatter',
        'mode': 'lines+markers' if stroke.marker else 'lines',
        'x': line.x,
        'y': [_short(value) for value in line.y],
        'text': line.hover,
        'hovertemplate': '%{text}<extra></extra>',
        'opacity': stroke.opacity,
        'line': {
          'color': line.key.colour,
          'width': stroke.width,
          'dash': stroke.dash,
        },
        'marker': {'symbol': line.key.symbol, 'size': stroke.marker},
      }
    )
  return data, {
    'height': 320,
    'xaxis': _axis(panel.xlabel, **_ticks(panel.ticks)),
    'yaxis': _axis(panel.ylabel, range=panel.limits, zeroline=True),
  }


def _map(panel: Heatmap) -> tuple[list[Trace], Trace]:
  scale = plots.SCALES[panel.scale]
  data = {
    'type': 'heatmap',
    'z': [[_short(value) for value in row] for row in panel.z],
    'text': panel.hover,
    'hovertemplate': '%{text}<extra></extra>',
    'hoverongaps': False,
    'colorscale': [[i / (len(scale) - 1), c] for i, c in enumerate(scale)],
    'zmin': panel.limits[0],
    'zmax': panel.limits[1],
    'colorbar': {'thickness': 10, 'outlinewidth': 0, 'nticks': 6},
  }
  return [data], {
    'height': max(380, 90 + 16 * len(panel.yticks)),
    'plot_bgcolor': plots.GAP,
    'xaxis': _axis(panel.xlabel, showgrid=False, **_ticks(panel.xticks)),
    'yaxis': _axis(panel.ylabel, showgrid=False, **_ticks(panel.yticks)),
  }


def _dots(panel: Dots) -> tuple[list[Trace], Trace]:
  rows = list(enumerate(panel.rows))
  data: list[Trace] = [
    {
      'type': 'scatter',
      'mode': 'lines',
      'x': [_short(row.before), _short(row.after)],
      'y': [position, position],
      'line': {'color': row.colour, 'width': 3 if row.emphasis else 1.5},
      'hoverinfo': 'skip',
    }
    for position, row in rows
  ]
  data += [
    {
      'type': 'scatter',
      'mode': 'lines',
      'x': [_short(low), _short(high)],
      'y': [height, height],
      'opacity': 0.6,
      'line': {'color': panel.rows[position].colour, 'width': 1},
      'hoverinfo': 'skip',
    }
    for position, height, low, high in plots.whiskers(panel)
  ]
  floors = [(p, f) for p, row in rows for f in row.floors if f is not None]
  data.append(
    {
      'type': 'scatter',
      'mode': 'markers',
      'x': [_short(floor) for _, floor in floors],
      'y': [position for position, _ in floors],
      'marker': {'symbol': 'line-ns-open', 'size': 11, 'color': plots.GREY},
      'hoverinfo': 'skip',
    }
  )
  for end, side in enumerate(('before', 'after')):
    data.append(
      {
        'type': 'scatter',
        'mode': 'markers',
        'x': [_short(getattr(row, side)) for _, row in rows],
        'y': [position for position, _ in rows],
        'text': [row.hover[end] for _, row in rows],
        'hovertemplate': '%{text}<extra></extra>',
        'marker': {
          'opacity': 1,  # plotly fades markers of several sizes
          'symbol': [row.symbol for _, row in rows],
          'size': [10 if row.emphasis else 7 for _, row in rows],
          'color': [row.colour if end else '#ffffff' for _, row in rows],
          'line': {'color': [row.colour for _, row in rows], 'width': 1.5},
        },
      }
    )
  labels = tuple(
    (position, f'<b>{row.label}</b>' if row.emphasis else row.label)
    for position, row in rows
  )
  return data, {
    'height': 70 + 22 * len(rows),
    'xaxis': _axis(panel.xlabel, range=panel.limits, zeroline=True),
    'yaxis': _axis('', range=[len(rows) - 0.4, -0.6], **_ticks(labels)),
  }


def _trees(panel: Trees) -> tuple[list[Trace], Trace]:
  marks = [(one.mark, one.hover) for one in panel.branches if one.mark]
  labels = [f'<b>{x.text}</b>' if x.bold else x.text for x in panel.labels]
  data = [
    _strokes(panel.ties, plots.GAP, 1.0),
    _strokes(panel.branches, plots.INK, 1.2),
    {
      'type': 'scatter',
      'mode': 'markers',
      'x': [_short(x) for (x, _), _ in marks],
      'y': [_short(y) for (_, y), _ in marks],
      'text': [hover for _, hover in marks],
      'hovertemplate': '%{text}<extra></extra>',
      'marker': {'size': 5, 'color': plots.INK},
    },
    {
      'type': 'scatter',
      'mode': 'text',
      'x': [label.x for label in panel.labels],
      'y': [_short(label.y) for label in panel.labels],
      'text': labels,
      'textposition': 'middle right',
      'cliponaxis': False,
      'hoverinfo': 'skip',
    },
  ]
  bare = {'showgrid': False, 'showline': False}
  shape = {'range': [panel.rows - 0.5, -0.5], 'showticklabels': False}
  below = {  # an axis' own title would stand amid both trees
    **{'text': panel.xlabel, 'showarrow': False, 'font': {'size': 14}},
    **{'x': 0, 'xanchor': 'left', 'yref': 'paper', 'y': 0, 'yanchor': 'top'},
    'yshift': -22,
  }
  return data, {
    'height': round(90 + 16 * panel.rows),
    'margin': {'l': 8, 'r': 8, 't': 8, 'b': 50},
    'annotations': [below],
    'xaxis': _axis('', range=[0, 1], **bare, **_ticks(panel.ticks)),
    'yaxis': _axis('', **bare, **shape),
  }


def _strokes(branches: Iterable[Branch], colour: str, width: float) -> Trace:
  """Lines as one trace, with a gap after each."""
  x, y = (
    [
      None if value is None else round(value, 3)
      for branch in branches
      for value in (*getattr(branch, name), None)
    ]
    for name in 'xy'
  )
  return {
    'type': 'scatter',
    'mode': 'lines',
    'x': x,
    'y': y,
    'line': {'color': colour, 'width': width},
    'hoverinfo': 'skip',
  }


def _points(panel: Points) -> tuple[list[Trace], Trace]:
  keys = [point.key for point in panel.points]
  data = {
    'type': 'scatter',
    'mode': 'markers',
    'x': [_short(point.x) for point in panel.points],
    'y': [_short(point.y) for point in panel.points],
    'text': [point.hover for point in panel.points],
    'hovertemplate': '%{text}<extra></extra>',
    'marker': {
      'size': 7,
      'color': ['#ffffff' if k.role == 'hollow' else k.colour for k in keys],
      'line': {'color': [key.colour for key in keys], 'width': 1.5},
    },
  }
  return [data], {
    'height': 320,
    'xaxis': _axis(panel.xlabel, range=panel.xlimits),
    'yaxis': _axis(panel.ylabel, range=panel.ylimits, zeroline=True),
  }


def _short(value: Value) -> Value:
  """Four decimals: what can be seen, at a third of the page's size."""
  return None if value is None else round(value, 4)
