"""How the references' own tools prepare a batch.

Each function makes what turns a list of items into the arguments of a module
and the masks of its valid steps, by the number of steps. Items are padded to
`length` of them, without one to the longest; clips of 30 s stay as they are.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import SeamlessM4TFeatureExtractor, WhisperFeatureExtractor

from jaxrep.audio import frontends
from jaxrep.types import SAMPLE_RATE

Prepare = Callable[
  [list[np.ndarray], int | None],
  tuple[dict[str, Any], dict[int, torch.Tensor]],
]
WINDOW, HOP = 400, 160  # samples, of the extractor's frames
SLOTS = 89  # <s> and SALMONN's 88 audio tokens


def seamless() -> Prepare:
  """Behind the length adaptor, of stride 8, there are n // 8 + 1 steps."""
  extractor = SeamlessM4TFeatureExtractor()

  def prepare(batch, length=None):
    padding = {}
    if length is not None:
      frames = (length - WINDOW) // HOP + 1
      padding = {'padding': 'max_length', 'max_length': frames}
    found = extractor(
      batch, sampling_rate=SAMPLE_RATE, return_tensors='pt', **padding
    )
    mask = found['attention_mask']
    adapted = mask.sum(1) // 8 + 1
    short = torch.arange(mask.shape[1] // 8 + 1)[None] < adapted[:, None]
    arguments = {
      'input_features': found['input_features'],
      'attention_mask': mask,
    }
    return arguments, {short.shape[1]: short, mask.shape[1]: mask}

  return prepare


def tokens() -> Prepare:
  def prepare(batch, length=None):
    steps = length or max(map(len, batch))
    ids = torch.zeros(len(batch), steps, dtype=torch.long)
    for row, item in zip(ids, batch, strict=True):
      row[: len(item)] = torch.tensor(item)
    mask = (ids != 0).long()
    arguments = {'input_ids': ids, 'attention_mask': mask}
    return arguments, {mask.shape[1]: mask}

  return prepare


def decoder_tokens() -> Prepare:
  """The first token of a language model's sequence is not the text's own."""
  whole = tokens()

  def prepare(batch, length=None):
    arguments, masks = whole(batch, length)
    return arguments, {
      steps: mask * (torch.arange(steps) > 0) for steps, mask in masks.items()
    }

  return prepare


def whisper() -> Prepare:
  """All of the 30 s count, silence included."""
  extractor = WhisperFeatureExtractor()

  def prepare(batch, length=None):
    found = extractor(batch, sampling_rate=SAMPLE_RATE, return_tensors='pt')
    return {'input_features': found['input_features']}, {}

  return prepare


def beats() -> Prepare:
  """The fbank is made once and given for nothing; the clips have one length."""
  made: dict[bytes, torch.Tensor] = {}

  def prepare(batch, length=None):
    key = batch[0][:64].tobytes()
    if key not in made:
      clips = np.stack(batch)
      lengths = np.full(len(batch), clips.shape[1], np.int32)
      fbank, _ = frontends.BEATS.features(clips, lengths)
      made[key] = torch.tensor(np.asarray(fbank))
    return {'fbank': made[key]}, {}

  return prepare


def salmonn() -> Prepare:
  spoken, sound = whisper(), beats()
  own = torch.arange(SLOTS)[None] > 0

  def prepare(batch, length=None):
    mels = spoken(batch)[0]['input_features']
    return {'mels': mels, **sound(batch)[0]}, {SLOTS: own}

  return prepare
