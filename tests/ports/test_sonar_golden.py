"""SONAR against what its own packages compute, stored in tests/golden.

From the stored input of each network, its features or token ids, to every
stage; `tests/test_sonar.py` begins at the waveform and the sentence.
"""

import json
import pathlib
import re

import numpy as np
import pytest

from ports import configs, loading, sonar
from ports.checkpoints import open_checkpoint
from tests.ports import batches, reference

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
TOLERANCE = 1e-5
SPEECH = ('sonar_speech_english', 'sonar_speech_other')
STAGES = {
  'stacked': 'speech/embed/stacked',
  'proj_ln': 'speech/embed/norm',
  'proj': 'speech/embed',
  'encoder_ln': 'speech/norm',
  'pool_embed': 'speech/pooler/embed',
  'sentence': 'speech/sentence',
}
TEXT_STAGES = {
  'embed': 'text/embed/tokens',
  'embed_pos': 'text/embed',
  'text_ln': 'text/output',
  'sentence': 'text/sentence',
}
PARTS = {
  'block': 'speech/layer',
  'pool': 'speech/pooler',
  'layer': 'text/layer',
}


def ours(stage: str, names: dict[str, str]) -> str:
  """Our name of a stage: theirs count layers from 0."""
  if stage in names:
    return names[stage]
  kind, number, part = re.fullmatch(r'([a-z]+)(\d+)\.?(\w*)', stage).groups()
  part = 'weights' if part == 'cross_weights' else part
  return f'{PARTS[kind]}_{int(number) + 1:02}' + (f'/{part}' if part else '')


def load(folder, network, file='checkpoint.pt'):
  sizes = network.config(json.loads((folder / 'config.json').read_text()))
  checkpoint = open_checkpoint(folder / file)
  module = loading.load(network.abstract(sizes), checkpoint, network.layouts)
  return module, sizes


def run(module, rows):
  """Tap → states [time, dim], of each row of one padded batch."""
  found = batches.run(module, *batches.pad(rows, 0))
  return [
    {name: states[i][mask[i]] for name, (states, mask) in found.items()}
    for i in range(len(rows))
  ]


def compare(found, expected, owner, names, without):
  """Asserts every stored stage of one input; returns the taps that had one."""
  seen = set()
  for key in expected.files:
    whose, stage = key.split('/', 1)
    if whose != owner or stage in without:
      continue
    theirs, tap = expected[key], ours(stage, names)
    if stage.endswith('cross_weights'):
      theirs = theirs.T
    theirs = theirs[None] if theirs.ndim == 1 else theirs
    assert found[tap].shape == theirs.shape, key
    error = reference.relative(found[tap], theirs)
    assert error <= TOLERANCE, (key, error)
    seen.add(tap)
  return seen


@pytest.mark.parametrize('file', ['checkpoint.pt', 'checkpoint_fairseq2.pt'])
@pytest.mark.parametrize('name', SPEECH)
def test_speech_every_stage(name, file):
  module, sizes = load(GOLDEN / name, sonar.SPEECH, file)
  expected = np.load(GOLDEN / name / 'expected.npz')
  owners, rows, seen = [f'utt{i}' for i in range(5)], [], set()
  for owner in owners:
    fbank = expected[f'{owner}/fbank']
    steps = len(fbank) // 2
    rows.append(fbank[: 2 * steps].reshape(steps, 160))
  for owner, found in zip(owners, run(module, rows), strict=True):
    without = ('fbank', 'log_mel')
    seen |= compare(found, expected, owner, STAGES, without)
  known = {spec.name for spec in sonar.speech_taps(sizes, fine=True)}
  weights = {spec.name for spec in sonar.weights(sizes)}
  assert seen == (known | weights) - {'speech/embed/fbank'}


def test_text_every_stage():
  module, sizes = load(GOLDEN / 'sonar_text', sonar.TEXT)
  expected = np.load(GOLDEN / 'sonar_text/expected.npz')
  owners, seen = [f'seq{i}' for i in range(9)], set()
  rows = [expected[f'{owner}/ids'] for owner in owners]
  for owner, found in zip(owners, run(module, rows), strict=True):
    seen |= compare(found, expected, owner, TEXT_STAGES, ('ids',))
  assert seen == {spec.name for spec in sonar.text_taps(sizes, fine=True)}


def test_a_config_that_asks_for_another_network_is_refused():
  stored = json.loads((GOLDEN / 'sonar_text/config.json').read_text())
  for change, message in (
    ({'norm_order': 'post'}, 'norm_order'),
    ({'pooling': 'last'}, 'pooling'),
    ({'position': 'learned'}, 'position'),
    ({'rotary': True}, 'rotary=True: unknown'),
  ):
    with pytest.raises(configs.ConfigError, match=message):
      sonar.text_config(stored | change)
  stored = json.loads((GOLDEN / SPEECH[0] / 'config.json').read_text())
  for part, change, message in (
    ('conformer', {'norm': 'layer_norm'}, 'norm'),
    ('pooler', {'norm_order': 'pre'}, 'norm_order'),
    ('fbank', {'num_mel_bins': 128}, 'num_mel_bins'),
    ('conformer', {'dropout_schedule': 3}, 'dropout_schedule=3: unknown'),
  ):
    changed = stored | {part: stored[part] | change}
    with pytest.raises(configs.ConfigError, match=message):
      sonar.speech_config(changed)
  with pytest.raises(configs.ConfigError, match='pooler'):
    sonar.speech_config(stored | {'pooler': 3})
