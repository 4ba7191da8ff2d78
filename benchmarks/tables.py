"""README's table of speed, SPEED.md and the plot, from benchmarks/results.

    python -m benchmarks.tables

Of every case and machine the last row counts. Ratios say how many times as long
the other side takes.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from absl import app

from benchmarks import harness

PAGE = harness.RESULTS.parent / 'SPEED.md'
README = harness.RESULTS.parents[1] / 'README.md'
PLOT = harness.RESULTS / 'extraction.png'
BEGIN, END = '<!-- speed: python -m benchmarks.tables -->', '<!-- /speed -->'
DTYPES = ('float32', 'bfloat16')
LAYERS = 4  # where nothing else is said
SIDES = ('jaxrep', 'best', 'eager')
HEAD = (
  '',
  'dtype',
  'at its best: CPU',
  'wall',
  'as people run it: CPU',
  'wall',
  'peak GB: ours, best, eager',
  'of the matmul peak',
  'first call, s: ours, best',
)

Row = Mapping[str, Any]


def main(_) -> None:
  rows = latest(read('extraction'))
  README.write_text(placed(README.read_text(), overview(rows)))
  PAGE.write_text(page(rows))
  plot(rows, PLOT)


def read(benchmark: str) -> list[Row]:
  """Rows that name both sides of PyTorch, oldest first."""
  lines = (harness.RESULTS / f'{benchmark}.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [row for row in rows if 'eager' in row['ratios']]


def latest(rows: Iterable[Row]) -> list[Row]:
  """One row a case and machine, sorted by these."""
  found = {}
  for row in rows:
    case = row['case']
    names = ('model', 'modality', 'items', 'layers', 'dtype')
    key = tuple(case[name] for name in names)
    found[place(row), *key] = row
  return [found[key] for key in sorted(found)]


def place(row: Row) -> str:
  """The machine that a row was measured on."""
  machine = row['machine']
  chip = machine['cpu'].replace('(R)', '').removesuffix(' Processor')
  where = f'{machine["cores"]} cores of {chip}'
  if machine['device'].endswith('cpu'):
    return where
  return f'{machine["device"]}, {where}'.replace(' x ', ' × ')


def by_place(rows: Iterable[Row]) -> dict[str, list[Row]]:
  found: dict[str, list[Row]] = {}
  for row in rows:
    found.setdefault(place(row), []).append(row)
  return found


def overview(rows: list[Row]) -> str:
  """A line a case: both sides' times over ours, by machine and dtype."""
  cells = {
    (title(row['case']), place(row), row['case']['dtype']): ' / '.join(
      f'{row["ratios"][side][clock(row)]["median"]:.1f}'
      for side in ('best', 'eager')
    )
    for row in rows
  }
  columns = [
    (one, dtype)
    for one, own in by_place(rows).items()
    for dtype in DTYPES
    if any(row['case']['dtype'] == dtype for row in own)
  ]
  return markdown(
    ('', *(f'{one}, {dtype}' for one, dtype in columns)),
    [
      (name, *(cells.get((name, *column), '—') for column in columns))
      for name in sorted({name for name, *_ in cells})
    ],
  )


def page(rows: list[Row]) -> str:
  parts = [TEXT]
  for name, own in by_place(rows).items():
    rates = {
      dtype: max(
        row['case']['matmul_gflop_per_s']
        for row in own
        if row['case']['dtype'] == dtype
      )
      for dtype in {row['case']['dtype'] for row in own}
    }
    machine = own[-1]['machine']
    versions = ', '.join(f'{x} {machine[x]}' for x in ('jax', 'torch'))
    peaks = ', '.join(f'{rates[x]:,.0f} in {x}' for x in DTYPES if x in rates)
    parts.append(
      f'## {name}\n\n{versions}; GFLOP/s of a matrix product in JAX: {peaks}.'
      '\n\n' + markdown(HEAD, [line(row, rates) for row in own])
    )
  return '\n\n'.join(parts) + '\n'


def line(row: Row, rates: Mapping[str, float]) -> tuple[str, ...]:
  case, ratios = row['case'], row['ratios']
  rate = case['gflop'] / row['timings']['jaxrep']['wall']['median']
  peaks = first = '—'
  if 'shapes' in case:  # else they were not measured as they are now
    gigabytes = (row['peak_memory_mb'][x] / 1e3 for x in SIDES)
    peaks = ', '.join(f'{x:.1f}' for x in gigabytes)
    seconds = (row['first_call'][x] for x in ('jaxrep', 'best'))
    first = ', '.join(f'{x:.0f}' for x in seconds)
  return (
    title(case) + depth(case),
    case['dtype'],
    *(times(ratios[x][c]) for x in ('best', 'eager') for c in ('cpu', 'wall')),
    peaks,
    f'{rate / rates[case["dtype"]]:.0%}',
    first,
  )


def title(case: Row) -> str:
  alone = ', one item' if case['items'] == 1 else ''
  return f'{case["model"]} {case["modality"]}{alone}'


