"""Frozen dataclasses as absl flags."""

import dataclasses
import sys
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, get_args, get_origin

from absl import flags

Config = TypeVar('Config')


def flag(default: Any, help: str) -> Any:
  """A field of a job's Config, with its default and its line in --help."""
  return dataclasses.field(default=default, metadata={'help': help})


def define(cls: type, others: Iterable[type] = ()) -> None:
  """Defines a flag for every field of a Config, and shows it in --help.

  The fields of `others` are accepted too, so that one flagfile serves all jobs.
  """
  for field in dataclasses.fields(cls):
    _define(field)
    known = flags.FLAGS[field.name]
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], known)
  for other in others:
    for field in dataclasses.fields(other):
      if field.name not in flags.FLAGS:
        _define(field)


def _define(field: dataclasses.Field) -> None:
  help = field.metadata['help']
  kind, default = field.type, field.default
  if get_origin(kind) is Literal:
    flags.DEFINE_enum(field.name, default, list(get_args(kind)), help)
  elif get_origin(kind) is tuple:
    flags.DEFINE_list(field.name, list(default), help)
  else:
    DEFINERS[kind](field.name, default, help)


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
