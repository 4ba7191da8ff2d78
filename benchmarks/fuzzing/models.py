"""Readers of models' files: configs, tokenizers and weights."""

import contextlib
import json
import math
import pathlib
import random
import shutil
from collections.abc import Mapping
from typing import Any

from benchmarks.fuzzing import damage
from benchmarks.fuzzing.reader import GOLDEN, ROOT, TEXT, Read, Reader, Way
from jaxrep import tokenizers
from jaxrep.opened import open_model
from jaxrep.sources import open_source
from ports import checkpoints
from tests.ports.checkpoints import mutations

SONAR = {
  'text': {
    **{'model_dim': 16, 'num_layers': 2, 'num_heads': 2, 'ffn_inner_dim': 32},
    **{'vocab_size': 400, 'max_source_positions': 64, 'activation': 'relu'},
  },
  'speech': {
    'conformer': {
      **{'model_dim': 16, 'num_layers': 2, 'num_heads': 2},
      **{'ffn_inner_dim': 32, 'depthwise_conv_kernel_size': 7},
    },
    'pooler': {
      **{'num_layers': 2, 'num_heads': 2, 'ffn_inner_dim': 32},
      **{'num_embeddings': 10, 'activation': 'relu'},
    },
    'fbank': {'num_mel_bins': 80},
  },
}
NLLB = {
  **{'model_type': 'm2m_100', 'vocab_size': 400, 'd_model': 16},
  **{'encoder_layers': 2, 'encoder_attention_heads': 2},
  **{'encoder_ffn_dim': 32, 'activation_function': 'relu'},
}
W2V_BERT = {
  **{'model_type': 'wav2vec2-bert', 'hidden_size': 16},
  **{'num_hidden_layers': 2, 'num_attention_heads': 2},
  **{'intermediate_size': 32, 'hidden_act': 'swish'},
  **{'position_embeddings_type': 'relative_key', 'layer_norm_eps': 1e-5},
}
BUNDLED = ROOT / 'jaxrep/data/bundled/models/tiny-aligned/config.json'
# Folder → the model whose config.json it has, and what that model reads.
CONFIGS: Mapping[str, tuple[str, tuple[str, ...]]] = {
  'tiny': ('tiny-aligned', ('text', 'speech')),
  'v1': ('seamless-m4t-v1-large', ('text', 'speech')),
  'nllb': ('nllb-200-600m', ('text',)),
  'w2vbert': ('w2v-bert-2.0', ('speech',)),
  'whisper': ('whisper-tiny', ('speech',)),
  'llama': ('vicuna-7b-v1.5', ('text',)),
  'sonar_text': ('sonar', ('text',)),
  'sonar_speech': ('sonar', ('speech',)),
}
ABSTRACT = 0.02  # of the configs that are read, also as a network by shape


def make_configs(folder: pathlib.Path) -> None:
  from tests.ports import reference

  made = {
    'tiny': json.loads(BUNDLED.read_text()),
    'v1': reference.config('v1').to_dict(),
    'nllb': NLLB,
    'w2vbert': W2V_BERT,
    'whisper': json.loads((GOLDEN / 'salmonn/whisper/config.json').read_text()),
    'llama': json.loads((GOLDEN / 'salmonn/llama/config.json').read_text()),
    'sonar_text': SONAR['text'],
    'sonar_speech': SONAR['speech'],
  }
  for name, config in made.items():
    (folder / name).mkdir()
    (folder / name / 'config.json').write_text(json.dumps(config, indent=1))


def _opened(
  name: str, modality: str, place: Any, rng: random.Random
) -> tuple[Any, ...]:
  model = open_model(name, modality, place, fine=True)
  if rng.random() < ABSTRACT:
    _ = model.program.abstract
  return repr(model.sizes), model.taps, model.inputs.limit


