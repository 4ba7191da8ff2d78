"""Which sentences are seen at which step."""

import numpy as np
import pytest

from jaxrep.training import batches
from jaxrep.training.batches import Order
from tests.training.material import COUNTS, small


@pytest.fixture(scope='module')
def order():
  return Order(small().training, 4, 0)


def seen(order, steps):
  return [
    (int(language), int(sentence))
    for step in steps
    for language, sentence in zip(
      order[step].language, order[step].sentence, strict=True
    )
  ]


def test_an_epoch_holds_every_clip_once(order):
  clips = [(one, i) for one, n in enumerate(COUNTS) for i in range(n)]
  assert order.epoch == 15
  for epoch in range(2):
    steps = range(15 * epoch, 15 * epoch + 15)
    assert sorted(seen(order, steps)) == clips
  assert seen(order, range(15)) != seen(order, range(15, 30))


def test_a_step_depends_on_seed_and_step_alone(order):
  again = Order(small().training, 4, 0)
  assert seen(again, [13]) == seen(order, [13])
  assert seen(again, [2]) == seen(order, [2])
  assert seen(Order(small().training, 4, 1), range(9)) != seen(order, range(9))


def test_what_does_not_fill_a_batch_waits_for_another_epoch():
  order = Order(small().training, 7, 0)
  assert order.epoch == 8
  assert len(set(seen(order, range(8)))) == 56
  every = set(seen(order, range(8 * 20)))
  assert len(every) == sum(COUNTS)


def test_speech_is_padded_with_zeros_behind_each_clip(order):
  spoken, chosen = small().training, order[3]
  batch = batches.speech(spoken, chosen)
  assert batch['features'].shape == (4, chosen.steps, 160)
  assert chosen.steps % batches.GRID == 0
  assert 0 <= chosen.steps - batch['lengths'].max() < batches.GRID
  for row, (language, sentence) in enumerate(seen(order, [3])):
    clip = spoken[language].clip(sentence)
    length = batch['lengths'][row]
    assert length == len(clip)
    np.testing.assert_array_equal(batch['features'][row, :length], clip)
    assert not batch['features'][row, length:].any()


def test_text_and_phones_have_one_width(order):
  material = small()
  for step in range(3):
    chosen = order[step]
    text = batches.text(material.training, chosen.language, chosen.sentence)
    phones = batches.phones(material, chosen)
    assert text['ids'].shape == (4, batches.widest(material.training))
    for row, (language, sentence) in enumerate(seen(order, [step])):
      ids = material.training[language].tokens[sentence]
      assert text['lengths'][row] == len(ids)
      np.testing.assert_array_equal(text['ids'][row, : len(ids)], ids)
      spelt = material.phones[language][sentence]
      np.testing.assert_array_equal(
        phones['ids'][row, : phones['lengths'][row]], spelt
      )


def test_the_other_language_has_the_sentence(order):
  spoken = small().training
  order = Order(spoken, 6, 0)
  generator = np.random.default_rng(0)
  drawn = set()
  for step in range(order.epoch):
    chosen = order[step]
    other = batches.other_language(spoken, chosen, generator)
    assert (other != chosen.language).all()
    for language, sentence in zip(other, chosen.sentence, strict=True):
      assert sentence < len(spoken[language].tokens)
      drawn.add(int(language))
  assert drawn == {0, 1, 2}
