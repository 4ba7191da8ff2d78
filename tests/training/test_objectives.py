"""What each objective rewards, and what it leaves alone."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.training import aligned, losses, translation, unaligned
from jaxrep.training.batches import Order
from jaxrep.training.networks import Networks, mean, split, valid
from jaxrep.training.recipes import RECIPES
from ports.layers import Tap
from tests.training.material import small

LATE = jnp.int32(10_000)
PARTS = ('text', 'speech', 'head')


def networks_of(objective):
  return Networks(objective.Head, small().kinds, seed=0)


def batch_of(objective, seed=0):
  chosen = Order(small().training, 4, 0)[0]
  batch = objective.batch(small(), chosen, np.random.default_rng(seed))
  return jax.tree.map(jnp.asarray, batch)


@pytest.fixture(scope='module')
def slopes():
  """By recipe: the loss' terms, and how steep each is along each network.

  Along one random direction of its parameters: 0 where a term does not read it.
  """

  def terms_and_slopes(name):
    objective = importlib.import_module(RECIPES[name].objective)
    params, merged = split(networks_of(objective))
    batch = batch_of(objective)

    def terms(params):
      return objective.loss(merged(params), batch, jax.random.key(0), LATE)

    @jax.jit
    def steepness(directions):
      values, along = jax.linearize(terms, params)
      return values, jax.vmap(along)(directions)

    values, found = jax.device_get(steepness(directions_of(params)))
    return values, {
      term: dict(zip(PARTS, np.abs(steep), strict=True))
      for term, steep in found.items()
    }

  return {name: terms_and_slopes(name) for name in RECIPES}


def directions_of(params):
  """One for each of PARTS, in which the others stay."""
  random = np.random.default_rng(0)
  return {
    key: np.stack(
      [
        random.standard_normal(value.shape, np.float32) * key.startswith(part)
        for part in PARTS
      ]
    )
    for key, value in params.items()
  }


def test_unaligned_text_and_speech_share_nothing(slopes):
  _, found = slopes['unaligned']
  assert set(found) == {'text', 'speech', 'speech-window'}
  assert found['text']['text'] > 0 and found['text']['speech'] == 0
  for term in ('speech', 'speech-window'):
    assert found[term]['speech'] > 0 and found[term]['text'] == 0


@pytest.mark.parametrize(
  'recipe,term',
  [
    ('aligned', 'speech-text'),
    ('aligned', 'speech-translation'),
    ('translation', 'speech'),
  ],
)
def test_aligned_and_translation_reach_both_through_one_term(
  slopes, recipe, term
):
  parts = slopes[recipe][1][term]
  assert parts['text'] > 0 and parts['speech'] > 0


@pytest.mark.parametrize('recipe', ['aligned', 'translation'])
def test_phones_are_of_speech_alone(slopes, recipe):
  parts = slopes[recipe][1]['phones']
  assert parts['speech'] > 0 and parts['head'] > 0 and parts['text'] == 0


def test_an_untrained_network_guesses(slopes):
  """About log of the number of classes, as scores begin near 0."""
  values = slopes['unaligned'][0]
  guess = np.log(unaligned.CODES)
  assert abs(values['speech'] - guess) < 1
  assert abs(values['speech-window'] - guess) < 1


def test_speech_is_compared_after_its_phones_are_known():
  networks, batch = networks_of(aligned), batch_of(aligned)
  loss = jax.jit(
    lambda step: aligned.loss(networks, batch, jax.random.key(0), step)
  )
  early, late = loss(np.int32(149)), loss(LATE)
  assert early['speech-text'] == early['speech-translation'] == 0
  assert late['speech-text'] > 0.5 and late['speech-translation'] > 0.5
  assert early['text-translation'] == late['text-translation'] > 0
  assert early['phones'] == late['phones'] > 0


def test_info_nce_of_counterparts_that_are_nearest_is_small():
  x = jnp.eye(8)
  sentence = jnp.arange(8)
  assert losses.info_nce(x, x, sentence) < 1e-6
  assert losses.info_nce(x, jnp.roll(x, 1, axis=0), sentence) > 19
  both = losses.info_nce(x, jnp.zeros((8, 8)), sentence)
  np.testing.assert_allclose(both, np.log(8), rtol=1e-6)


def test_info_nce_does_not_tell_a_sentence_from_itself():
  """Rows 0 and 1 are one sentence in two languages."""
  x = jnp.eye(4).at[1].set(jnp.eye(4)[0])
  apart = losses.info_nce(x, x, jnp.array([0, 1, 2, 3]))
  same = losses.info_nce(x, x, jnp.array([0, 0, 2, 3]))
  assert apart > 0.3
  assert same < 1e-6
  nothing = losses.info_nce(x, jnp.zeros((4, 4)), jnp.array([0, 0, 2, 3]))
  np.testing.assert_allclose(nothing, np.log([3, 3, 4, 4]).mean(), rtol=1e-6)


def test_hidden_tokens_are_told_but_not_seen(monkeypatch):
  batch = batch_of(unaligned)
  hidden, ids = batch['hidden'], batch['text']['ids']
  assert hidden.any()
  assert not hidden[:, 0].any() and (ids[hidden] >= 4).all()
  rows = jnp.arange(ids.shape[1]) < batch['text']['lengths'][:, None]
  assert not (hidden & ~rows).any()
  networks, seen = networks_of(unaligned), []
  read = Networks.read

  def watched(self, ids, lengths):
    seen.append(ids)
    return read(self, ids, lengths)

  monkeypatch.setattr(Networks, 'read', watched)
  unaligned.loss(networks, batch, jax.random.key(0), LATE)
  np.testing.assert_array_equal(seen[0], jnp.where(hidden, 1, ids))


def test_the_speech_of_hidden_spans_is_not_seen():
  batch = batch_of(unaligned)
  networks = networks_of(unaligned)
  features = batch['speech']['features']
  hidden = jnp.repeat(batch['spans'], 8, axis=1)[:, 4:][:, : features.shape[1]]
  assert 0.2 < hidden.mean() < 0.7
  hidden &= valid(batch['speech']['lengths'], features.shape[1])
  # What the codes do not see of a step, added where it is hidden.
  drawn = np.random.default_rng(0).normal(size=(160, 16))
  free = np.linalg.svd(drawn)[0][:, 16:].sum(axis=1)
  other = jnp.where(hidden[..., None], features + free, features)
  assert (unaligned.codes(other) == unaligned.codes(features)).mean() > 0.999
  loss = jax.jit(
    lambda features: unaligned.loss(
      networks,
      {**batch, 'speech': {**batch['speech'], 'features': features}},
      jax.random.key(0),
      LATE,
    )
  )
  np.testing.assert_allclose(
    loss(other)['speech'], loss(features)['speech'], rtol=1e-4
  )
  seen = jnp.where(hidden[..., None], features, jnp.roll(features, 5, axis=1))
  assert abs(loss(seen)['speech'] - loss(features)['speech']) > 1e-3


def test_unaligned_text_is_not_what_is_spoken():
  chosen = Order(small().training, 4, 0)[0]
  batch = unaligned.batch(small(), chosen, np.random.default_rng(0))
  spoken = {
    tuple(small().training[language].tokens[sentence])
    for language, sentence in chosen.rows
  }
  pairs = zip(batch['text']['ids'], batch['text']['lengths'], strict=True)
  read = {tuple(row[:length]) for row, length in pairs}
  assert len(read & spoken) <= 1


def test_a_decoder_does_not_see_what_it_is_asked():
  networks = networks_of(translation)
  batch = batch_of(translation)
  ids, lengths = batch['translation']['ids'], batch['translation']['lengths']
  embedding = networks.text.embed_tokens.embedding[...]
  source = networks.read(**batch['text'])

  @jax.jit
  def decode(ids, states):
    heard = source._replace(states=states)
    return networks.head.decoder(embedding, ids, lengths, heard)

  changed = ids.at[:, 5].set(7)
  before, after = (decode(row, source.states) for row in (ids, changed))
  np.testing.assert_array_equal(before[:, :5], after[:, :5])
  assert (np.abs(before - after)[:, 5] > 1e-3).any()
  louder = jnp.where(source.mask[..., None], source.states, 1e3)
  np.testing.assert_allclose(decode(ids, louder), before, atol=1e-5)


def test_a_mean_is_over_valid_steps():
  states = jnp.arange(12.0).reshape(1, 4, 3)
  mask = jnp.array([[True, True, False, False]])
  np.testing.assert_allclose(mean(Tap('', states, mask)), [[1.5, 2.5, 3.5]])