def _config(folder_name: str) -> Reader:
  name, modalities = CONFIGS[folder_name]

  def read(folder: pathlib.Path, rng: random.Random) -> Any:
    place = str(folder / folder_name)
    return [_opened(name, one, place, rng) for one in modalities]

  file = f'{folder_name}/config.json'
  ways = (
    Way(file, damage.anything),
    *[Way(file, damage.fields)] * 3,
  )
  return Reader(20, make_configs, read, ways)


def make_salmonn(folder: pathlib.Path) -> None:
  golden = GOLDEN / 'salmonn'
  for name in ('whisper', 'llama'):
    shutil.copytree(golden / name, folder / name)
  shutil.copy(golden / 'beats.pt', folder / 'beats.pt')
  own = {'qformer': {'hidden_size': 20, 'layers': 2, 'heads': 5}}
  own['qformer'] |= {'intermediate_size': 56, 'encoder_width': 28}
  own |= {'window': {'frames': 17}, 'lora': {'r': 2, 'alpha': 4}}
  (folder / 'own').mkdir()
  shutil.copy(golden / 'salmonn_v1.pth', folder / 'own')
  (folder / 'own/config.json').write_text(json.dumps(own, indent=1))


def _salmonn(folder: pathlib.Path, rng: random.Random) -> Any:
  places = {
    'whisper': str(folder / 'whisper'),
    'beats': str(folder / 'beats.pt'),
    'llm': str(folder / 'llama'),
    'connector': str(folder / 'own/salmonn_v1.pth'),
  }
  return [_opened('salmonn-7b', one, places, rng) for one in ('text', 'speech')]


def make_weights(folder: pathlib.Path) -> None:
  for name in ('config.json', 'model.safetensors'):
    shutil.copy(GOLDEN / 'salmonn/whisper' / name, folder)


def _weights(folder: pathlib.Path, rng: random.Random) -> Any:
  import jax
  import numpy as np

  model = open_model('whisper-tiny', 'speech', str(folder))
  state = model.weights('float32')
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def make_checkpoints(folder: pathlib.Path) -> None:
  import torch
  from safetensors.torch import save_file

  from tests.ports.checkpoints import saved

  model = saved.weights(layers=1)
  plain = {k: v.detach().clone().contiguous() for k, v in model.items()}
  for name, protocol in (('two.pt', 2), ('four.pt', 4)):
    made = saved.fairseq(model) | {'cfg': {'layers': 2, 'name': 'x'}}
    torch.save(made, folder / name, pickle_protocol=protocol)
  torch.save(plain, folder / 'pytorch_model.bin')
  torch.save(plain, folder / 'legacy.pt', _use_new_zipfile_serialization=False)
  save_file(plain, folder / 'model.safetensors')
  for kind, name in (
    ('safetensors', 'model-0.safetensors'),
    ('bin', 'pytorch_model-0.bin'),
  ):
    (folder / kind).mkdir()
    if kind == 'bin':
      torch.save(plain, folder / kind / name)
    else:
      save_file(plain, folder / kind / name)
    index = {
      'metadata': {'total_size': 1},
      'weight_map': dict.fromkeys(plain, name),
    }
    stem = 'model.safetensors' if kind == 'safetensors' else 'pytorch_model.bin'
    (folder / kind / f'{stem}.index.json').write_text(json.dumps(index))


def _tensors(name: str) -> Read:
  def read(folder: pathlib.Path, rng: random.Random) -> Any:
    found = checkpoints.open_checkpoint(folder / name)
    return {
      key: (tensor.shape, str(tensor.dtype), tensor.read().tobytes())
      for key, tensor in found.items()
      if tensor.dtype.itemsize * math.prod(tensor.shape) < 1 << 24
    }

  return read


def _embedded(folder: pathlib.Path, rng: random.Random) -> Any:
  return checkpoints.table(folder / 'four.pt', 'cfg')


def _old(folder: pathlib.Path, rng: random.Random) -> Any:
  """Files from before PyTorch 1.6 are refused, whole ones as well."""
  with contextlib.suppress(checkpoints.CheckpointError):
    return checkpoints.open_checkpoint(folder / 'legacy.pt')


