"""Pickles read by a machine that can build data and do nothing else.

`pickletools` cuts a pickle into opcodes, and this file says what each one
does. No class is made, no function of the pickle's choice is called, nothing
is imported. Time and memory grow with the length of the pickle alone: no
opcode reserves room for what is not there (the memo is a dict), none goes
through what an earlier one built, and nothing nested or long is ever hashed,
compared, or printed.
"""

import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

MAX_NAME = 1000  # of a key, a module, a class


class Inert:
  """Stands for whatever is not data; keeps nothing, whatever is done to it."""


INERT = Inert()


class Call(NamedTuple):
  """A function of ours that takes the place of one that a pickle names."""

  function: Callable[[tuple], Any]


# What training tools leave in a checkpoint beside the weights. A pickle may
# name these, and each becomes INERT; whatever else it names has the whole
# file refused. Safety does not hang on this table, since nothing in it is ever
# called. It is kept to what only builds objects so that a file with more in it
# is reported.
_BUILTINS = {
  *('bool', 'bytearray', 'bytes', 'complex', 'dict', 'float', 'frozenset'),
  *('int', 'list', 'long', 'object', 'range', 'set', 'slice', 'str', 'tuple'),
  *('unicode', 'xrange'),
}
_NUMBERS = {
  *(f'{sign}int{bits}' for sign in ('', 'u') for bits in (8, 16, 32, 64)),
  *('bool', 'float16', 'float32', 'float64', 'complex64', 'complex128'),
}
_PATHS = {
  *('Path', 'PosixPath', 'WindowsPath'),
  *('PurePath', 'PurePosixPath', 'PureWindowsPath'),
}
_ARRAYS = {'_reconstruct', 'scalar'}
_TYPING = {'Any', 'Dict', 'List', 'Optional', 'Tuple', 'Union'}
HARMLESS: dict[str, set[str]] = {
  'argparse': {'Namespace'},  # the options of a run
  'torch': _NUMBERS | {'bfloat16', 'device', 'Size'},  # how it was trained
  'torch.torch_version': {'TorchVersion'},  # a string
  'numpy': _NUMBERS | {'bool_', 'dtype', 'ndarray'},  # losses, random state
  'numpy.core.multiarray': _ARRAYS,
  'numpy._core.multiarray': _ARRAYS,  # the same since NumPy 2
  'numpy.core.numeric': {'_frombuffer'},  # arrays in protocol 5
  'numpy._core.numeric': {'_frombuffer'},
  '_codecs': {'encode'},  # bytes in protocol 2
  'collections': {'Counter', 'defaultdict', 'deque'},  # statistics
  'datetime': {'date', 'datetime', 'time', 'timedelta', 'timezone'},
  'pathlib': _PATHS,  # where data and logs were
  'pathlib._local': _PATHS,  # the same in Python 3.13
  'typing': _TYPING,  # omegaconf notes the type of a field
  'builtins': _BUILTINS,
  '__builtin__': _BUILTINS,  # the same in protocol 2
  'copyreg': {'_reconstructor'},  # objects of classes above, protocol 0 and 1
  'copy_reg': {'_reconstructor'},
}
# Configurations, enumerations and meters of the trainers themselves.
HARMLESS_PACKAGES = ('fairseq', 'fairseq2', 'omegaconf')


def is_harmless(module: str, name: str) -> bool:
  """Whether a pickle may name this; it becomes INERT."""
  if module.split('.')[0] in HARMLESS_PACKAGES:
    # A dotted name reaches through a module to what that module imports.
    return '.' not in name
  return name in HARMLESS.get(module, ())


class Machine:
  """The state of a pickle that is being read.

  Args:
    find: What a global name stands for: INERT, a `Call`, or plain data.
    persistent: What a persistent id stands for.
  """

  def __init__(
    self, find: Callable[[str, str], Any], persistent: Callable[[Any], Any]
  ):
    self.find, self.persistent = find, persistent
    self.stack: list[Any] = []
    self.outer: list[list[Any]] = []  # the stacks below each open mark
    self.memo: dict[int, Any] = {}

  def run(self, pickled: bytes) -> Any:
    """The object of the pickle.

    Raises:
      ValueError: The pickle is damaged, or not of the kind that torch.save
        writes; also whatever `find` and `persistent` raise.
    """
    for opcode, argument, _ in pickletools.genops(pickled):
      operation = OPERATIONS.get(opcode.name)
      if operation is None:
        raise ValueError(f'torch.save does not write the opcode {opcode.name}')
      operation(self, argument)
    value = self.pop()
    if self.stack or self.outer:
      raise ValueError('values are left over')
    return value

  def push(self, value: Any):
    self.stack.append(value)

  def top(self) -> Any:
    if not self.stack:
      raise ValueError('a value is missing')
    return self.stack[-1]

  def pop(self) -> Any:
    value = self.top()
    del self.stack[-1]
    return value

  def mark(self):
    self.outer.append(self.stack)
    self.stack = []

  def unmark(self) -> list[Any]:
    """Everything since the last mark, which is gone then."""
    if not self.outer:
      raise ValueError('a mark is missing')
    items, self.stack = self.stack, self.outer.pop()
    return items

  def name(self, module: Any, name: Any):
    if type(module) is not str or type(name) is not str:
      raise ValueError('a global without a name')
    if len(module) > MAX_NAME or len(name) > MAX_NAME:
      raise ValueError('a global with a name of no end')
    self.push(self.find(module, name))

  def call(self, function: Any, arguments: Any):
    if type(arguments) is not tuple:
      raise ValueError('arguments that are not a tuple')
    if type(function) is Call:
      self.push(function.function(arguments))
    elif function is INERT:
      self.push(INERT)
    else:
      raise ValueError('a call of what is not a function')

  def recall(self, index: int):
    if index not in self.memo:
      raise ValueError('a reference to nothing')
    self.push(self.memo[index])


