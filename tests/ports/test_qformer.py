"""SALMONN's Q-Former against transformers' of BLIP-2, every part."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from ports import configs, loading, qformer
from ports.checkpoints import open_checkpoint
from tests.ports import batches, reference

TINY = {
  'hidden_size': 20,
  'layers': 2,
  'heads': 5,
  'intermediate_size': 36,
  'layer_norm_eps': 1e-12,
  'cross_attention_freq': 1,
  'num_query_tokens': 1,
}
WIDTH = 28
FRAMES = 17


def model(width=WIDTH, seed=7, **changes):
  """Of parameters so small that an ε of 1e-5 would show behind each norm."""
  sizes = TINY | changes
  made = Blip2QFormerModel(
    Blip2QFormerConfig(
      hidden_size=sizes['hidden_size'],
      num_hidden_layers=sizes['layers'],
      num_attention_heads=sizes['heads'],
      intermediate_size=sizes['intermediate_size'],
      layer_norm_eps=sizes['layer_norm_eps'],
      encoder_hidden_size=width,
      cross_attention_frequency=sizes['cross_attention_freq'],
    )
  )
  reference.redraw(made, seed)
  with torch.no_grad():
    for name, parameter in made.named_parameters():
      if 'output' in name or 'norm' in name:
        parameter.mul_(0.01)
  return made


def query(sizes=TINY, seed=8):
  drawn = np.random.default_rng(seed).standard_normal((1, 1, 1024), np.float32)
  return 0.01 * drawn[..., : sizes['hidden_size']]


def released(made):
  """The state under SALMONN's names of it."""
  tensors = {}
  for key, value in made.state_dict().items():
    key = key.replace('attention.attention.', 'attention.self.')
    if key.startswith('layernorm.'):
      key = key.replace('layernorm', 'embeddings.LayerNorm')
    tensors[f'bert.{key}'] = value.clone()
  return tensors


def states(made, queries, windows):
  """Our tap → [window, dim]; of the query, which has no window, [1, dim]."""
  hooks = {'speech/qformer/embed': (made.layernorm, 'output')}
  for i, layer in enumerate(made.encoder.layer, 1):
    name = f'speech/qformer_{i:02}'
    hooks[f'{name}/self'] = (layer.attention, 'output')
    hooks[f'{name}/cross'] = (layer.crossattention, 'output')
    hooks[name] = (layer, 'output')
  queries = torch.tensor(queries)
  rows = [
    reference.hooked(
      hooks, made, query_embeds=queries, encoder_hidden_states=window[None]
    )
    for window in torch.tensor(windows)
  ]
  found = {name: np.concatenate([row[name] for row in rows]) for name in hooks}
  return found | {'speech/qformer/embed': rows[0]['speech/qformer/embed']}


def port(folder, made, width=WIDTH, **changes):
  sizes = qformer.read(TINY | changes, width)
  tensors = {f'qformer.{k}': v for k, v in released(made).items()}
  tensors['qformer.bert.embeddings.position_ids'] = torch.arange(4)[None]
  save_file(tensors, folder / 'model.safetensors')
  layout = loading.Layout(
    'SALMONN',
    r'^qformer\.',
    renames=(*qformer.RENAMES, (r'^qformer\.', '')),
    ignored=qformer.IGNORED,
  )
  network = loading.Network(qformer.read, qformer.QFormer, None, (layout,))
  module = loading.load(
    network.abstract(sizes), open_checkpoint(folder), network.layouts
  )
  return module, sizes


def run(module, windows):
  """Tap → [window, dim] of windows [window, time, width]."""
  parts = module(jnp.asarray(query()), jnp.asarray(windows))
  return {f'speech/{name}': np.asarray(x)[:, 0] for name, x in parts}


def windows_of(count):
  rng = np.random.default_rng(0)
  return rng.standard_normal((count, FRAMES, WIDTH)).astype(np.float32)


@pytest.mark.parametrize('changes', [{}, {'layers': 3, 'heads': 2}])
def test_every_part_of_each_window(tmp_path, changes):
  made = model(**changes)
  module, sizes = port(tmp_path, made, **changes)
  windows = windows_of(12)
  found = {
    name: (x[None], np.ones((1, len(x)), bool))
    for name, x in run(module, windows).items()
  }
  batches.compare(
    found,
    [windows],
    lambda row: states(made, query(), row),
    qformer.specs_of(sizes),
  )


def test_another_epsilon_shows_in_every_part(tmp_path):
  made = model()
  module, _ = port(tmp_path, made, layer_norm_eps=1e-5)
  windows = windows_of(3)
  expected = states(made, query(), windows)
  for name, ours in run(module, windows).items():
    assert reference.relative(ours, expected[name]) > 1e-3, name


def test_a_config_that_asks_for_another_network_is_refused():
  assert qformer.read({}, 2048).hidden_size == 768
  for change, message in (
    ({'cross_attention_freq': 2}, 'cross_attention_freq=2: only 1'),
    ({'num_query_tokens': 32}, 'num_query_tokens=32: only 1'),
    ({'encoder_width': 2048}, 'encoder_width=2048: only 28'),
    ({'vocab_size': 30522}, 'vocab_size=30522: unknown'),
  ):
    with pytest.raises(configs.ConfigError, match=message):
      qformer.read(TINY | change, WIDTH)
