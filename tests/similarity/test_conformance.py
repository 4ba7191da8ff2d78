"""The conformance file is what its generator makes; we agree with all of it."""

import functools
import importlib
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxrep.similarity import MEASURES, Calibration, compare
from jaxrep.types import InputError
from tests.similarity import golden

ROOT = pathlib.Path(__file__).parents[2]
ONCE = Calibration(permutations=1, intervals=False)


@pytest.fixture(scope='module')
def stored():
  with np.load(golden.FILE) as file:
    return dict(file)


@pytest.fixture
def conformance(monkeypatch):
  monkeypatch.syspath_prepend(ROOT)
  return importlib.import_module('benchmarks.conformance')


def test_the_file_is_what_the_generator_makes(stored):
  made = golden.make()
  assert stored.keys() == made.keys()
  for name in ('cases', 'conventions', 'definitions'):
    assert stored[name].tolist() == made[name].tolist()
  np.testing.assert_array_equal(stored['fits'], made['fits'])
  for name in made:
    if name.startswith(('x/', 'y/')):  # another BLAS rounds otherwise
      assert stored[name].dtype == made[name].dtype == np.float32
      np.testing.assert_allclose(stored[name], made[name], rtol=1e-5, atol=1e-9)
  assert golden.FILE.stat().st_size < 300_000


@pytest.mark.parametrize('name', golden.CONVENTIONS)
def test_the_answers_are_those_of_the_stored_input(stored, name):
  row = list(stored['conventions']).index(name)
  for case, answer in zip(stored['cases'], stored['answers'][row], strict=True):
    again = golden.answer(name, stored[f'x/{case}'], stored[f'y/{case}'])
    assert again == pytest.approx(answer, abs=1e-10, nan_ok=True), case


def test_every_measure_has_an_answer():
  answered = {one.measure for one in golden.CONVENTIONS.values()}
  assert answered == set(MEASURES)


@pytest.mark.parametrize('name', golden.CONVENTIONS)
def test_one_pair_calls_give_the_answers(stored, name):
  one, row = golden.CONVENTIONS[name], list(stored['conventions']).index(name)
  for case, answer in zip(stored['cases'], stored['answers'][row], strict=True):
    x, y = stored[f'x/{case}'], stored[f'y/{case}']
    call = functools.partial(compare, x, y, one.measure, ONCE)
    if np.isnan(answer):
      with pytest.raises(InputError, match='must have one width'):
        call(**one.parameters)
    else:
      found = call(**one.parameters).value
      assert found == pytest.approx(answer, abs=1e-5), case


@pytest.mark.parametrize('array', [torch.from_numpy, jnp.asarray])
@pytest.mark.parametrize('name', ['svcca', 'cka', 'rsa', 'retrieval_r1'])
def test_other_libraries_arrays_give_the_same_number(stored, name, array):
  x, y = stored['x/offsets'], stored['y/offsets']
  expected = compare(x, y, name, ONCE)
  assert compare(array(x), array(y), name, ONCE) == expected


def test_check_tells_errors_from_failures(conformance, stored):
  answers = dict(golden.inputs())

  def off(x, y):
    if x.shape[1] > 60:
      raise ValueError('too wide')
    if x.shape != y.shape:
      return np.nan
    return golden.answer('cka', x, y) + 0.25

  found = dict(conformance.check(off, 'cka'))
  assert found.keys() == answers.keys()
  assert found['n < p'] == found['unequal widths'] == np.inf
  assert found['offsets'] == pytest.approx(0.25, abs=1e-9)
  narrow = dict(conformance.check(lambda x, y: np.nan, 'retrieval_r1'))
  assert 'unequal widths' not in narrow
  assert all(np.isnan(error) for error in narrow.values())
  assert [conformance.verdict(e) for e in (1e-6, 0.2, np.nan, np.inf)] == [
    *('ok', '2e-01', 'nan', 'raises')
  ]


def test_the_runner_asks_for_what_the_generator_answered(conformance):
  conventions = conformance.conventions()
  assert list(conventions) == list(golden.CONVENTIONS)
  for name, convention in golden.CONVENTIONS.items():
    assert conformance.asked(name) == (
      convention.measure,
      dict(convention.parameters),
    )
    assert conventions[name] == convention.definition


def test_the_table_says_who_agrees_and_who_is_missing(
  conformance, monkeypatch, capsys
):
  peers = importlib.import_module('benchmarks.peers')
  answer = functools.partial(golden.answer, 'cosine_gap')
  rows = [
    ('right', 'cosine_gap', answer),
    ('wrong', 'cosine_gap', lambda x, y: answer(x, y) + 0.5),
  ]
  monkeypatch.setattr(conformance, 'implementations', lambda: rows)
  found = dict.fromkeys(peers.PACKAGES) | {'ckatorch': '1.0.3'}
  monkeypatch.setattr(peers, 'versions', lambda: found)
  conformance.main()
  lines = capsys.readouterr().out.splitlines()
  assert lines[1].split() == [
    'right',
    'cosine_gap',
    *['ok'] * 3,
    '-',
    *['ok'] * 5,
  ]
  assert lines[2].count('5e-01') == 8 and 'ok' not in lines[2]
  assert 'ckatorch: 1.0.3' in lines
  assert 'torch-cka: missing; pip install torch-cka' in lines
  names = [name for name, _, _ in conformance.theirs()]
  assert names == [
    *('ckatorch', 'ckatorch hsic', 'ckatorch', 'ckatorch hsic'),
    'tutorial of google/svcca',
  ]
