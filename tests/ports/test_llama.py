"""LLaMA's decoder against transformers and peft, every tap."""

import json

import numpy as np
import peft
import pytest
import torch
from flax import nnx
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from ports import configs, llama, loading, salmonn
from ports.checkpoints import open_checkpoint
from ports.parallel import LoraLinear
from tests.ports import batches, reference

TINY = {
  'hidden_size': 32,
  'intermediate_size': 48,
  'num_hidden_layers': 3,
  'num_attention_heads': 4,
  'vocab_size': 90,
  'rms_norm_eps': 1e-4,
  'max_position_embeddings': 512,
}
LORA = {'r': 8, 'alpha': 32, 'targets': ['q_proj', 'v_proj']}


def model(seed=9, **changes):
  made = LlamaConfig(**TINY | changes)
  made._attn_implementation = 'eager'
  return reference.redraw(LlamaForCausalLM(made), seed)


def adapted(made, seed=10):
  """The same with LoRA on the queries and values, of which nothing is 0."""
  config = peft.LoraConfig(
    r=LORA['r'], lora_alpha=LORA['alpha'], target_modules=LORA['targets']
  )
  found = peft.get_peft_model(made, config)
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, parameter in found.named_parameters():
      if '.lora_' in name:
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(0.1 * noise)
  return found.eval()


def adapters(found):
  """What SALMONN's file has of the language model: its LoRA alone."""
  return {
    f'llama_model.{key}': value.clone()
    for key, value in found.state_dict().items()
    if '.lora_' in key
  }


def hub_names(made):
  """The state of a model, with LoRA or without, as the hub has its base."""
  return {
    key.removeprefix('base_model.model.').replace('.base_layer.', '.'): value
    for key, value in made.state_dict().items()
    if '.lora_' not in key
  }


def save(folder, made):
  folder.mkdir(parents=True, exist_ok=True)
  tensors = {key: value.clone() for key, value in hub_names(made).items()}
  save_file(tensors, folder / 'model.safetensors')
  config = made.config.to_json_string(use_diff=False)
  (folder / 'config.json').write_text(config)


def read(folder, **changes):
  config = json.loads((folder / 'config.json').read_text())
  return llama.read(config | changes)


def port(folder, **changes):
  sizes = read(folder, **changes)
  return loading.load(
    llama.TEXT.abstract(sizes), open_checkpoint(folder), llama.TEXT.layouts
  )


def with_adapters(folder, found, **lora):
  """SALMONN's text encoder of a folder as `save` writes it and its LoRA."""
  joined = {f'llm.{k}': x for k, x in open_checkpoint(folder).items()}
  save_file(adapters(found), folder / 'lora.safetensors')
  connector = open_checkpoint(folder / 'lora.safetensors')
  joined |= {f'connector.{k}': x for k, x in connector.items()}
  config = json.loads((folder / 'config.json').read_text())
  tables = {'llm': config, 'connector': {'lora': LORA | lora}}
  network = salmonn.TEXT
  abstract = network.abstract(network.config(tables))
  return loading.load(abstract, joined, network.layouts)


def states(made, **inputs):
  """Our tap → [time, dim] of `input_ids` or `inputs_embeds` of one row."""
  body = made.get_decoder()
  hooks = {'text/output': (body.norm, 'output')}
  if 'input_ids' in inputs:
    hooks['text/embed'] = (body.embed_tokens, 'output')
  for i, layer in enumerate(body.layers, 1):
    norm = layer.post_attention_layernorm
    hooks[f'text/layer_{i:02}/attn'] = (norm, 'input')
    hooks[f'text/layer_{i:02}'] = (layer, 'output')
  return reference.hooked(hooks, made, use_cache=False, **inputs)


def text_states(made, ids):
  return states(made, input_ids=torch.tensor(ids)[None])


def rows_of(lengths, seed=0):
  rng = np.random.default_rng(seed)
  return [np.append(1, rng.integers(3, 90, n - 1)) for n in lengths]


def run(module, rows, multiple=1):
  """Tap → states of a padded batch, and the mask of whole sequences."""
  taps = module(*batches.pad(rows, 7, multiple))
  return {t.name: (np.asarray(t.states), np.asarray(t.whole)) for t in taps}


def compare(module, rows, made, sizes):
  specs = llama.taps(sizes, fine=True)
  found = run(module, rows, 16)
  batches.compare(found, rows, lambda row: text_states(made, row), specs)


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'num_key_value_heads': 2, 'head_dim': 12},
    {'num_key_value_heads': 1, 'rope_theta': 500.0},
  ],
)
def test_every_tap_in_a_ragged_batch(tmp_path, changes):
  made = model(**changes)
  save(tmp_path, made)
  sizes = read(tmp_path)
  compare(port(tmp_path), rows_of((1, 2, 9, 40, 130)), made, sizes)


