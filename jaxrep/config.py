"""Frozen dataclasses as absl flags."""

import dataclasses
import sys
from typing import Any, Literal, TypeVar, get_args, get_origin

from absl import flags

Config = TypeVar('Config')


def flag(default: Any, help: str) -> Any:
  """A field of a job's Config, with its default and its line in --help."""
  return dataclasses.field(default=default, metadata={'help': help})


def define(cls: type) -> None:
  """Defines one flag for every field of a Config."""
  for field in dataclasses.fields(cls):
    help = field.metadata['help']
    kind, default = field.type, field.default
    if get_origin(kind) is Literal:
      flags.DEFINE_enum(field.name, default, list(get_args(kind)), help)
    elif get_origin(kind) is tuple:
      flags.DEFINE_list(field.name, list(default), help)
    else:
      DEFINERS[kind](field.name, default, help)
    flags.FLAGS.register_key_flag_for_module(
      sys.argv[0], flags.FLAGS[field.name]
    )


DEFINERS = {
  str: flags.DEFINE_string,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  bool: flags.DEFINE_bool,
}


def parsed(cls: type[Config], values: flags.FlagValues = flags.FLAGS) -> Config:
  """The Config that the command line asks for."""
  found = {}
  for field in dataclasses.fields(cls):
    value = values[field.name].value
    found[field.name] = tuple(value) if isinstance(value, list) else value
  return cls(**found)