def make_tokenizers(folder: pathlib.Path) -> None:
  from tests import checkpoint

  checkpoint.save_tokenizer(folder)
  (folder / 'tokens.json').write_text(
    json.dumps({'langs': ['eng_Latn', 'fra_Latn', 'swh_Latn']})
  )


def _nllb_tokens(folder: pathlib.Path, rng: random.Random) -> Any:
  own = tokenizers.Nllb(open_source(str(folder)), {'model_type': 'm2m_100'})
  return own.encode([TEXT], 'eng_Latn')


def _llama_tokens(folder: pathlib.Path, rng: random.Random) -> Any:
  own = tokenizers.Llama(open_source(str(folder)))
  return own.encode([TEXT], 'eng')


def _seamless_tokens(folder: pathlib.Path, rng: random.Random) -> Any:
  return tokenizers.Seamless(open_source(str(folder)), {}).encode([TEXT], 'eng')


SAFE = 'model.safetensors'
INDEX = 'safetensors/model.safetensors.index.json'
BIN_INDEX = 'bin/pytorch_model.bin.index.json'
PIECES = 'tokenizer.model'
READERS = {
  **{f'config of {name}': _config(name) for name in CONFIGS},
  'config of SALMONN': Reader(
    10,
    make_salmonn,
    _salmonn,
    (
      *[Way('own/config.json', damage.fields)] * 3,
      Way('llama/config.json', damage.fields),
      Way('whisper/config.json', damage.fields),
      Way('beats.pt', mutations.damage_pickle),
    ),
  ),
  'weights of a network': Reader(
    3,
    make_weights,
    _weights,
    (Way(SAFE, mutations.damage_header), Way('config.json', damage.fields)),
  ),
  'safetensors': Reader(
    30,
    make_checkpoints,
    _tensors(SAFE),
    (Way(SAFE, mutations.damage_header), Way(SAFE, damage.anything)),
  ),
  'index of safetensors': Reader(
    15,
    make_checkpoints,
    _tensors('safetensors'),
    (Way(INDEX, mutations.damage_index), Way(INDEX, damage.fields)),
  ),
  'index of torch files': Reader(
    10,
    make_checkpoints,
    _tensors('bin'),
    (
      Way(BIN_INDEX, damage.fields),
      Way('bin/pytorch_model-0.bin', damage.anything, True),
    ),
  ),
  'torch file': Reader(
    30,
    make_checkpoints,
    _tensors('two.pt'),
    (
      Way('two.pt', damage.anything, summed=True),
      Way('two.pt', mutations.damage_pickle),
      Way('two.pt', damage.calling),
    ),
  ),
  'torch file, protocol 4': Reader(
    20,
    make_checkpoints,
    _tensors('four.pt'),
    (
      Way('four.pt', mutations.damage, summed=True),
      Way('four.pt', mutations.damage_pickle),
      Way('four.pt', damage.calling),
    ),
  ),
  'config in a torch file': Reader(
    10,
    make_checkpoints,
    _embedded,
    (Way('four.pt', mutations.damage_pickle), Way('four.pt', damage.calling)),
  ),
  'torch file of old': Reader(
    5,
    make_checkpoints,
    _old,
    (Way('legacy.pt', damage.anything),),
  ),
  'tokenizer of NLLB': Reader(
    15,
    make_tokenizers,
    _nllb_tokens,
    (Way(PIECES, damage.anything), Way('tokens.json', damage.fields)),
  ),
  'tokenizer of LLaMA': Reader(
    10, make_tokenizers, _llama_tokens, (Way(PIECES, damage.anything),)
  ),
  'tokenizer of SeamlessM4T': Reader(
    3,
    make_tokenizers,
    _seamless_tokens,
    (
      Way(PIECES, damage.anything),
      Way('tokenizer_config.json', damage.fields),
      Way('special_tokens_map.json', damage.fields),
      Way('added_tokens.json', damage.fields),
    ),
  ),
}