def test_a_bare_decoder_without_its_head(tmp_path):
  made = model()
  save(tmp_path, made)
  tensors = {k: v.clone() for k, v in made.model.state_dict().items()}
  tensors['layers.0.self_attn.rotary_emb.inv_freq'] = torch.ones(4)
  save_file(tensors, tmp_path / 'model.safetensors')
  compare(port(tmp_path), rows_of((3, 20)), made, read(tmp_path))


@pytest.mark.parametrize('changes', [{}, {'num_key_value_heads': 2}])
def test_every_tap_with_lora(tmp_path, changes):
  """Apart, and as one kernel."""
  made = model(**changes)
  save(tmp_path, made)
  rows = rows_of((2, 9, 40))
  plain = text_states(made, rows[-1])['text/output']
  found = adapted(made)
  sizes = read(tmp_path)
  module = with_adapters(tmp_path, found)
  compare(module, rows, found, sizes)
  ours = run(module, rows)['text/output'][0][-1]
  assert reference.relative(ours, plain) > 0.1
  llama.merge(module.llm)
  kinds = {type(part) for _, part in nnx.iter_modules(module)}
  assert LoraLinear not in kinds
  compare(module, rows, found, sizes)


@pytest.mark.parametrize('lora', [{'alpha': 28}, {'scaling': 3.5}])
def test_another_scale_of_lora_shows(tmp_path, lora):
  made = model()
  save(tmp_path, made)
  found = adapted(made)
  (ids,) = rows = rows_of((12,))
  expected = text_states(found, ids)
  same = run(with_adapters(tmp_path, found, scaling=4.0), rows)
  other = run(with_adapters(tmp_path, found, **lora), rows)
  for name in ('text/layer_01', 'text/output'):
    assert reference.relative(same[name][0][0], expected[name]) <= 1e-5
    assert reference.relative(other[name][0][0], expected[name]) > 1e-2


@pytest.mark.parametrize(
  ('before', 'after', 'items'),
  [
    ((), (), [(1, 9), (1, 6)]),
    ((5, 6), (7, 8, 9), [(3, 6), (3, 3)]),
    ((5,), (), [(2, 9), (2, 6)]),
    ((), (4,), [(1, 8), (1, 5)]),
  ],
)
def test_a_text_stands_between_the_prompt(tmp_path, before, after, items):
  """Its own tokens are valid; `<s>` and the prompt are read as well."""
  save(tmp_path, model())
  module = port(tmp_path, before=before, after=after)
  ids, mask = batches.pad(rows_of((9, 6)), 0, 12)
  for tap in module(ids, mask):
    np.testing.assert_array_equal(tap.whole, mask)
    for row, (start, end) in zip(tap.mask, items, strict=True):
      assert np.flatnonzero(row).tolist() == list(range(start, end))


def test_the_prompt_changes_no_state(tmp_path):
  save(tmp_path, model())
  rows = rows_of((9, 6))
  plain = run(port(tmp_path), rows)
  for name, (x, _) in run(port(tmp_path, before=(5,)), rows).items():
    np.testing.assert_array_equal(x, plain[name][0])


def test_a_config_that_asks_for_another_network_is_refused():
  config = json.loads(LlamaConfig(**TINY).to_json_string(use_diff=False))
  assert llama.read(config).head_dim == 8
  for change, message in (
    ({'model_type': 'mistral'}, "model_type='mistral'"),
    ({'rope_scaling': {'type': 'linear', 'factor': 2}}, 'rope_scaling='),
    ({'rope_parameters': {'rope_type': 'llama3'}}, 'rope_parameters='),
    ({'attention_bias': True}, 'attention_bias=True'),
    ({'mlp_bias': True}, 'mlp_bias=True'),
    ({'hidden_act': 'gelu'}, "hidden_act='gelu'"),
    ({'sliding_window': 9}, 'sliding_window=9: unknown'),
  ):
    with pytest.raises(configs.ConfigError, match=message):
      llama.read(config | change)


def test_rope_theta_of_either_form_is_read():
  """At the top, as files have it, or as transformers 5 writes it."""
  assert llama.read({'model_type': 'llama'}).rope_theta == 10_000
  assert llama.read({'rope_theta': 500.0}).rope_theta == 500
  written = json.loads(LlamaConfig(rope_theta=700.0).to_json_string())
  assert 'rope_theta' not in written
  assert llama.read(written).rope_theta == 700
