"""report.html: complete, self-contained, and honest about what it shows."""

import base64
import gzip
import html.parser
import json
import re

import plotly.graph_objects as go
import pytest

from jaxrep import analyses
from jaxrep.analyses import run as runs
from jaxrep.report import page, plots, printed
from tests.analyses import stored, synthetic


class Elements(html.parser.HTMLParser):
  """Start tags with their attributes, and the text outside of scripts."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.text, self._inside = [], [], ''
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    self._inside = tag

  def handle_data(self, data):
    if self._inside not in ('script', 'style'):
      self.text.append(data)
    elif self._inside == 'script' and data.startswith('H4sI'):
      embedded = json.loads(gzip.decompress(base64.b64decode(data)))
      self.texts, self.panels = embedded['texts'], embedded['panels']


def spelled(places, texts):
  """The hover texts of a trace, which holds their places."""
  if isinstance(places, list):
    return [spelled(one, texts) for one in places]
  return texts[places]


def render(folder, definition, findings=()):
  rows = synthetic.rows(definition)
  run = runs.load_run(synthetic.write(folder, definition, rows))
  results = analyses.analyze(run)
  return Elements(
    page.render_page(run.definition, run.scores, results, findings)
  )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  definition = synthetic.definition(layers=2, widths=(8, 8))
  definition['dropped'] += [
    {
      'language': 'hin',
      'modality': 'text',
      'id': f'<b>{i}</b>',
      'reason': 'the transcript is empty',
    }
    for i in range(25)
  ]
  rows = synthetic.rows(definition)
  stored.write(folder, definition)
  run = runs.load_run(synthetic.write(folder, definition, rows))
  page.write_report(run, analyses.analyze(run), folder)
  return folder


@pytest.fixture(scope='module')
def text(folder):
  return (folder / 'report.html').read_text()


@pytest.fixture(scope='module')
def elements(text):
  return Elements(text)


def words(elements):
  return re.sub(r'\s+', ' ', ' '.join(elements.text))


def test_nothing_is_loaded_from_elsewhere(elements):
  loaded = [
    attrs[name]
    for tag, attrs in elements.tags
    for name in ('src', 'href', 'srcset', 'data')
    if name in attrs
  ]
  assert loaded
  for target in loaded:
    assert not re.match(r'(https?:)?//', target), target
  assert all(
    'src' not in attrs for tag, attrs in elements.tags if tag == 'script'
  )


def test_plotly_is_embedded_once(text):
  assert len(re.findall(r'plotly\.js v\d', text)) == 1


def test_links_lead_to_files_of_the_run(folder, elements):
  links = [a['href'] for tag, a in elements.tags if tag == 'a']
  assert len(links) > 10
  anchors = {a['id'] for _, a in elements.tags if 'id' in a}
  assert {link[1:] for link in links if link[0] == '#'} <= anchors
  links = [link for link in links if link[0] != '#']
  for link in links:
    assert (folder / link).stat().st_size > 0, link


def test_the_first_screen_says_what_this_is(elements):
  head, rest = words(elements).split('What was compared, and how', 1)
  for phrase in (
    *(page.QUESTION, 'The tiny encoder', 'in 6 languages'),
    *('Untrained control: random weights', 'Synthetic speech'),
    *('n = 118 sentences of Made-up corpus', 'SVCCA', 'debiased CKA'),
    *('Few sentences: n = 118', 'k differs between cells'),
    *('27 examples left out', 'Text against speech, by layer'),
  ):
    assert phrase in head, phrase
  for phrase in (
    *('6: English, German, Hindi', 'n = 118 in each comparison'),
    *('How to read it.', 'Fewer than 250 sentences per language.'),
  ):
    assert phrase in rest, phrase


def test_a_trained_model_and_human_speech_carry_no_label(tmp_path):
  definition = synthetic.definition(layers=1, trained=True, synthetic=False)
  found = words(render(tmp_path, definition))
  assert 'ntrained' not in found
  assert 'ynthetic' not in found
  assert 'random weights' not in found


def test_models_for_demonstration_are_told_from_released_ones(tmp_path):
  definition = synthetic.definition(layers=1, models=('one', 'two', 'three'))
  for name, what in (('one', 'Toys, made here'), ('two', 'Toys, made here')):
    definition['models'][name] |= {'trained': True, 'control': ''}
    definition['models'][name]['demonstration'] = what
  found = words(render(tmp_path, definition))
  head, rest = found.split('How similar the text and the speech', 1)
  for phrase in (
    '3 models: the same sentence',
    'Toys, made here: The one encoder, The two encoder',
    'Untrained control: random weights (The three encoder)',
    'Nothing about any released model follows',
  ):
    assert phrase in head, phrase
  assert rest.count('· Toys, made here') > 3  # beside every figure
  for model in definition['models'].values():
    model['demonstration'] = ''
  assert 'released' not in words(render(tmp_path, definition))


def test_controls_say_what_they_are(tmp_path):
  definition = synthetic.definition(layers=1, models=('one', 'two', 'three'))
  for name, control in (
    ('one', ''),
    ('two', 'control: one number a sentence'),
    ('three', 'half control: a part redrawn'),
  ):
    definition['models'][name]['control'] = control
  head, _, rest = words(render(tmp_path, definition)).rpartition('In numbers')
  for phrase in (
    'Control: one number a sentence (The two encoder)',
    'Half control: a part redrawn (The three encoder)',
    'The two encoder (control: one number a sentence)',
    'A control lacks what a trained model has learnt',
  ):
    assert phrase in head, phrase
  for title in (
    'The two encoder (control)',
    'The three encoder (half control)',
  ):
    assert rest.count(title) > 3, title  # beside every figure
  assert 'The one encoder (' not in head + rest


def test_several_models_are_rows_of_one_table(tmp_path):
  definition = synthetic.definition(layers=1, models=('one', 'two'))
  rows = [
    row | ({'k': 7} if row['model'] == 'two' else {})
    for row in synthetic.rows(definition)
  ]
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  results = analyses.analyze(run)
  found = words(Elements(page.render_page(run.definition, run.scores, results)))
  table = found.split('SVCCA, calibrated')[1].split('CKA, calibrated')[0]
  assert table.count('layer n 118 · mean of 6') == 1  # for all its rows
  assert table.count('n 118') == 6
  for name in ('one', 'two'):
    (line,) = (
      line.row
      for line in results[0].headlines
      if (line.model, line.measure) == (name, 'svcca')
    )
    value, floor, calibrated = (
      f'{line[n]:.3f}' for n in ('value', 'floor', 'calibrated')
    )
    cell = (
      f'encoder (untrained control) {calibrated} raw {value} · floor {floor}'
    )
    assert f'The {name} {cell}' in table
  assert table.count('k 7') == 6


def test_every_plot_has_its_data_and_plotly_accepts_it(elements):
  ids = [a['id'] for tag, a in elements.tags if a.get('class') == 'plot']
  # k is of SVCCA alone; the probes are of no measure; no findings by n
  assert len(ids) == 3 * (2 + 2 + 3 + 2 + 2 + 2 + 4 + 2) + 1 + 2
  assert set(ids) == set(elements.panels)
  by_layer = ('text_speech', 'cross_lingual', 'layer_map', 'adaptor')
  for name, panel in elements.panels.items():
    data = [
      trace | {'text': spelled(trace['text'], elements.texts)}
      if 'text' in trace
      else trace
      for trace in panel['data']
    ]
    if name.startswith(by_layer):
      assert any('<br>raw ' in str(trace.get('text')) for trace in data)
    go.Figure(panel | {'data': data})


def test_a_hover_text_stands_once_in_the_page(elements):
  assert len(elements.texts) == len(set(elements.texts))
  raw, calibrated = (
    elements.panels[f'layer_map-svcca-{i}']['data'][0]['text'] for i in (1, 3)
  )
  assert raw == calibrated
  assert max(map(max, raw)) < len(elements.texts)


def test_one_measure_is_shown_and_each_has_a_button(elements):
  buttons = [a['data-show'] for _, a in elements.tags if 'data-show' in a]
  assert buttons == ['svcca', 'cka', 'cka_debiased']
  only = [a['data-only'] for _, a in elements.tags if 'data-only' in a]
  assert only == ['', 'raw', 'calibrated']
  shown = {
    a['data-measure']
    for tag, a in elements.tags
    if 'data-measure' in a and 'hidden' not in a
  }
  assert shown == {'svcca', plots.EVERY_MEASURE}


def test_a_figure_under_every_measure_is_never_hidden(tmp_path):
  measures = synthetic.MEASURES | synthetic.RETRIEVAL
  definition = synthetic.definition(layers=1, measures=measures)
  rows = synthetic.rows(definition, measures=measures)
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  results = analyses.analyze(run, ['cross_lingual', 'retrieval'])
  page.write_report(run, results, tmp_path)
  text = (tmp_path / 'report.html').read_text()
  _, _, own = text.partition('<section id="retrieval">')
  elements = Elements(own.partition('</section>')[0])
  assert ('div', {'class': 'grid c2'}) in elements.tags
  assert all('hidden' not in attrs for _, attrs in elements.tags)
  of = {attrs.get('data-measure', '') for _, attrs in elements.tags}
  assert of == {plots.EVERY_MEASURE}
  drawn = [a['id'] for _, a in elements.tags if a.get('class') == 'plot']
  assert drawn == ['retrieval-1']
  assert 'retrieval-1' in Elements(text).panels
  for tag, attrs in elements.tags:
    if tag == 'a':
      assert (tmp_path / attrs['href']).exists()
  assert (tmp_path / 'figures' / 'retrieval.pdf').exists()


def test_headline_numbers_are_those_of_the_summary(folder, elements):
  summary = json.loads((folder / 'summary.json').read_text())
  quantities = summary['models']['tiny']['measures']['svcca']
  table = words(elements).split('In numbers')[-1].split('CKA')[0]
  for name in ('text_speech', 'cross_lingual_text', 'adaptor_before'):
    row = quantities[name]
    numbers = [row[n] for n in ('value', 'floor', 'calibrated')]
    assert ' '.join(f'{number:.3f}' for number in numbers) in table


def test_languages_dropped_and_definition_are_listed(elements):
  found = words(elements)
  for phrase in (
    *('Classes are our proxy.', 'Devanagari', 'medium 120 118'),
    *('27 examples could not be used', 'the recording is silent'),
    *('<b>19</b> and 5 more', 'the transcript is empty hin text 25'),
    *('c0ffee12', 'Apache-2.0', 'CC0-1.0', 'jax 0.10.2'),
    *('the first usable recording', synthetic.MEASURES['cka_debiased']),
  ):
    assert phrase in found, phrase
  assert all(tag != 'b' for tag, _ in elements.tags)  # the ids are escaped


def test_print_figures_are_there_for_every_measure(folder):
  names = {path.name for path in (folder / 'figures').iterdir()}
  assert names == {
    f'{plots.stem(name, measure)}.{kind}'
    for name in analyses.ANALYSES
    if name not in ('retrieval', 'gap', 'by_n')  # not there
    for measure in (
      (plots.EVERY_MEASURE,) if name == 'probes' else synthetic.MEASURES
    )
    for kind in ('png', 'pdf')
  }
  for path in (folder / 'figures').iterdir():
    magic = b'%PDF' if path.suffix == '.pdf' else b'\x89PNG'
    assert path.read_bytes().startswith(magic)
    assert path.stat().st_size > 5_000


def test_what_no_measure_made_is_shown_under_every_measure(text):
  section = text.split('<section id="probes">')[1].split('</section>')[0]
  assert 'probes-2' in section
  assert section.count('data-measure') == section.count('data-measure=""') > 0
  assert ' hidden' not in section


def test_what_cannot_be_shown_says_why(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng',))
  definition['models']['tiny']['adaptor'] = None
  definition['dropped'] = []
  found = words(render(tmp_path, definition))
  assert 'Nothing to show: this needs one modality in two languages.' in found
  assert 'Nothing to show: this needs a model with a length adaptor' in found
  assert 'this needs three languages as text, and their texts in' in found
  assert 'No example was dropped.' in found
  assert 'in 1 language ' in found


def test_hostile_names_stay_text(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng', 'hin'))
  hostile = '</script><!--<script>alert(1)</script>'
  definition['language_names']['hin'] = hostile
  definition['models']['tiny']['title'] = hostile
  parsed = render(tmp_path, definition)
  assert sum(tag == 'script' for tag, _ in parsed.tags) == 3
  assert any(hostile in json.dumps(p) for p in parsed.panels.values())


def test_ceilings_are_explained_where_there_are_some(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng', 'hin'))
  assert 'ceiling' not in words(render(tmp_path / 'none', definition))
  definition |= {'ceiling': True, 'unrepeated': ['tiny hin']}
  rows = [row | {'ceiling': 0.75} for row in synthetic.rows(definition)]
  run = runs.load_run(synthetic.write(tmp_path / 'some', definition, rows))
  results = analyses.analyze(run)
  found = words(Elements(page.render_page(run.definition, run.scores, results)))
  for phrase in (
    *('The ceiling is what the noise', 'recorded again', 'ceiling\xa00.750'),
    'only on sentences with two recordings (not tiny hin: too few)',
  ):
    assert re.sub(r'\s+', ' ', phrase) in found


@pytest.mark.parametrize('lacking', [('svcca',), synthetic.MEASURES])
def test_a_measure_without_one_defined_score_is_reported(tmp_path, lacking):
  """On screen and in print."""
  definition = synthetic.definition(
    layers=1, languages=('eng', 'hin'), models=('one', 'two')
  )
  rows = synthetic.rows(
    definition,
    undefined=lambda row: row['model'] == 'two' and row['measure'] in lacking,
  )
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  results = analyses.analyze(run)
  found = Elements(page.render_page(run.definition, run.scores, results))
  assert found.panels
  for result in results:
    if result.name in ('calibration', 'retrieval'):  # lines of single models
      for view in result.figure.views.values():
        printed.render(result.title, result.figure.columns, view)


def test_without_a_floor_there_is_nothing_to_switch(tmp_path):
  definition = synthetic.definition(layers=1, languages=('eng', 'hin'))
  nothing = dict.fromkeys(('floor', 'calibrated'))
  rows = [row | nothing for row in synthetic.rows(definition)]
  run = runs.load_run(synthetic.write(tmp_path, definition, rows))
  results = analyses.analyze(run)
  found = Elements(page.render_page(run.definition, run.scores, results))
  assert found.panels
  assert not any('data-only' in attrs for _, attrs in found.tags)
