"""`run.py train` as people call it; what it does is in tests/training."""

from tests import command


def test_without_a_synthesiser_it_says_what_to_install(tmp_path):
  done = command.run(
    'train', f'--training_dir={tmp_path}', PATH=str(tmp_path / 'nothing')
  )
  assert done.returncode == 1
  assert 'error: espeak-ng cannot speak' in done.stderr
  assert 'apt-get install espeak-ng' in done.stderr
  assert 'Traceback' not in done.stderr


def test_an_unknown_recipe_lists_those_that_there_are():
  done = command.run('train', '--recipe=distilled')
  assert done.returncode != 0
  for name in ('aligned', 'translation', 'unaligned'):
    assert name in done.stderr + done.stdout
