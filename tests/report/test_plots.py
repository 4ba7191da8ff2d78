"""Figure specifications and their two renderers."""

import dataclasses
import io
import itertools
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from jaxrep.report import interactive, plots, printed

KEY = plots.Key('high-resource mean', 'mean', '#004488')
FLOOR = plots.Key('text floor', 'floor', plots.GREY)
LINES = plots.Lines(
  'Raw',
  'speech layer',
  'SVCCA',
  ((1.0, 'embed'), (2.0, '1'), (3.0, 'output')),
  (-0.1, 1.0),
  (
    plots.Line((1.0, 2.0, 3.0), (0.25, None, 0.75), ('a', 'b', 'c'), KEY),
    plots.Line((1.0, 2.0, 3.0), (0.1, 0.1, 0.1), ('', '', ''), FLOOR),
  ),
  ((1.0, 0.0, 0.2), (2.0, None, None), (3.0, 0.1, 0.3)),
)
MAP = plots.Heatmap(
  'Calibrated',
  'speech layer',
  'text layer',
  ((0, 'embed'), (1, '1')),
  ((0, 'embed'),),
  ((0.1, None, -0.2), (0.0, 0.5, 0.5)),
  (('a', 'b', 'c'), ('d', 'e', 'f')),
  'diverging',
  (-0.5, 0.5),
)
DOTS = plots.Dots(
  'Raw',
  'SVCCA',
  (
    plots.Dot(
      'mean', '#004488', 'circle', True, 0.2, 0.4, (0.1, 0.3), ('', '')
    ),
    plots.Dot(
      'Hindi', '#1B9E9E', 'square', False, 0.2, None, (0.1, None), ('', '')
    ),
  ),
  (0.0, 1.0),
)
TREES = plots.Trees(
  'By likeness',
  'SVCCA',
  ((0.0, '0.2'), (0.2, '0.4')),
  3.0,
  (
    plots.Branch(
      (0.2, 0.0, 0.0, 0.2), (0.0, 0.0, 2.0, 2.0), (0.0, 1.0), 'SVCCA 0.200'
    ),
    plots.Branch((0.6, 0.7), (1.0, 1.0)),
  ),
  (plots.Branch((0.5, 0.6), (0.0, 1.0)),),
  (plots.Label(0.3, 0.0, 'Hindi'), plots.Label(0.7, 1.0, 'Family', bold=True)),
)
HOLLOW = plots.Key('of two scripts', 'hollow', '#AA4499')
POINTS = plots.Points(
  'Last layer',
  'token overlap',
  'SVCCA',
  (0.0, 0.5),
  (-0.1, 1.0),
  (
    plots.Point(0.1, 0.25, 'a', plots.Key('of one', 'filled', '#004488')),
    plots.Point(0.3, None, 'b', HOLLOW),
    plots.Point(0.4, 0.75, 'c', HOLLOW),
  ),
)
LEGEND = tuple(
  plots.Key(role, role, plots.INK)
  for role in (*plots.STROKES, 'band', 'hollow', 'filled', 'tick', 'bar')
)


@pytest.mark.parametrize('panel', [LINES, MAP, DOTS, TREES, POINTS])
def test_plotly_accepts_every_panel(panel):
  go.Figure(interactive.panel_json(panel))  # raises on an unknown property


def test_undefined_values_stay_null_in_the_page():
  data = interactive.panel_json(LINES)['data']
  assert data[-2]['y'] == [0.25, None, 0.75]
  assert interactive.panel_json(MAP)['data'][0]['z'][0] == [0.1, None, -0.2]
  dots = interactive.panel_json(DOTS)['data']
  assert dots[-1]['x'] == [0.4, None]
  assert dots[2]['x'] == [0.1, 0.3, 0.1]  # the floors that there are


def test_points_are_drawn_as_their_keys():
  (trace,) = interactive.panel_json(POINTS)['data']
  assert (trace['x'], trace['y']) == ([0.1, 0.3, 0.4], [0.25, None, 0.75])
  assert trace['text'] == ['a', 'b', 'c']
  assert trace['marker']['color'] == ['#004488', '#ffffff', '#ffffff']
  assert trace['marker']['line']['color'] == ['#004488', '#AA4499', '#AA4499']
  view = plots.View('SVCCA', (POINTS,), (), ())
  file = printed.render('t', 1, view)['png']
  image = np.asarray(Image.open(io.BytesIO(file)).convert('RGB')).astype(int)
  counts = [
    (np.abs(image - [int(c[i : i + 2], 16) for i in (1, 3, 5)]).max(-1) <= 2)
    for c in ('#004488', '#AA4499')
  ]
  full, hollow = (int(count.sum()) for count in counts)
  assert 0 < hollow < full  # one of each: the undefined one is not there