def _is_key(value: Any) -> bool:
  """Whether a value may be a key: flat, short, and not made to collide.

  Python hashes integers modulo 2 ** 61 - 1, so larger ones can be chosen to
  have one hash, which makes a dict of them quadratic.
  """
  if type(value) in (str, bytes):
    return len(value) <= MAX_NAME
  if type(value) is int:
    return value.bit_length() <= 60
  return value is None or type(value) in (bool, float)


def _set_items(target: Any, items: list[Any]):
  if len(items) % 2:
    raise ValueError('a key without a value')
  if target is INERT:
    return
  if type(target) is not dict:
    raise ValueError('keys in what is not a dict')
  for key, value in zip(items[::2], items[1::2], strict=True):
    # Parameters have names; whatever has another key is none.
    if _is_key(key):
      target[key] = value


def _extend(target: Any, items: list[Any]):
  if type(target) is list:
    target.extend(items)
  elif target is not INERT:
    raise ValueError('items in what is not a list')


def _nothing(machine: Machine, argument: Any):
  del machine, argument


def _argument(machine: Machine, argument: Any):
  machine.push(argument)


def _new(make: Callable[[], Any]) -> Callable[[Machine, Any], None]:
  return lambda machine, _: machine.push(make())


def _tuple(size: int) -> Callable[[Machine, Any], None]:
  def operation(machine: Machine, _: Any):
    items = [machine.pop() for _ in range(size)]
    machine.push(tuple(reversed(items)))

  return operation


def _build(machine: Machine, _: Any):
  """Attributes of an object: dropped. A state dict has `_metadata` there."""
  machine.pop()
  if type(machine.top()) is not dict and machine.top() is not INERT:
    raise ValueError('attributes of what is not an object')


def _item(machine: Machine, _: Any):
  value, key = machine.pop(), machine.pop()
  _set_items(machine.top(), [key, value])


def _append(machine: Machine, _: Any):
  value = machine.pop()
  _extend(machine.top(), [value])


def _items(machine: Machine, _: Any):
  items = machine.unmark()
  _set_items(machine.top(), items)


def _appends(machine: Machine, _: Any):
  items = machine.unmark()
  _extend(machine.top(), items)


def _frozenset(machine: Machine, _: Any):
  machine.unmark()
  machine.push(INERT)


def _global(machine: Machine, argument: str):
  module, _, name = argument.partition(' ')
  machine.name(module, name)


def _stack_global(machine: Machine, _: Any):
  name, module = machine.pop(), machine.pop()
  machine.name(module, name)


def _call(machine: Machine, _: Any):
  arguments, function = machine.pop(), machine.pop()
  machine.call(function, arguments)


def _call_with_names(machine: Machine, _: Any):
  machine.pop()
  _call(machine, None)


def _memoize(machine: Machine, _: Any):
  machine.memo[len(machine.memo)] = machine.top()


def _put(machine: Machine, index: int):
  machine.memo[index] = machine.top()


def _get(machine: Machine, index: int):
  machine.recall(index)


# The opcodes of protocols 2 to 5. Those of 0 and 1, the registry of extensions
# and buffers outside the pickle are not here: torch.save uses none of them.
OPERATIONS: dict[str, Callable[[Machine, Any], None]] = {
  **dict.fromkeys(('PROTO', 'FRAME', 'STOP'), _nothing),
  **dict.fromkeys(('BININT', 'BININT1', 'BININT2', 'LONG1'), _argument),
  **dict.fromkeys(('LONG4', 'BINFLOAT', 'BINUNICODE'), _argument),
  **dict.fromkeys(('SHORT_BINUNICODE', 'BINUNICODE8'), _argument),
  **dict.fromkeys(('SHORT_BINBYTES', 'BINBYTES', 'BINBYTES8'), _argument),
  'BYTEARRAY8': _argument,
  'NONE': _new(lambda: None),
  'NEWTRUE': _new(lambda: True),
  'NEWFALSE': _new(lambda: False),
  'EMPTY_DICT': _new(dict),
  'EMPTY_LIST': _new(list),
  'EMPTY_TUPLE': _new(tuple),
  'EMPTY_SET': _new(lambda: INERT),
  'MARK': lambda machine, _: machine.mark(),
  'POP': lambda machine, _: machine.pop(),
  'POP_MARK': lambda machine, _: machine.unmark(),
  'TUPLE': lambda machine, _: machine.push(tuple(machine.unmark())),
  'TUPLE1': _tuple(1),
  'TUPLE2': _tuple(2),
  'TUPLE3': _tuple(3),
  'APPEND': _append,
  'APPENDS': _appends,
  'SETITEM': _item,
  'SETITEMS': _items,
  'ADDITEMS': _appends,
  'FROZENSET': _frozenset,
  'GLOBAL': _global,
  'STACK_GLOBAL': _stack_global,
  'REDUCE': _call,
  'NEWOBJ': _call,
  'NEWOBJ_EX': _call_with_names,
  'BUILD': _build,
  'BINPERSID': lambda machine, _: machine.push(
    machine.persistent(machine.pop())
  ),
  'MEMOIZE': _memoize,
  'BINPUT': _put,
  'LONG_BINPUT': _put,
  'BINGET': _get,
  'LONG_BINGET': _get,
}
