"""Trained encoders as a checkpoint in the layout of SeamlessM4T on the hub."""

import json
import pathlib

import numpy as np
import safetensors.numpy
from flax import nnx

from jaxrep.training import networks
from jaxrep.training.networks import Networks
from ports import loading

WEIGHTS = 'model.safetensors'
_EMBEDDINGS = ('text_encoder.embed_tokens.', 'shared.')


def save(trained: Networks, folder: pathlib.Path) -> None:
  """config.json and the encoders' weights in float16; the head is left out."""
  folder.mkdir(parents=True, exist_ok=True)
  config = json.dumps(networks.architecture(), indent=2)
  (folder / 'config.json').write_text(config + '\n')
  safetensors.numpy.save_file(_tensors(trained), folder / WEIGHTS)


def count(trained: Networks) -> int:
  """The parameters that are saved."""
  return sum(value.size for value in _tensors(trained).values())


def _tensors(trained: Networks) -> dict[str, np.ndarray]:
  """Every parameter by the hub's name, with the axes that it has there."""
  found = {}
  for modality, network in (('text', trained.text), ('speech', trained.speech)):
    values = dict(nnx.to_flat_state(nnx.state(network)))
    for leaf in loading.leaves(network):
      tensor = _unread(leaf.rule, np.asarray(values[leaf.path][...]))
      name = f'{modality}_encoder.{leaf.key}'.replace(*_EMBEDDINGS)
      found[name] = np.ascontiguousarray(tensor, np.float16)
  return found


def _unread(rule: loading.Rule, value: np.ndarray) -> np.ndarray:
  """The tensor that `rule` reads as this value."""
  if rule.axes is not None:
    value = value.transpose(np.argsort(rule.axes))
  return value if rule.squeeze is None else np.expand_dims(value, rule.squeeze)