def depth(case: Row) -> str:
  return '' if case['layers'] == LAYERS else f', {case["layers"]} layers'


def clock(row: Row) -> str:
  """What counts: on a CPU the work, but of one item alone the waiting."""
  of_cpu = row['machine']['device'].endswith('cpu') and row['case']['items'] > 1
  return 'cpu' if of_cpu else 'wall'


def times(spread: Mapping[str, float]) -> str:
  return f'{spread["median"]:.1f}× ({spread["min"]:.1f}–{spread["max"]:.1f})'


def markdown(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
  head = tuple(head)
  whole = [head, ('---',) * len(head), *lines]
  return '\n'.join(f'| {" | ".join(cells)} |' for cells in whole)


def placed(text: str, made: str) -> str:
  """The README with the table between its marks."""
  before, _, rest = text.partition(BEGIN)
  _, found, after = rest.partition(END)
  if not found:
    raise ValueError(f'README.md has no {BEGIN} … {END}.')
  return f'{before}{BEGIN}\n{made}\n{END}{after}'


def plot(rows: list[Row], path: pathlib.Path) -> None:
  """Ratios with their ranges, a column a machine."""
  import matplotlib

  matplotlib.use('agg')
  from matplotlib import pyplot as plt

  places = by_place(rows)
  keys = sorted({_key(row) for row in rows})
  figure, axes = plt.subplots(
    *(1, len(places)),
    figsize=(2.5 + 4 * len(places), 0.4 * len(keys) + 1.2),
    sharex=True,
    sharey=True,
    squeeze=False,
  )
  for axis, (name, own) in zip(axes[0], places.items(), strict=True):
    _bars(axis, {_key(row): row for row in own}, keys)
    axis.set_title(name, fontsize=9)
  axes[0, -1].legend(title='PyTorch', frameon=False, loc='lower right')
  axes[0, 0].set_yticks(range(len(keys)), map('\n'.join, keys), fontsize=7)
  axes[0, 0].set_ylim(len(keys) - 0.5, -0.5)
  figure.supxlabel('time of PyTorch over time of jaxrep', fontsize=9)
  figure.tight_layout()
  figure.savefig(path, dpi=150, bbox_inches='tight')
  plt.close(figure)


def _key(row: Row) -> tuple[str, str]:
  return title(row['case']), row['case']['dtype']


def _bars(axis: Any, found: Mapping[Any, Row], keys: list) -> None:
  present = [key for key in keys if key in found]
  for offset, (side, colour) in enumerate(
    {'best': '#0072b2', 'eager': '#e69f00'}.items()
  ):
    spreads = [found[k]['ratios'][side][clock(found[k])] for k in present]
    middle = [x['median'] for x in spreads]
    errors = [
      [x['median'] - x['min'] for x in spreads],
      [x['max'] - x['median'] for x in spreads],
    ]
    at = [keys.index(key) + 0.36 * offset - 0.18 for key in present]
    label = {'best': 'at its best', 'eager': 'as people run it'}[side]
    axis.barh(at, middle, 0.34, xerr=errors, color=colour, label=label)
  axis.axvline(1, color='black', linewidth=0.8)
  axis.spines[['top', 'right']].set_visible(False)


TEXT = """# Speed of extraction

Made by `python -m benchmarks.tables` from the rows of `python -m
benchmarks.extraction` in `results/extraction.jsonl`: encoders of full width and
four layers where no other number is named, random weights, the same for all
sides; waveforms or tokens in, the mean of every stage out, lengths as in
FLEURS.

- A ratio is PyTorch's seconds over jaxrep's, median (least to most) of rounds
  in which the sides alternate, after their outputs were compared. CPU time
  counts all threads; it is less disturbed by what else a machine does, but
  counts threads that wait as if they worked.
- «At its best»: sdpa, layers by `torch.compile`, batches of jaxrep's shapes,
  stages pooled by hooks. «As people run it»: items as they come,
  `output_hidden_states`; for SONAR, BEATs and SALMONN, which transformers does
  not have, plain modules of the same arithmetic.
- Peaks on a CPU are of a process of its own, with its imports. jaxrep reads a
  float32 checkpoint and casts it; PyTorch reads one of its own dtype, once.
- On a GPU, PyTorch's features lie on it from before, for nothing; jaxrep starts
  from waveforms in the host's memory, makes its own and waits for the copy.
  Peaks are what each takes of the GPU's memory: jaxrep's since its process
  began, compilation included, PyTorch's of a call when all is compiled.
- The share of the peak is that of the operations XLA counts, padding included.
- The first call compiles, on both sides without a cache.

Where cells of peaks and first calls are empty, PyTorch's batches were padded to
their longest alone, up to a tenth shorter than jaxrep's. On the H200 several
cases were compiled at a time and timed one after another; BEATs was timed while
its attention was XLA's, before it became a kernel there."""


if __name__ == '__main__':
  app.run(main)
