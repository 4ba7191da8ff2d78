"""Tiny SeamlessM4T encoders of the reference, v1 and v2, and our ports."""

import json

import numpy as np
import torch
from flax import nnx
from safetensors.torch import save_file
from transformers import SeamlessM4TConfig, SeamlessM4Tv2Config
from transformers.models.seamless_m4t import modeling_seamless_m4t as hf_v1
from transformers.models.seamless_m4t_v2 import modeling_seamless_m4t_v2 as hf

from ports import loading, seamless
from ports.checkpoints import open_checkpoint

TINY = {
  'vocab_size': 120,
  'hidden_size': 32,
  'encoder_layers': 3,
  'encoder_attention_heads': 4,
  'encoder_ffn_dim': 48,
  'decoder_layers': 1,
  'decoder_attention_heads': 4,
  'decoder_ffn_dim': 40,
  'speech_encoder_layers': 3,
  'speech_encoder_attention_heads': 2,
  'speech_encoder_intermediate_size': 56,
}
TINY_V2 = {
  **TINY,
  'left_max_position_embeddings': 12,
  'right_max_position_embeddings': 5,
}
# The relative table of v1 is made anew where an utterance is longer.
TINY_V1 = {**TINY, 'max_source_positions': 20}
NETWORKS = {
  'v1': {'text': seamless.TEXT_V1, 'speech': seamless.SPEECH_V1},
  'v2': {'text': seamless.TEXT, 'speech': seamless.SPEECH},
}


def config(version: str = 'v2', **changes):
  if version == 'v2':
    made = SeamlessM4Tv2Config(**{**TINY_V2, **changes})
  else:
    made = SeamlessM4TConfig(**{**TINY_V1, **changes})
  made._attn_implementation = 'sdpa'
  return made


def redraw(module: torch.nn.Module, seed: int) -> torch.nn.Module:
  """Draws every parameter anew: no bias is 0 and no scale is 1."""
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, parameter in module.named_parameters():
      fan_in = parameter[0].numel() if parameter.ndim > 1 else 30
      if 'embed_tokens' in name:
        fan_in = parameter.shape[1]
      noise = torch.randn(parameter.shape, generator=generator)
      parameter.copy_(noise * fan_in**-0.5)
      if 'norm' in name and name.endswith('weight'):
        parameter.add_(1)
    for name, buffer in module.named_buffers():
      if name.endswith(('running_mean', 'running_var')):
        buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
  return module.eval()


def classes(version: str):
  """Those of the text encoder and of the speech encoder."""
  if version == 'v2':
    return hf.SeamlessM4Tv2Encoder, hf.SeamlessM4Tv2SpeechEncoder
  return hf_v1.SeamlessM4TEncoder, hf_v1.SeamlessM4TSpeechEncoder


def encoders(made, seed: int = 0):
  version = 'v2' if made.model_type == 'seamless_m4t_v2' else 'v1'
  text, speech = classes(version)
  return redraw(text(made), seed), redraw(speech(made), seed + 1)


def save(folder, made, text, speech, shards: int = 2):
  """Writes both encoders as the hub lays a checkpoint out, decoder and all."""
  folder.mkdir(parents=True, exist_ok=True)
  tensors = {f'speech_encoder.{k}': v for k, v in speech.state_dict().items()}
  for key, value in text.state_dict().items():
    name = 'shared.weight' if 'embed_tokens' in key else f'text_encoder.{key}'
    tensors[name] = value
  tensors['text_decoder.layer_norm.weight'] = torch.ones(4)
  tensors['t2u_model.model.encoder.layer_norm.bias'] = torch.ones(4)
  tensors['vocoder.hifi_gan.conv_pre.bias'] = torch.ones(4)
  names = sorted(tensors)
  weight_map = {}
  for shard in range(shards):
    file = f'model-{shard + 1:05}-of-{shards:05}.safetensors'
    part = {n: tensors[n].contiguous().clone() for n in names[shard::shards]}
    save_file(part, folder / file, metadata={'format': 'pt'})
    weight_map |= dict.fromkeys(part, file)
  index = {'metadata': {'total_size': 0}, 'weight_map': weight_map}
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  (folder / 'config.json').write_text(made.to_json_string(use_diff=False))


