"""SONAR against transformers' and PyTorch's own parts, every tap.

`test_sonar_golden.py` compares with what SONAR's packages compute.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ports import loading, sonar
from ports.checkpoints import CheckpointError, open_checkpoint
from tests.ports import batches, sonar_reference


def port(folder, network, **changes):
  config = json.loads((folder / 'config.json').read_text()) | changes
  sizes = network.config(config)
  checkpoint = open_checkpoint(folder)
  return loading.load(network.abstract(sizes), checkpoint, network.layouts)


@pytest.mark.parametrize('layers', [3, 6])
def test_speech_every_tap_against_each_utterance_alone(tmp_path, layers):
  """One frame, ragged, and longer than the reference's first table of 20."""
  model = sonar_reference.save_speech(tmp_path / 'checkpoint.pt', layers)
  pooler = sonar_reference.SPEECH['pooler'] | {'num_layers': layers}
  rows = batches.speech_rows((1, 2, 31, 64, 250))
  module = port(tmp_path, sonar.SPEECH, pooler=pooler)
  found = batches.run(module, *batches.pad(rows, np.nan, 8))
  sizes = sonar.speech_config(sonar_reference.SPEECH | {'pooler': pooler})
  specs = sonar.speech_taps(sizes, fine=True)
  names = {spec.name for spec in specs}
  weights = {n: x for n, x in found.items() if n not in names}
  assert list(weights) == [spec.name for spec in sonar.weights(sizes)]
  expected = [sonar_reference.speech_states(model, row) for row in rows]
  for name, (states, mask) in weights.items():
    for i, one in enumerate(expected):
      np.testing.assert_allclose(states[i][mask[i]], one[name], atol=1e-5)
      np.testing.assert_allclose(states[i][mask[i]].sum(0), 1, atol=1e-5)
  batches.compare(
    {name: found[name] for name in found if name in names},
    range(len(rows)),
    lambda i: {n: x for n, x in expected[i].items() if n in names},
    specs,
  )


def test_text_every_tap_in_both_layouts(tmp_path):
  """SONAR's own file, and the hub's conversion with other token numbers."""
  own, hub = tmp_path / 'own', tmp_path / 'hub'
  model = sonar_reference.save_text(own / 'checkpoint.pt')
  hub.mkdir()
  tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
  save_file(tensors, hub / 'model.safetensors')
  (hub / 'config.json').write_text(model.config.to_json_string(use_diff=False))
  rng = np.random.default_rng(0)
  rows = [rng.integers(4, 160, n) for n in (1, 2, 9, 40)]
  rows.append(np.array([150, 7, 1, 12, 1, 3]))  # with <unk>
  specs = sonar.text_taps(sonar.text_config(sonar_reference.TEXT), fine=True)
  theirs = [sonar_reference.text_states(model, row) for row in rows]
  renumbered = [
    np.array([sonar_reference.RENUMBERED[i] if i < 4 else i for i in row])
    for row in rows
  ]
  for folder, ids in ((own, rows), (hub, renumbered)):
    module = port(folder, sonar.TEXT)
    found = batches.run(module, *batches.pad(ids, 0, 16))
    batches.compare(found, range(len(rows)), lambda i: theirs[i], specs)


def test_a_key_that_is_missing_extra_or_of_another_shape(tmp_path):
  path = tmp_path / 'checkpoint.pt'
  model = sonar_reference.save_speech(path, 6)
  tensors = sonar_reference.fairseq_names(model)
  del tensors['decoder.layers.1.encoder_attn.k_proj.bias']
  tensors['decoder.layers.1.gate'] = torch.ones(2)
  tensors['decoder.embed_out'] = torch.ones(24, 23)
  torch.save({'model': tensors}, path)
  with pytest.raises(CheckpointError, match='3 places') as error:
    port(tmp_path, sonar.SPEECH)
  for part in (
    'pooler.layers.1.encoder_attn.k_proj.bias: not in the checkpoint',
    'decoder.layers.1.gate: no parameter takes it',
    r'decoder.embed_out: shape (24, 23) does not fill (24, 24)',
  ):
    assert part in str(error.value)
  torch.save({'model': {'a.weight': torch.ones(2)}}, path)
  with pytest.raises(CheckpointError, match=r'none of the known layouts'):
    port(tmp_path, sonar.SPEECH)
