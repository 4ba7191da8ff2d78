"""`run.py train` as people call it; what it does is in tests/training."""

import dataclasses

import pytest

from jaxrep.jobs import train
from jaxrep.training import card
from jaxrep.training.material import Material
from jaxrep.training.recipes import RECIPES
from jaxrep.types import InputError
from tests import command


def test_without_a_synthesiser_it_says_what_to_install(tmp_path):
  done = command.run(
    'train', f'--training_dir={tmp_path}', PATH=str(tmp_path / 'nothing')
  )
  assert done.returncode == 1
  assert 'error: espeak-ng cannot speak' in done.stderr
  assert 'apt-get install espeak-ng' in done.stderr
  assert 'Traceback' not in done.stderr


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({'steps': 100}, '--steps=100: give more than the 100 steps of warm-up'),
    ({'seed': -1}, '--seed=-1: give a number from 0'),
  ],
)
def test_a_wrong_flag_is_named_before_anything_is_spoken(
  tmp_path, flags, message
):
  with pytest.raises(InputError, match=message):
    train.run(train.Config(training_dir=str(tmp_path / 'none'), **flags))
  assert not (tmp_path / 'none').exists()


def test_the_card_says_how_to_make_this_very_model():
  summary = {
    **{'parameters': 9e5, 'minutes': 3.0, 'hardware': 'cpu', 'seed': 7},
    'retrieval': dict.fromkeys(
      ('development', 'test'),
      dict.fromkeys(('text-speech', 'text', 'speech'), 0.5),
    ),
  }
  nothing = Material((), (), (), 0)
  recipe = dataclasses.replace(RECIPES['aligned'], steps=300)
  text = card.write('aligned', recipe, nothing, summary)
  assert '`python run.py train --recipe=aligned --seed=7 --steps=300`' in text
  assert 'tiny-untrained` is' not in text
  text = card.write(
    'aligned', RECIPES['aligned'], nothing, summary | {'seed': 0}
  )
  assert '`python run.py train --recipe=aligned`' in text
  assert '| 0; the encoders begin as `tiny-untrained` is |' in text


def test_an_unknown_recipe_lists_those_that_there_are():
  done = command.run('train', '--recipe=distilled')
  assert done.returncode != 0
  for name in ('aligned', 'translation', 'unaligned'):
    assert name in done.stderr + done.stdout
