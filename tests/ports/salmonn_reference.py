"""A tiny SALMONN of transformers', peft's and PyTorch's parts, and its files.

`tests/golden/salmonn` holds what SALMONN itself computes.
"""

import json
import pathlib
import shutil

import numpy as np
import torch
from torch import nn

from tests.ports import (
  beats_reference,
  reference,
  test_llama,
  test_qformer,
  test_whisper,
)

TOKENIZER = (
  pathlib.Path(__file__).parents[1] / 'golden/salmonn/llama/tokenizer.model'
)
SIZES = {
  'whisper': {'encoder_layers': 2, 'encoder_attention_heads': 2},
  'beats': {'encoder_layers': 2},
  'qformer': {},
  'llama': {
    'hidden_size': 64,
    'num_attention_heads': 8,
    'intermediate_size': 96,
    'num_hidden_layers': 2,
    'vocab_size': 420,
  },
}
FRAMES, WINDOWS = 17, 88


class Salmonn(nn.Module):
  """Both encoders, the Q-Former between, and the language model with LoRA."""

  def __init__(self, sizes: dict[str, dict]):
    super().__init__()
    self.whisper = test_whisper.model(**sizes['whisper'])
    self.beats = beats_reference.model(**sizes['beats'])
    language = test_llama.model(**sizes['llama'])
    dim = language.config.hidden_size
    speech = self.whisper.config.d_model
    audio = self.beats.post_extract_proj.out_features
    self.qformer = test_qformer.model(speech + audio, **sizes['qformer'])
    width = self.qformer.config.hidden_size
    self.joints = reference.redraw(joints_of(speech, audio, width, dim), 11)
    query = test_qformer.query({'hidden_size': width})
    self.query = nn.Parameter(torch.tensor(query))
    self.llm = test_llama.adapted(language)


def joints_of(speech: int, audio: int, width: int, dim: int) -> nn.ModuleDict:
  """What stands between the networks, by its names in SALMONN's file."""
  return nn.ModuleDict(
    {
      'ln_speech': nn.LayerNorm(speech),
      'ln_audio': nn.LayerNorm(audio),
      'speech_llama_proj': nn.Linear(width, dim),
    }
  )


def sizes_of(**changes: dict) -> dict[str, dict]:
  """Of every part: `whisper`, `beats`, `qformer` and `llama`."""
  assert changes.keys() <= SIZES.keys()
  return {part: SIZES[part] | changes.get(part, {}) for part in SIZES}


def save(folder, **changes: dict) -> Salmonn:
  """A folder as people have it: two of the hub, and two files."""
  sizes = sizes_of(**changes)
  test_whisper.save(folder / 'whisper', **sizes['whisper'])
  beats_reference.save(folder / 'beats.pt', **sizes['beats'])
  made = Salmonn(sizes).eval()
  test_llama.save(folder / 'llama', made.llm)
  shutil.copy(TOKENIZER, folder / 'llama')
  torch.save(
    {
      'model': connector(made),
      'optimizer': {'state': {0: {'step': 3, 'exp_avg': torch.ones(9)}}},
      'config': {'model': {'lora_rank': test_llama.LORA['r']}},
      'scaler': None,
      'epoch': 1,
    },
    folder / 'salmonn_v1.pth',
  )
  (folder / 'config.json').write_text(json.dumps(tables(sizes)))
  return made


def tables(sizes: dict[str, dict]) -> dict[str, dict]:
  """The config.json beside SALMONN's own file."""
  return {
    'qformer': test_qformer.TINY | sizes['qformer'],
    'window': {
      'second_per_window': 0.333333,
      'second_stride': 0.333333,
      'frames': FRAMES,
      'stride': FRAMES,
      'windows': WINDOWS,
    },
    'lora': test_llama.LORA,
  }


def connector(made: Salmonn) -> dict[str, torch.Tensor]:
  """SALMONN's own file: what was trained, and harmless buffers."""
  tensors = {'speech_query_tokens': made.query.detach()}
  tensors |= made.joints.state_dict()
  for key, value in test_qformer.released(made.qformer).items():
    tensors[f'speech_Qformer.{key}'] = value
  tensors |= test_llama.adapters(made.llm)
  positions = torch.arange(512)[None]
  tensors['speech_Qformer.bert.embeddings.position_ids'] = positions
  depth = made.llm.config.num_hidden_layers
  for i in range(depth):
    layer = f'llama_model.base_model.model.model.layers.{i}.self_attn'
    tensors[f'{layer}.rotary_emb.inv_freq'] = torch.ones(4)
  for i, layer in enumerate(made.beats.encoder.layers):
    key = f'beats.encoder.layers.{i}.self_attn.relative_attention_bias.weight'
    if i:
      tensors[key] = layer.self_attn.relative_attention_bias.weight
  return {key: value.detach().clone() for key, value in tensors.items()}


def speech_states(
  made: Salmonn,
  mel: np.ndarray,
  fbank: np.ndarray,
  before: tuple[int, ...],
  after: tuple[int, ...],
) -> dict[str, np.ndarray]:
  """Our tap → [time, dim] of one recording; the prompt's steps are in it.

  Args:
    mel: Whisper's log-mel frames [3000, mel] of 30 s.
    fbank: BEATs' normalised fbank [frame, bin] of the audio as it is.
    before, after: Token ids of the prompt around the audio.
  """
  found = named('whisper', test_whisper.states(made.whisper.model.encoder, mel))
  found |= named('beats', beats_reference.states(made.beats, fbank))
  layers = len(made.beats.encoder.layers)
  spoken = torch.tensor(found['speech/whisper_output'])
  sound = torch.tensor(found[f'speech/beats_layer_{layers:02}'])
  with torch.no_grad():
    speech = made.joints['ln_speech'](spoken)
    audio = made.joints['ln_audio'](sound)
    silence = torch.zeros(len(speech) - len(audio), audio.shape[1])
    audio = torch.cat([audio, silence])
    both = torch.cat([speech, audio], dim=1)
    windows = both.unfold(0, FRAMES, FRAMES).transpose(1, 2)
  assert len(windows) == WINDOWS
  query = made.query.detach().numpy()
  found |= test_qformer.states(made.qformer, query, windows.numpy())
  depth = made.qformer.config.num_hidden_layers
  read = torch.tensor(found[f'speech/qformer_{depth:02}'])
  with torch.no_grad():
    tokens = made.joints['speech_llama_proj'](read)
  found |= {
    'speech/fused/speech': speech.numpy(),
    'speech/fused/audio': audio.numpy(),
    'speech/fused': both.numpy(),
    'speech/audio_tokens': tokens.numpy(),
  }
  return found | spliced(made, tokens, before, after)


def spliced(
  made: Salmonn,
  tokens: torch.Tensor,
  before: tuple[int, ...],
  after: tuple[int, ...],
) -> dict[str, np.ndarray]:
  """The language model's stages of `<s>`, the prompt and audio between."""
  table = made.llm.get_input_embeddings()
  with torch.no_grad():
    embeds = torch.cat(
      [table(torch.tensor([1, *before])), tokens, table(torch.tensor(after))]
    )
  found = test_llama.states(made.llm, inputs_embeds=embeds[None])
  return {name.replace('text/', 'speech/'): x for name, x in found.items()}


def named(part: str, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  return {n.replace('speech/', f'speech/{part}_'): x for n, x in found.items()}
