"""What a config says of a network's sizes, and refusals of what it may not."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from ports.checkpoints import CheckpointError

LARGEST = 1 << 24  # of a size; the largest vocabulary is a quarter of a million
DEEPEST = 1000  # of layers, each of which is built
MAY_BE_ZERO = re.compile('_(id|idx)$|_position_embeddings$')
MAY_BE_NULL = ('speech_encoder_chunk_size',)  # then speech is not cut
MAY_BE_NEGATIVE = ('speech_encoder_left_chunk_num',)  # then all is seen
SHOWN = 200  # characters of a value in a message

# Fields that transformers writes into every config.json.
TRANSFORMERS_FIELDS = (
  r'^(_name_or_path|architectures|torch_dtype|dtype|transformers_version)$',
  r'^(chunk_size_feed_forward|id2label|label2id|problem_type|return_dict)$',
  r'^(is_encoder_decoder|tie_word_embeddings|use_cache)$',
  r'^(output_attentions|output_hidden_states|task_specific_params)$',
)


class ConfigError(CheckpointError):
  """A config value that the port does not handle."""


def read_config(
  config: Mapping[str, Any],
  defaults: Mapping[str, Any],
  required: Mapping[str, Any],
  unread: tuple[str, ...],
) -> dict[str, Any]:
  """The values of `defaults`, as the config has them.

  A value is of its default's kind: a size from 1 up, a positive number, a
  truth, or a table; where the default is None, whatever it is. A required value
  may be a pattern, for fields that describe in words.

  Raises:
    ConfigError: Lists fields that are in none of the tables, fields whose value
      is not the required one, and values that are no sizes.
  """
  problems = []
  for name, value in config.items():
    shown = f'{short(name)}={short(repr(value))}'
    if name in required:
      if not _is(value, required[name]):
        problems.append(f'{shown}: only {required[name]!r} is handled')
    elif name in defaults:
      if why := fault(name, value, defaults[name]):
        problems.append(f'{shown}: {why}')
    elif not any(re.search(p, name) for p in unread):
      problems.append(f'{shown}: unknown')
  if problems:
    raise ConfigError(
      'config.json asks for what this port does not handle:\n  '
      + '\n  '.join(problems)
    )
  values = {name: config.get(name, value) for name, value in defaults.items()}
  return {
    name: float(value) if isinstance(defaults[name], float) else value
    for name, value in values.items()
  }


def fault(name: str, value: Any, like: Any) -> str:
  """What is needed where a value is not of the kind of another; else ''."""
  if isinstance(like, Mapping):
    return '' if isinstance(value, Mapping) else 'a table of fields is needed'
  if isinstance(like, bool):
    return '' if isinstance(value, bool) else 'true or false is needed'
  if isinstance(like, float):
    number = type(value) in (int, float) and 0 < value < math.inf
    return '' if number else 'a number above 0 is needed'
  if not isinstance(like, int) or (value is None and name in MAY_BE_NULL):
    return ''
  least = 0 if MAY_BE_ZERO.search(name) else 1
  least = -1 if name in MAY_BE_NEGATIVE else least
  most = DEEPEST if name.endswith('layers') else LARGEST
  if type(value) is int and least <= value <= most:
    return ''
  return f'a whole number from {least} to {most} is needed'


def whole(name: str, value: Any) -> int:
  """A size; refuses what is none."""
  if why := fault(name, value, 1):
    raise ConfigError(f'{name}={short(repr(value))}: {why}.')
  return value


def check_parts(values: Mapping[str, Any], whole: str, parts: str) -> None:
  """Refuses a size that is no multiple of the one that divides it."""
  if values[whole] % values[parts]:
    raise ConfigError(
      f'{whole}={values[whole]} is no multiple of {parts}={values[parts]}.'
    )


def take(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
  """The values that are fields of a config class."""
  names = {field.name for field in dataclasses.fields(cls)}
  return {name: value for name, value in values.items() if name in names}


def short(text: str) -> str:
  """Text from a file as a message can hold it: printable and short."""
  text = text if text.isprintable() else ascii(text)
  return text if len(text) <= SHOWN else f'{text[:SHOWN]}…'


def _is(value: Any, required: Any) -> bool:
  if isinstance(required, re.Pattern):
    return isinstance(value, str) and bool(required.fullmatch(value))
  return value == required
