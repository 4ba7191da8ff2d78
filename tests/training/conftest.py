"""Trainings under test are of few narrow layers and one shape of batches."""

import pytest

from jaxrep.training import batches, networks

WHOLE = networks.architecture


@pytest.fixture(scope='module', autouse=True)
def narrow():
  sizes = {
    'hidden_size': 32,
    'encoder_layers': 1,
    'encoder_ffn_dim': 48,
    'speech_encoder_layers': 2,
    'speech_encoder_intermediate_size': 48,
  }
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(networks, 'architecture', lambda: {**WHOLE(), **sizes})
    patch.setattr(batches, 'GRID', 384)
    yield
