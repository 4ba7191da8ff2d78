"""The kernels of a program that XLA compiled for a GPU, from its text.

The compiler tells neither what they move nor how long they take. Here each
moves what it reads and writes, and takes as long as that or its product does at
what kernels were measured to reach.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxrep.extract import hlo
from jaxrep.extract.topology import Chip

_BYTES = {'f64': 8, 's64': 8, 'u64': 8, 'f32': 4, 's32': 4, 'u32': 4}
_BYTES |= {'bf16': 2, 'f16': 2, 's8': 1, 'u8': 1, 'pred': 1}
_ARRAY = re.compile(r'(\w+)\[([\d,]*)\]')
_LINE = re.compile(
  r'\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>\(.*?\)|\S+) '
  r'(?P<kind>[\w\-]+)\((?P<operands>[^)]*)\)(?P<rest>.*)'
)
_CALLS = re.compile(r'calls=%?([\w.\-]+)')
_SCOPE = re.compile(r'op_name="([^"]*)"')
_GEMM = re.compile(r'"lhs_contracting_dimensions":(\[[^\]]*\])')
_FLASH, _DEPTHWISE = 'name = "flash_attention"', 'name = "depthwise"'
_CONVOLVED = re.compile(r'dim_labels=\w+_(\w+)->')
_EXACT = re.compile(
  r'"operand_precision":\["HIGHEST"|operand_precision=\{highest'
)
# What takes no time, and the loop, whose body is counted by itself.
_FREE = {'parameter', 'bitcast', 'get-tuple-element', 'tuple', 'constant'}
_FREE |= {'while'}
_PICKS = {'gather', 'dynamic-slice'}
# Of a card's peaks, measured on an H200: all that is no product of a step of
# SeamlessM4T v2, and a large product.
_BANDWIDTH, _PRODUCTS = 0.55, 0.8
# As long as so many products of bfloat16, measured likewise: attention of 600
# to 1500 steps, and multiply-adds that are one instruction or two each.
_FLASH_PASSES, _DEPTHWISE_PASSES = 4, 84


class Kernel(NamedTuple):
  """`moved` bytes, and `operations` of a product, `passes` of bfloat16 each.

  A product of float32 takes two passes (TF32), or None where it must be exact.
  `scope` is the place in the network, as 'jit(step)/layer_01/attention/…'.
  """

  name: str
  scope: str
  moved: int
  operations: float = 0
  passes: int | None = 1

  def seconds(self, chip: Chip) -> float:
    passes = chip.full if self.passes is None else self.passes
    return max(
      self.moved / (_BANDWIDTH * chip.bandwidth),
      self.operations * passes / (_PRODUCTS * chip.operations),
    )


class _Line(NamedTuple):
  """An instruction. `arrays` are (bytes of a number, shape) of its results."""

  name: str
  kind: str
  arrays: list[tuple[int, list[int]]]
  operands: list[str]
  rest: str

  @property
  def size(self) -> int:
    return sum(each * math.prod(shape) for each, shape in self.arrays)


def kernels(program: str) -> list[Kernel]:
  """In their order, those of a loop as often as it turns."""
  bodies = {
    name: [line for text in lines if (line := _read(text))]
    for name, lines in hlo.computations(program)
  }
  found = []
  for name, turns in hlo.turns(program).items():
    own = {line.name: line for line in bodies[name]}
    of = [_kernel(x, own, bodies) for x in own.values() if x.kind not in _FREE]
    found += turns * of
  return found


def _read(text: str) -> _Line | None:
  match = _LINE.match(text)
  if not match:
    return None
  arrays = [
    (_BYTES[kind], [int(size) for size in sizes.split(',') if size])
    for kind, sizes in _ARRAY.findall(match['type'])
    if kind in _BYTES
  ]
  listed = re.sub(r'/\*.*?\*/', '', match['operands']).split(',')
  operands = [name.strip().lstrip('%') for name in listed]
  return _Line(match['name'], match['kind'], arrays, operands, match['rest'])


def _kernel(
  line: _Line, own: Mapping[str, _Line], bodies: Mapping[str, list[_Line]]
) -> Kernel:
  inner = bodies[called[1]] if (called := _CALLS.search(line.rest)) else []
  operands = [own[name] for name in line.operands if name in own]
  moved = line.size + sum(
    min(operand.size, _read_of(inner, at, operand.size))
    for at, operand in enumerate(operands)
  )
  scope = said[1] if (said := _SCOPE.search(line.rest)) else ''
  if line.kind != 'custom-call' or not operands:
    return Kernel(line.name, scope, moved)
  return Kernel(line.name, scope, moved, *_product(line, operands))


def _read_of(inner: Sequence[_Line], at: int, size: int) -> int:
  """Of a fusion's operand: less than all where it is only picked from."""
  parameters = [line for line in inner if line.kind == 'parameter']
  name = next((x.name for x in parameters if x.operands == [str(at)]), None)
  users = [line for line in inner if name in line.operands]
  if not users or any(
    line.kind not in _PICKS or line.operands[0] != name for line in users
  ):
    return size
  return sum(line.size for line in users)


def _product(
  line: _Line, operands: Sequence[_Line]
) -> tuple[float, int | None]:
  """Operations and passes of a call of cuBLAS or cuDNN."""
  each, shape = operands[0].arrays[0]
  results = math.prod(line.arrays[0][1])
  if gemm := _GEMM.search(line.rest):
    contracted = math.prod(shape[int(axis)] for axis in json.loads(gemm[1]))
  elif _FLASH in line.rest:
    keys = operands[1].arrays[0][1][1]
    return 4.0 * math.prod(shape) * keys, _FLASH_PASSES
  elif _DEPTHWISE in line.rest:
    positions = operands[1].arrays[0][1][0]
    return 2.0 * math.prod(shape) * positions, _DEPTHWISE_PASSES
  elif convolved := _CONVOLVED.search(line.rest):
    kernel = operands[1].arrays[0][1]
    contracted = math.prod(kernel) // kernel[convolved[1].index('o')]
  else:
    return 0.0, 1
  exact = None if _EXACT.search(line.rest) else 2
  return 2.0 * results * contracted, 1 if each == 2 else exact
