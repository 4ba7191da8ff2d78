"""What is computed of models that lack something."""

import dataclasses

import numpy as np
import pytest

from benchmarks import planted
from benchmarks.planted import Parts
from jaxrep.findings import FINDINGS, evaluate
from jaxrep.findings.cells import Layout
from jaxrep.findings.scores import Settings

SETTINGS = Settings(k=4, rounds=1, splits=2, permutations=2, minimum=10)


def dipping(language, modality, layer):
  return Parts(common=(0.8, 0.3, 0.5, 0.8)[min(layer, 3)])


@pytest.fixture
def model():
  return planted.model(dipping, n=48)


def test_a_model_of_one_modality_has_no_finding():
  layout = Layout((), {}, (), None)
  rows = evaluate.evaluate(evaluate.Model('one', layout, {}), SETTINGS)
  assert {row['finding'] for row in rows} == set(FINDINGS)
  assert {row['verdict'] for row in rows} == {'not measured'}


def test_a_layer_is_picked_by_the_languages_that_all_layers_have(
  model, monkeypatch
):
  whole = evaluate._lowest(model, 'cka_debiased', SETTINGS)
  real = evaluate.score

  def without(language, *taps):
    def score(sides, cells, *rest):
      lost = [
        a.language == language and (not taps or b.tap in taps) for a, b in cells
      ]
      return {
        name: one._replace(calibrated=np.where(lost, np.nan, one.calibrated))
        for name, one in real(sides, cells, *rest).items()
      }

    return score

  first = model.layout.languages[0]
  inner = [speech for _, speech in model.layout.layers[1:-1]]
  monkeypatch.setattr(evaluate, 'score', without(first, inner[0]))
  assert evaluate._lowest(model, 'cka_debiased', SETTINGS) == whole
  monkeypatch.setattr(evaluate, 'score', without(first))
  assert evaluate._lowest(model, 'cka_debiased', SETTINGS) == whole
  layout = model.layout._replace(languages=(first,))
  alone = dataclasses.replace(model, layout=layout)
  assert evaluate._lowest(alone, 'cka_debiased', SETTINGS) is None
  rows = evaluate._picked(alone, 'cka_debiased', SETTINGS, 0.02)
  assert {row['note'] for row in rows} == {evaluate._UNPICKED}
