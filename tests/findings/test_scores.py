"""Scores of a finding's cells: one n, one k, joint subsets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import planted
from benchmarks.planted import Parts
from jaxrep import similarity
from jaxrep.findings import cells as cells_of
from jaxrep.findings.scores import Held, Settings, choose, score
from jaxrep.similarity import Calibration
from jaxrep.stats import intervals

SETTINGS = Settings(k=4, rounds=2, splits=1, minimum=10)
PAIR = ('text/2', 'speech/2')
CELLS = (
  cells_of.spoken('eng', PAIR),
  cells_of.spoken('swh', PAIR),
  cells_of.translated('eng', 'swh', 'speech', 'speech/2'),
)


@pytest.fixture(scope='module')
def model():
  return planted.model(lambda *_: Parts(common=0.5), n=64)


def rows_of(model, place, ids):
  held = model.sides[place[:2]]
  return held.states[place.tap][np.searchsorted(held.ids, ids)]


@pytest.mark.parametrize(
  'measure,options',
  [
    ('svcca', {'k': 4}),
    ('svcca_heldout', {'k': 4, 'splits': 1}),
    ('cka_debiased', {}),
  ],
)
def test_cells_score_as_one_pair_does_alone(model, measure, options):
  sentences = choose(model.sides, CELLS, SETTINGS)
  found = score(model.sides, CELLS, measure, sentences, SETTINGS)
  found = found[measure + '_k' if measure == 'svcca' else measure]
  ids = [sentences.universe[i] for i in sentences.chosen[0]]
  for i, (a, b) in enumerate(CELLS):
    x, y = rows_of(model, a, ids), rows_of(model, b, ids)
    alone = similarity.compare(x, y, measure, Calibration(), **options)
    assert found.raw[i] == pytest.approx(alone.value, abs=1e-5)
    # The floor of SVCCA is learnt from other random pairings, of other cells.
    assert found.calibrated[i] == pytest.approx(alone.calibrated, abs=0.03)


def test_retrieval_is_the_mean_of_both_directions(model):
  sentences = choose(model.sides, CELLS, SETTINGS)
  found = score(model.sides, CELLS, 'retrieval_r1', sentences, SETTINGS)
  ids = [sentences.universe[i] for i in sentences.chosen[0]]
  x, y = (rows_of(model, place, ids) for place in CELLS[0])
  there, back = (
    similarity.compare(*sides, 'retrieval_r1').value
    for sides in ((x, y), (y, x))
  )
  assert there != back
  assert found['retrieval_r1'].raw[0] == pytest.approx((there + back) / 2)


def test_subsets_leave_out_the_same_sentences_everywhere(model):
  sentences = choose(model.sides, CELLS, SETTINGS)
  found = score(model.sides, CELLS, 'cka_debiased', sentences, SETTINGS)
  subsets = found['cka_debiased'].raw_on_subsets
  assert subsets.shape == (2, 3, 3)
  others = choose(model.sides, CELLS[1:], SETTINGS)
  again = score(model.sides, CELLS[1:], 'cka_debiased', others, SETTINGS)
  np.testing.assert_allclose(
    again['cka_debiased'].raw_on_subsets, subsets[..., 1:], atol=1e-6
  )


def test_a_subset_is_all_sentences_but_a_third(model):
  sentences = choose(model.sides, CELLS, SETTINGS)
  found = score(model.sides, CELLS, 'cka_debiased', sentences, SETTINGS)
  kept = intervals.subsets(jax.random.key(0), jnp.ones(64, bool), 2)
  for group in range(3):
    at = np.flatnonzero(kept[1, group])
    assert 42 <= len(at) <= 43
    ids = [sentences.universe[i] for i in sentences.chosen[0][at]]
    sides = (rows_of(model, place, ids) for place in CELLS[0])
    alone = similarity.cka(*sides, debiased=True).value
    scored = found['cka_debiased'].raw_on_subsets[1, group, 0]
    assert scored == pytest.approx(alone, abs=1e-5)


def without(model, side, ids):
  held = model.sides[side]
  kept = [i for i, one in enumerate(held.ids) if one not in ids]
  states = {tap: x[kept] for tap, x in held.states.items()}
  left = Held(tuple(held.ids[i] for i in kept), states)
  return {**model.sides, side: left}


def test_all_cells_have_as_many_sentences_as_the_scarcest(model):
  gone = model.sides['swh', 'speech'].ids[:20]
  sides = without(model, ('swh', 'speech'), set(gone))
  sentences = choose(sides, CELLS, SETTINGS)
  assert sentences.counts == (64, 44, 44)
  assert [len(one) for one in sentences.chosen] == [44] * 3
  found = score(sides, CELLS, 'cka_debiased', sentences, SETTINGS)
  assert found['cka_debiased'].n == 44
  assert np.isfinite(found['cka_debiased'].raw_on_subsets).all()


def test_a_pair_with_too_few_sentences_has_a_reason(model):
  gone = set(model.sides['swh', 'speech'].ids[:60])
  sides = without(model, ('swh', 'speech'), gone)
  sentences = choose(sides, CELLS, SETTINGS)
  found = score(sides, CELLS, 'cka_debiased', sentences, SETTINGS)
  found = found['cka_debiased']
  assert found.n == 64
  assert np.isfinite(found.raw).tolist() == [True, False, False]
  assert found.reasons == ('', *['4 common sentences, 10 are needed'] * 2)


def test_more_components_than_there_are_is_a_reason(model):
  sentences = choose(model.sides, CELLS, SETTINGS)
  settings = Settings(k=30, rounds=1, minimum=10)
  found = score(model.sides, CELLS, 'svcca', sentences, settings)
  assert np.isnan(found['svcca_k'].raw).all()
  assert 'has 24 components' in found['svcca_k'].reasons[0]


def test_halves_share_no_sentence(model):
  first, second = (
    choose(model.sides, CELLS, SETTINGS, share)
    for share in ((0.0, 0.5), (0.5, 1.0))
  )
  assert not set(first.universe) & set(second.universe)
  assert len(first.universe) == len(second.universe) == 32