def port(folder, network: loading.Network, **options) -> nnx.Module:
  return loading.load(
    network.abstract(sizes(folder, network)),
    open_checkpoint(folder),
    network.layouts,
    **options,
  )


def sizes(folder, network: loading.Network):
  return network.config(json.loads((folder / 'config.json').read_text()))


TEXT_HOOKS = {
  'text/embed/tokens': ('embed_tokens', 'output'),
  'text/embed': ('layers.0', 'input'),
  'text/output': ('layer_norm', 'output'),
}
TEXT_LAYER = {'/attn': ('ffn_layer_norm', 'input'), '': ('', 'output')}
SPEECH_HOOKS = {
  'speech/embed/stacked': ('feature_projection.layer_norm', 'input'),
  'speech/embed/norm': ('feature_projection.layer_norm', 'output'),
  'speech/embed': ('feature_projection', 'output'),
  'speech/norm': ('encoder.layer_norm', 'output'),
  'speech/pre_adaptor': ('adapter', 'input'),
  'speech/adaptor/attn': ('adapter.layers.0.ffn_layer_norm', 'input'),
  'speech/adaptor': ('adapter', 'output'),
  'speech/output': ('inner_layer_norm', 'output'),
}
SPEECH_LAYER = {
  '/ffn1': ('self_attn_layer_norm', 'input'),
  '/attn': ('conv_module', 'input'),
  '/conv': ('ffn2_layer_norm', 'input'),
  '/ffn2': ('final_layer_norm', 'input'),
  '': ('', 'output'),
}
ADAPTOR_CONVS = {
  'speech/adaptor/residual': 'adapter.layers.0.residual_conv',
  'speech/adaptor/pool': 'adapter.layers.0.self_attn_conv',
}


def hooks_of(model: torch.nn.Module) -> dict[str, tuple[str, str]]:
  """Our tap name → (module of the reference, which side of it)."""
  if hasattr(model, 'adapter'):
    hooks, layer, prefix = SPEECH_HOOKS, SPEECH_LAYER, 'encoder.layers'
    depth, kind = len(model.encoder.layers), 'speech'
  else:
    hooks, layer, prefix = TEXT_HOOKS, TEXT_LAYER, 'layers'
    depth, kind = len(model.layers), 'text'
  hooks = dict(hooks)
  for i in range(depth):
    for part, (name, side) in layer.items():
      module = f'{prefix}.{i}' + (f'.{name}' if name else '')
      hooks[f'{kind}/layer_{i + 1:02}{part}'] = (module, side)
  return hooks


def hooked(hooks, model, *args, **kwargs) -> dict[str, np.ndarray]:
  """Tap → [time, dim] of one utterance; `hooks` are tap → (module, side)."""
  found, handles = {}, []

  def keep(tap, side):
    def hook(_, args, kwargs, output):
      x = output if side == 'output' else (*args, *kwargs.values())[0]
      x = x[0] if isinstance(x, tuple) else x
      found[tap] = x.detach()[0].float().numpy().copy()

    return hook

  for tap, (module, side) in hooks.items():
    handles.append(
      module.register_forward_hook(keep(tap, side), with_kwargs=True)
    )
  with torch.no_grad():
    model(*args, **kwargs)
  for handle in handles:
    handle.remove()
  return found


def states(model: torch.nn.Module, *args, **kwargs) -> dict[str, np.ndarray]:
  """Every tap of the reference for one unpadded utterance: [time, dim]."""
  hooks = {
    tap: (model.get_submodule(name), side)
    for tap, (name, side) in hooks_of(model).items()
  }
  if not hasattr(model, 'adapter'):
    return hooked(hooks, model, *args, **kwargs)
  convs = {
    tap: model.get_submodule(name) for tap, name in ADAPTOR_CONVS.items()
  }
  hooks |= {tap: (module, 'output') for tap, module in convs.items()}
  found = hooked(hooks, model, *args, **kwargs)
  for tap in convs:  # [channel, time], before the gate
    found[tap] = torch.nn.functional.glu(torch.tensor(found[tap]), 0).T.numpy()
  stacked = found['speech/embed/stacked']
  found['speech/embed/fbank'] = stacked.reshape(2 * len(stacked), -1)
  return found


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
  """The largest difference over the tap's largest value."""
  return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
