"""What the text of a program that XLA compiled says beyond its analyses."""

import collections
import re
from collections.abc import Iterator, Sequence

_HEAD = re.compile(r'(ENTRY )?%?(\S+) \(.*\{$')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_KERNEL = re.compile(
  r'custom_call_target="tpu_custom_call", '
  r'operand_layout_constraints=\{(?P<operands>.*?\})\}, .*'
  r'/(?P<name>flash_attention|depthwise)/.*'
  r'"flops":"(?P<flops>\d+)","transcendentals":"(?P<exponentials>\d+)"'
)
_LOOP = re.compile(r' while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)')
_BOUND = re.compile(r'%?(\S+) = s32\[\]\S* constant\((\d+)\)')
_BELOW = re.compile(r'ROOT .* compare\(.*%([\w.\-]+)\), direction=LT')
_COLLECTIVE = re.compile(
  r'= (?P<shape>\(?\w+\[[\d,]*\].*?) '
  r'(?P<name>all-gather|all-reduce|reduce-scatter|all-to-all'
  r'|collective-permute|collective-broadcast|ragged-all-to-all)'
  r'(-start)?\('
)
_SHAPE = re.compile(r'\w+\[([\d,]*)\]')


def collectives(program: str) -> dict[str, list[tuple[int, ...]]]:
  """Kind of collective → the shape that each one of it gives, by its place.

  Of one that is started and ended apart, the largest of the shapes is told.
  """
  found = collections.defaultdict(list)
  for match in _COLLECTIVE.finditer(program):
    shapes = [
      tuple(int(size) for size in sizes.split(',') if size)
      for sizes in _SHAPE.findall(match['shape'])
    ]
    found[match['name']].append(max(shapes, key=_size))
  return dict(found)


def cycles(program: str) -> int:
  """What the TPU's compiler reckons with, of one core, loops by their turns.

  It says nothing of gathers, nor of waiting for another chip. Of a kernel in
  Pallas it knows what it was told; its cycles are reckoned by that.
  """
  bodies = dict(computations(program))
  return sum(
    count * _cycles(line)
    for name, count in turns(program).items()
    for line in bodies[name]
  )


def _cycles(line: str) -> int:
  """Of a kernel as its schedules for a v5e have it, of 64 to 1,500 steps.

  Attention takes about 200 bundles a block of 128 queries, and 7 for a register
  of scores, 8 × 128, or 12 with positions: then it has six operands. The
  depthwise convolution takes 300 for 128 channels of a row, and 25 for a
  register, of 31 positions.
  """
  if said := _CYCLES.search(line):
    return int(said[1])
  if not (kernel := _KERNEL.search(line)):
    return 0
  operands = _SHAPE.findall(kernel['operands'])
  batch, time, width = (int(size) for size in operands[0].split(','))
  tiles = batch * (width // 128)
  if kernel['name'] == 'depthwise':
    return 300 * tiles + int(kernel['flops']) * 25 // (2 * 31 * 1024)
  registers = int(kernel['exponentials']) // 1024
  blocks = tiles * -(-time // 128)
  return 200 * blocks + (12 if len(operands) == 6 else 7) * registers


def turns(program: str) -> dict[str, int]:
  """How often what is run is run: ENTRY, and the bodies of its loops.

  A loop that does not count up from 0 to a constant is taken to turn once.
  """
  bodies = dict(computations(program))
  found: collections.Counter[str] = collections.Counter()

  def run(name: str, times: int) -> None:
    found[name] += times
    for line in bodies.get(name, ()):
      if loop := _LOOP.search(line):
        run(loop[2], times * _turns(bodies.get(loop[1], ())))

  run('ENTRY', 1)
  return {name: times for name, times in found.items() if name in bodies}


def _turns(condition: Sequence[str]) -> int:
  """Of a loop, by the lines of its condition: `counter < constant`."""
  text = '\n'.join(condition)
  bounds = dict(_BOUND.findall(text))
  below = _BELOW.search(text)
  return int(bounds.get(below[1], 1)) if below else 1


def computations(program: str) -> Iterator[tuple[str, list[str]]]:
  """Name → lines of each; the one that is run is called ENTRY."""
  name, lines = '', []
  for line in program.splitlines():
    if head := _HEAD.match(line):
      name, lines = 'ENTRY' if head[1] else head[2], []
    elif line.startswith('}') and name:
      yield name, lines
      name = ''
    else:
      lines.append(line)


def _size(shape: tuple[int, ...]) -> int:
  total = 1
  for side in shape:
    total *= side
  return total