def test_intervals_are_drawn_apart_where_they_are():
  both = ((0.1, 0.3), (0.35, 0.5))
  rows = (
    DOTS.rows[0],
    dataclasses.replace(DOTS.rows[1], intervals=((None, None), (0.2, 0.4))),
    dataclasses.replace(DOTS.rows[0], intervals=both),
  )
  panel = dataclasses.replace(DOTS, rows=rows)
  found = plots.whiskers(panel)
  assert [(row, *ends) for row, _, *ends in found] == [
    *((1, 0.2, 0.4), (2, 0.1, 0.3), (2, 0.35, 0.5))
  ]
  heights = [height for _, height, *_ in found]
  assert 1 < heights[0] < 1.5
  assert 1.5 < heights[1] < 2 < heights[2] < 2.5
  drawn = [
    trace
    for trace in interactive.panel_json(panel)['data']
    if trace['y'][0] == heights[1]
  ]
  assert [trace['x'] for trace in drawn] == [[0.1, 0.3]]
  view = plots.View('CKA', (panel,), LEGEND, ())
  bare = plots.View('CKA', (DOTS,), LEGEND, ())
  files = [printed.render('t', 1, one)['png'] for one in (view, bare)]
  assert files[0] != files[1]


def test_a_band_breaks_at_its_gap():
  assert plots.unbroken(LINES.band) == [[(1.0, 0.0, 0.2)], [(3.0, 0.1, 0.3)]]
  bands = [
    trace
    for trace in interactive.panel_json(LINES)['data']
    if trace.get('fill') == 'toself'
  ]
  assert [band['y'] for band in bands] == [[0.0, 0.2], [0.1, 0.3]]


def test_a_floor_of_one_layer_is_seen():
  """A model of one stage has one point, and a bare line of it shows nothing."""
  line = plots.Line((1.0,), (0.4,), ('x',), plots.FLOOR)
  panel = dataclasses.replace(LINES, lines=(line,), band=())
  (trace,) = interactive.panel_json(panel)['data']
  assert trace['x'][1] - trace['x'][0] == 0.5
  assert trace['y'] == [0.4, 0.4]
  marked = dataclasses.replace(line, key=plots.Key('a', 'mean', plots.INK))
  assert plots.seen(marked) is marked
  gap = dataclasses.replace(line, y=(None,))
  assert dark(panel) > dark(dataclasses.replace(panel, lines=(gap,))) + 50


def dark(panel):
  """How many pixels of the printed panel are as dark as a floor."""
  view = plots.View('', (panel,), (), ())
  png = printed.render('', 1, view)['png']
  grey = np.asarray(Image.open(io.BytesIO(png)).convert('L'))
  return int((grey < 140).sum())


def test_print_gives_a_png_and_a_pdf_with_editable_text():
  view = plots.View('SVCCA', (LINES, MAP, DOTS), LEGEND, ())
  files = printed.render('A title', 2, view)
  image = np.asarray(Image.open(io.BytesIO(files['png'])).convert('RGB'))
  assert image.shape[1] == 1440  # 7.2 inches at 200 dpi
  for colour in ('#004488', '#b35806', plots.GAP):
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    near = np.abs(image.astype(int) - rgb).max(axis=-1) <= 2
    assert near.sum() > 100, colour
  assert files['pdf'].startswith(b'%PDF')
  assert b'/TrueType' in files['pdf'] or b'/CIDFontType2' in files['pdf']


def test_trees_break_between_their_branches_and_name_their_forks():
  ties, branches, forks, names = interactive.panel_json(TREES)['data']
  assert branches['x'] == [0.2, 0.0, 0.0, 0.2, None, 0.6, 0.7, None]
  assert ties['y'] == [0.0, 1.0, None]
  assert (forks['x'], forks['y']) == ([0.0], [1.0])
  assert forks['text'] == ['SVCCA 0.200']
  assert names['text'] == ['Hindi', '<b>Family</b>']


