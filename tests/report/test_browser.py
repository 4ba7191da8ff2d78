"""The report in headless Chromium: drawn, switched, sorted, printed."""

import dataclasses
import json
import re

import pyarrow.parquet as pq
import pytest

from jaxrep import analyses
from jaxrep.analyses import run as runs
from jaxrep.report import page, plots
from tests import browser
from tests.analyses import large, synthetic
from tests.report import made

pytestmark = pytest.mark.browser
WIDTHS = (1280, 390)
FALLS = {'one': 0.0, 'two': 0.2, 'three': 0.3}
PLOTS = "[...document.querySelectorAll('.plot')].filter(p => p.offsetParent)"
DRAWN = f"{PLOTS}.every(plot => plot.querySelector('svg path'))"
SHOWN = f'{PLOTS}.map(plot => plot.id)'


@pytest.fixture(scope='module')
def chromium():
  path = browser.executable()
  if path is None:
    pytest.fail('Chromium is not installed: `apt-get install chromium`.')
  found = browser.Browser(path)
  yield found
  found.close()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Three models, findings, and a figure that no measure changes.

  Over the adaptor, scores rise in the first model and fall in the others.
  """
  folder = tmp_path_factory.mktemp('run')
  definition = synthetic.definition(
    languages=('eng', 'hin', 'swh'), layers=2, models=tuple(FALLS)
  )
  rows = synthetic.rows(definition)
  for row in rows:
    if row['tap_b'] == 'speech/adaptor':
      row['calibrated'] -= FALLS[row['model']]
  run = runs.load_run(synthetic.write(folder, definition, rows))
  results = analyses.analyze(run)
  view = results[2].figure.views['cka']
  same = dataclasses.replace(
    results[2], name='probes', figure=plots.Figure(3, {'': view})
  )
  findings = made.verdicts(definition)
  text = page.render_page(
    run.definition, run.scores, [*results, same], findings
  )
  (folder / 'report.html').write_text(text)
  return folder


@pytest.fixture(params=WIDTHS)
def opened(request, chromium, folder):
  chromium.open(folder / 'report.html', request.param)
  chromium.until(DRAWN)
  return chromium


def press(chromium, selector):
  chromium.value(f'document.querySelector({json.dumps(selector)}).click()')


def column(chromium, table, index):
  """The texts of a column, as they stand now."""
  return chromium.value(
    f'[...document.querySelector({json.dumps(table)}).tBodies[0].rows]'
    f'.map(row => row.cells[{index}].textContent.trim())'
  )


def assert_clean(chromium):
  assert chromium.complaints == []
  outside = [
    r for r in chromium.requests if not r.startswith(('file:', 'data:'))
  ]
  assert outside == []


def test_every_figure_is_drawn_with_its_data(opened):
  shown = opened.value(SHOWN)
  assert len(shown) == 3 * (2 + 2 + 3 + 2 + 2 + 3 + 4) + 9
  marks = opened.value(
    PLOTS
    + """
    .map(p => p.querySelectorAll('.trace path, .heatmaplayer image').length)"""
  )
  assert min(marks) > 0
  first = opened.value('document.getElementById("text_speech-svcca-1").data')
  hovers = [one['text'] for one in first if 'text' in one]
  assert hovers
  assert all(text[0].startswith('<b>') for text in hovers)
  assert_clean(opened)


def test_nothing_is_wider_than_the_page(opened):
  for measure in ('svcca', 'retrieval_r1'):
    press(opened, f'[data-show={measure}]')
    assert opened.value('document.documentElement.scrollWidth') <= opened.width
    wide = opened.value(
      f"""[...document.querySelectorAll('main *')].filter(one => {{
        const box = one.getBoundingClientRect();
        return box.width && box.right > {opened.width} + 1
          && !one.closest('.wide, nav');
      }}).map(one => one.outerHTML.slice(0, 120))"""
    )
    assert wide == []


def test_the_switch_shows_one_measure_and_what_has_none(opened):
  press(opened, '[data-show=cka_debiased]')
  opened.until(DRAWN)
  shown = opened.value(SHOWN)
  assert {name.rpartition('-')[0] for name in shown} == {
    *('text_speech-cka_debiased', 'cross_lingual-cka_debiased'),
    *('layer_map-cka_debiased', 'adaptor-cka_debiased', 'probes'),
    *('calibration-cka_debiased', 'language_map-cka_debiased'),
    'modality_language-cka_debiased',
  }
  pressed = opened.value(
    """[...document.querySelectorAll('[data-show][aria-pressed=true]')]
    .map(button => button.dataset.show)"""
  )
  assert pressed == ['cka_debiased']
  verdicts = opened.value('document.getElementById("verdicts").innerText')
  assert 'under debiased cka' in verdicts.lower().replace('\n', ' ') or (
    opened.value('innerWidth') < 500  # without the table's head
  )
  press(opened, '[data-show=retrieval_r1]')
  assert all(name.startswith('probes') for name in opened.value(SHOWN))
  assert_clean(opened)


def test_the_switch_leaves_raw_or_calibrated_panels(opened):
  def titles():
    return opened.value(
      """[...document.querySelectorAll('figcaption')]
      .filter(one => one.offsetParent).map(one => one.textContent)"""
    )

  both = titles()
  neither = [t for t in both if 'components kept' in t or 'likeness' in t]
  assert len(neither) == 3 * (1 + 2)  # k, and the trees
  press(opened, '[data-only=raw]')
  raw = titles()
  press(opened, '[data-only=calibrated]')
  calibrated = titles()
  assert set(raw) & set(calibrated) == set(neither)
  assert sorted(raw + calibrated) == sorted(both + neither)
  assert not any('calibrated' in title for title in set(raw) - set(neither))
  own = set(calibrated) - set(neither)
  assert all('calibrated' in title for title in own)
  opened.until(DRAWN)
  assert_clean(opened)


def test_what_is_read_stays_in_place_when_a_switch_is_pressed(opened):
  top = 'document.getElementById("adaptor").getBoundingClientRect().top'
  opened.value(f'scrollTo(0, scrollY + 90 + {top})')
  before = opened.value(top)
  for switch in ('[data-only=raw]', '[data-show=cka]'):
    press(opened, switch)
    opened.value('new Promise(requestAnimationFrame)')
    assert opened.value(top) == pytest.approx(before, abs=2)


def test_a_click_on_a_head_sorts_by_number_and_says_so(opened):
  heads = opened.value(
    """[...document.querySelectorAll('.full thead th')]
    .map(head => head.querySelector('button').innerText)"""
  )
  raw = heads.index('raw [95\xa0%]')
  numbers = []
  for direction in ('ascending', 'descending'):
    press(opened, f'.full thead th:nth-child({raw + 1}) button')
    assert (
      opened.value(
        f"""document.querySelector('.full thead th:nth-child({raw + 1})')
      .getAttribute('aria-sort')"""
      )
      == direction
    )
    texts = column(opened, '.full', raw)
    there = [text for text in texts if text != '–']
    assert texts[: len(there)] == there  # what is undefined stands last
    numbers.append([float(text.split()[0]) for text in there])
  assert numbers[0] == sorted(numbers[0])
  assert numbers[1] == numbers[0][::-1]
  press(opened, '.full thead th:nth-child(2) button')
  assert column(opened, '.full', 1) == sorted(column(opened, '.full', 1))
  marked = '.full [aria-sort]:not([aria-sort=none])'
  assert opened.value(f"document.querySelectorAll('{marked}').length") == 1
  assert_clean(opened)


def test_a_true_minus_sign_sorts_as_one(opened):
  table = '[data-measure=svcca] .overview'
  heads = opened.value(
    f'document.querySelector("{table}").tHead.rows[0].cells.length'
  )
  for order in ([*FALLS][::-1], [*FALLS]):
    press(opened, f'{table} th:nth-child({heads}) button')
    texts = column(opened, table, heads - 1)
    assert [text[0] for text in sorted(texts)] == ['+', '−', '−']
    models = [text.split()[1] for text in column(opened, table, 0)]
    assert models == order


def test_methods_and_bibtex_are_copied(opened):
  opened.call('Browser.grantPermissions', permissions=['clipboardReadWrite'])
  opened.call('Page.bringToFront')
  for name, start in (('methods-text', 'We compared'), ('bibtex', '@inproc')):
    press(opened, f'[data-copy={name}]')
    opened.until(
      f'document.querySelector("[data-copy={name}]").innerText'
      '.match(/Copied|Selected/)'
    )
    if 'Copied' in opened.value(
      f'document.querySelector("[data-copy={name}]").innerText'
    ):
      copied = opened.value('navigator.clipboard.readText()')
    else:
      copied = opened.value('getSelection().toString()')
    assert copied.startswith(start)


def test_print_gives_pages_of_the_chosen_measure(opened):
  press(opened, '[data-show=cka]')
  opened.until(DRAWN)
  pdf = opened.pdf()
  assert pdf.startswith(b'%PDF')
  pages = len(re.findall(rb'/Type\s*/Page\b(?!s)', pdf))
  assert 5 < pages < 40
  assert not opened.value("document.body.classList.contains('printing')")
  assert set(opened.value(SHOWN)) >= {'text_speech-cka-1'}
  assert_clean(opened)


def test_for_print_plots_fit_the_paper_and_buttons_are_gone(opened):
  opened.value("dispatchEvent(new Event('beforeprint'))")
  opened.call('Emulation.setEmulatedMedia', media='print')
  try:
    wide = opened.value(
      """[...document.querySelectorAll('main *')].filter(one =>
        !one.parentElement.closest('svg')
        && one.getBoundingClientRect().right > 701
          + document.querySelector('main').getBoundingClientRect().left
      ).map(one => one.outerHTML.slice(0, 120))"""
    )
    assert wide == []
    seen = opened.value(
      """[...document.querySelectorAll('nav, .copy')]
      .filter(one => one.offsetParent).length"""
    )
    assert seen == 0
  finally:
    opened.call('Emulation.setEmulatedMedia', media='')
    opened.value("dispatchEvent(new Event('afterprint'))")
  opened.until(
    PLOTS
    + """.every(plot => Math.abs(
      plot.clientWidth - plot.querySelector('svg').clientWidth) < 2)"""
  )


def test_a_run_of_full_size_opens(chromium, tmp_path):
  definition = large.definition(30, 25)
  (tmp_path / 'plan.json').write_text(json.dumps(definition))
  pq.write_table(large.scores(definition), tmp_path / 'scores.parquet')
  run = runs.load_run(tmp_path)
  text = page.render_page(run.definition, run.scores, analyses.analyze(run))
  (tmp_path / 'report.html').write_text(text)
  for width in WIDTHS:
    chromium.open(tmp_path / 'report.html', width)
    chromium.until(DRAWN)
    # Retrieval has a panel a model.
    assert len(chromium.value(SHOWN)) == 3 * (2 + 2 + 3 + 2 + 2 + 3 + 4 + 1)
    assert_clean(chromium)
