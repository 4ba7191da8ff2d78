"""Probes against SciPy's minimum, and on states where the answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from jaxrep.stats import probe, proportions

SENTENCES, CLASSES, DIM = 60, 4, 12


def states(apart, seed=0):
  """Classes as offsets of size `apart`; features of uneven scale and place."""
  random = np.random.default_rng(seed)
  labels = np.tile(np.arange(CLASSES), SENTENCES)
  offsets = np.random.default_rng(1_000).standard_normal((CLASSES, DIM))
  x = random.standard_normal((labels.size, DIM)) + apart * offsets[labels]
  x = x * np.logspace(-1, 2, DIM) + 100
  folds = np.repeat(np.arange(SENTENCES) % 5, CLASSES)
  return np.float32(x), labels, folds


def share(x, labels, folds):
  return float(np.mean(probe.held_out(x, labels, folds, CLASSES, 5)))


def fit(x, labels, used, classes=CLASSES):
  return probe.fit(*map(jnp.array, (x, labels, used)), classes)


def loss(flat, z, labels):
  weights = flat[: DIM * CLASSES].reshape(DIM, CLASSES)
  logits = z @ weights + flat[DIM * CLASSES :]
  chosen = logits[np.arange(labels.size), labels]
  surprise = special.logsumexp(logits, axis=1) - chosen
  return surprise.mean() + probe.PENALTY / 2 * np.sum(weights**2)


def test_a_probe_is_scipys_minimum_of_the_stated_objective():
  x, labels, folds = states(0.5)
  used = folds != 0
  own = x[used].astype(np.float64)
  mean, sd = own.mean(axis=0), own.std(axis=0)
  z = (own - mean) / sd
  start = np.zeros((DIM + 1) * CLASSES)
  best = optimize.minimize(
    loss, start, (z, labels[used]), 'L-BFGS-B', tol=1e-12
  )
  found = probe.fit(jnp.array(x), jnp.array(labels), jnp.array(used), CLASSES)
  weights = np.asarray(found.weights, np.float64) * sd[:, None]
  bias = np.asarray(found.bias, np.float64) + mean @ np.asarray(found.weights)
  flat = np.concatenate([weights.ravel(), bias - bias.mean()])
  assert loss(flat, z, labels[used]) == pytest.approx(best.fun, abs=1e-5)
  # Where the loss is flat, float32 does not tell weights apart any more.
  np.testing.assert_allclose(
    weights.ravel(), best.x[: DIM * CLASSES], atol=5e-3
  )
  logits = x @ np.asarray(found.weights) + np.asarray(found.bias)
  scipys = (x - mean) / sd @ best.x[: DIM * CLASSES].reshape(DIM, CLASSES)
  scipys += best.x[DIM * CLASSES :]
  same = logits.argmax(axis=1) == scipys.argmax(axis=1)
  assert same.mean() > 0.99


def test_held_out_rows_are_those_read_without_their_fold():
  x, labels, folds = states(0.5)
  right = np.asarray(probe.held_out(x, labels, folds, CLASSES, 5))
  for split in range(5):
    found = fit(x, labels, folds != split)
    logits = x @ np.asarray(found.weights) + np.asarray(found.bias)
    own = folds == split
    same = (logits.argmax(axis=1) == labels)[own] == right[own]
    assert same.mean() > 0.97


def test_planted_classes_are_found_and_shuffled_ones_are_chance():
  x, labels, folds = states(2.0)
  assert share(x, labels, folds) > 0.97
  shuffled = np.random.default_rng(1).permutation(labels)
  found = share(x, shuffled, folds)
  assert abs(found - 1 / CLASSES) < 3 * np.sqrt(0.25 * 0.75 / labels.size)


def test_a_probe_does_not_see_what_it_is_tested_on():
  """Each row alone says its class by a feature that no other row has."""
  labels = np.tile(np.arange(2), 20)
  x = np.eye(40, dtype=np.float32)
  folds = np.repeat(np.arange(20) % 5, 2)
  assert np.mean(probe.held_out(x, labels, folds, 2, 5)) <= 0.5
  leaking = np.asarray(fit(x, labels, folds >= 0, 2).weights)
  assert ((x @ leaking).argmax(axis=1) == labels).all()


def test_scale_place_and_constant_features_change_nothing():
  x, labels, folds = states(0.7)
  x[..., :2] = 0
  moved = 1e-3 * x
  moved[..., :2] = 7
  plain = share(x, labels, folds)
  assert 0.5 < plain < 0.95
  # A few rows lie on the border, where rounding decides.
  assert share(moved, labels, folds) == pytest.approx(plain, abs=0.01)


def test_constant_states_are_read_at_chance():
  _, labels, folds = states(1.0)
  assert share(np.ones((labels.size, DIM), np.float32), labels, folds) == (
    1 / CLASSES
  )


@pytest.mark.slow
@pytest.mark.parametrize('apart', [0, 0.5, 1])
def test_intervals_over_sentences_hold_the_expected_accuracy(apart):
  _, labels, folds = states(apart)
  samples = [states(apart, seed)[0] for seed in range(300)]
  right = np.array(
    [probe.held_out(x, labels, folds, CLASSES, 5) for x in samples]
  )
  truth = right.mean()
  sentence = np.repeat(np.arange(SENTENCES), CLASSES)
  ends = [proportions.clustered_wilson(one, sentence, 5) for one in right]
  held = np.mean([low <= truth <= high for low, high in ends])
  assert held > 0.96