def test_printed_trees_take_the_width_of_their_column():
  tall = tuple((i, f'A language of long name {i}') for i in range(2))
  labelled = dataclasses.replace(MAP, yticks=tall)
  view = plots.View('SVCCA', (labelled, TREES), (), ())
  png = printed.render('t', 1, view)['png']
  image = np.asarray(Image.open(io.BytesIO(png)).convert('L'))
  half = image[len(image) // 2 :]
  dark = np.flatnonzero((half < 100).sum(axis=0) > 60)  # the root's line
  assert dark.min() < 0.03 * image.shape[1]


def test_a_map_with_many_names_is_taller():
  names = tuple((i, f'language {i}') for i in range(40))
  panels = [MAP, dataclasses.replace(MAP, yticks=names)]
  heights = [interactive.panel_json(p)['layout']['height'] for p in panels]
  assert heights[0] == 380
  assert heights[1] > 40 * 15
  low, high = (
    Image.open(
      io.BytesIO(printed.render('t', 1, plots.View('', (p,), (), ()))['png'])
    ).size[1]
    for p in panels
  )
  # Inches, of whole pixels at 200 an inch.
  assert (high - low) / 200 == pytest.approx(0.9 + 40 * 0.145 - 3, abs=0.01)


def test_a_view_of_every_measure_has_a_plain_name():
  assert plots.stem('gap', plots.EVERY_MEASURE) == 'gap'
  assert plots.stem('gap', 'cka') == 'gap-cka'


def test_the_same_figure_is_the_same_file():
  view = plots.View('SVCCA', (MAP,), (), ())
  assert printed.render('t', 1, view) == printed.render('t', 1, view)


def test_class_colours_keep_apart_in_grey_print():
  def luminance(colour):
    levels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(
      levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4
    )
    return float(linear @ [0.2126, 0.7152, 0.0722])

  classes = [plots.CLASS_STYLE[name][0] for name in ('high', 'medium', 'low')]
  for colour in classes:
    assert 1.05 / (luminance(colour) + 0.05) >= 3  # contrast with the page
  symbols = [symbol for _, symbol in plots.CLASS_STYLE.values()]
  assert len(set(symbols)) == len(symbols)


@pytest.mark.parametrize(
  ('tap', 'expected'),
  [
    ('text/layer_05', '5'),
    ('speech/layer_24', '24'),
    ('speech/whisper_layer_05', 'whisper 5'),
    ('speech/qformer_01', 'qformer-01'),
    ('speech/pre_adaptor', 'pre-adaptor'),
    ('text/embed', 'embed'),
    ('text/layer_05/attention', 'layer-05/attention'),
  ],
)
def test_stage(tap, expected):
  assert plots.stage(tap) == expected


STAGES = ['embed', *map(str, range(1, 25)), 'norm', 'adaptor', 'output']


def test_ticks_name_every_named_stage_and_few_layers():
  labels = [label for _, label in plots.ticks(STAGES)]
  assert labels == [
    *('embed', '4', '8', '12', '16', '20', '24'),
    *('norm', 'adaptor', 'output'),
  ]
  assert [STAGES[index] for index, _ in plots.ticks(STAGES)] == labels


def test_ticks_keep_their_distance():
  indices = [index for index, _ in plots.ticks(STAGES, apart=3)]
  assert indices[0] == 0
  assert indices[-1] == len(STAGES) - 1
  assert all(b - a >= 3 for a, b in itertools.pairwise(indices))


def test_named_stages_of_a_long_axis_have_room():
  places = plots.places(STAGES)
  steps = [b - a for a, b in itertools.pairwise(places)]
  assert steps == [2.0, *[1.0] * 23, 2.0, 2.0, 2.0]
  assert plots.places(['embed', '1', 'norm']) == (1.0, 2.0, 3.0)


def test_of_a_network_inside_the_branch_only_the_first_layer_is_named():
  inner = [f'whisper {i}' for i in range(1, 33)]
  stages = ['embed', *inner, 'fused', '1', '2']
  assert [label for _, label in plots.ticks(stages)] == [
    *('embed', 'whisper 1', 'fused', '1', '2')
  ]
  places = plots.places(stages)
  assert places[2] - places[1] == 2.0 and places[-3] - places[-4] == 2.0
  assert places[32] - places[2] == 30.0


def test_limits_hold_the_values_with_a_margin():
  low, high = plots.limits([0.2, None, 0.6], 0.0)
  assert low == pytest.approx(-0.03)
  assert high == pytest.approx(0.63)
  assert plots.limits([0.5, 0.5])[0] < 0.5 < plots.limits([0.5, 0.5])[1]
  assert plots.limits([None]) == (-0.05, 1.05)


def test_legend_lists_each_label_once():
  other = plots.Key('high-resource mean', 'mean', '#004488')
  line = plots.Line((), (), (), other)
  assert [key.label for key in plots.legend([*LINES.lines, line])] == [
    'high-resource mean',
    'text floor',
  ]


def test_hexadecimal_colours_only():
  scales = itertools.chain.from_iterable(plots.SCALES.values())
  assert all(re.fullmatch('#[0-9a-fA-F]{6}', colour) for colour in scales)
