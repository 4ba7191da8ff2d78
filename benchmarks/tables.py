"""The README's table and plot of speed, from the rows of benchmarks/results.

    python -m benchmarks.tables

Of every case the last row counts. Ratios say how many times as long the other
side takes: in CPU time, but of one item alone, and on a device, in wall time.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from absl import app

from benchmarks import harness

README = harness.RESULTS.parents[1] / 'README.md'
PLOT = harness.RESULTS / 'extraction.png'
BEGIN, END = '<!-- speed: python -m benchmarks.tables -->', '<!-- /speed -->'
HEAD = (
  '| | dtype | PyTorch at its best | as people run it | peak GB: ours, best, '
  'eager | of the matmul peak | first call, s |'
)

Row = Mapping[str, Any]


def main(_) -> None:
  rows = latest(read('extraction'))
  README.write_text(placed(README.read_text(), table(rows)))
  plot(rows, PLOT)


def read(benchmark: str) -> list[Row]:
  """Rows that name both sides of PyTorch, oldest first."""
  lines = (harness.RESULTS / f'{benchmark}.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [row for row in rows if 'eager' in row['ratios']]


def latest(rows: Iterable[Row]) -> list[Row]:
  """One row a case and device, sorted by model."""
  found = {}
  for row in rows:
    case, machine = row['case'], row['machine']
    key = (machine['device'], *(case[x] for x in ('model', 'modality')))
    found[(*key, case['items'], case['dtype'])] = row
  return [found[key] for key in sorted(found, key=lambda k: (k[0], *k[1:]))]


def table(rows: list[Row]) -> str:
  """Markdown, a table a device."""
  parts = []
  for device in dict.fromkeys(row['machine']['device'] for row in rows):
    own = [row for row in rows if row['machine']['device'] == device]
    machine = own[-1]['machine']
    versions = ', '.join(f'{x} {machine[x]}' for x in ('jax', 'torch'))
    parts.append(
      f'{machine["cores"]} cores of an {machine["cpu"]}, {device}; {versions}:'
      f'\n\n{HEAD}\n|{"---|" * HEAD.count(" |")}\n' + '\n'.join(map(line, own))
    )
  return '\n\n'.join(parts)


def line(row: Row) -> str:
  case, timing = row['case'], row['timings']['jaxrep']
  peaks = (row['peak_memory_mb'][x] / 1e3 for x in ('jaxrep', 'best', 'eager'))
  rate = case['gflop'] / timing['wall']['median'] / case['matmul_gflop_per_s']
  first = (row['first_call'][x] for x in ('jaxrep', 'best'))
  cells = [
    title(case),
    case['dtype'],
    *(times(row['ratios'][x][clock(row)]) for x in ('best', 'eager')),
    ', '.join(f'{x:.1f}' for x in peaks),
    f'{rate:.0%}',
    ' against '.join(f'{x:.0f}' for x in first),
  ]
  return f'| {" | ".join(cells)} |'


def title(case: Row) -> str:
  alone = ', one item' if case['items'] == 1 else ''
  return f'{case["model"]} {case["modality"]}{alone}'


def clock(row: Row) -> str:
  of_cpu = row['machine']['device'].endswith('cpu') and row['case']['items'] > 1
  return 'cpu' if of_cpu else 'wall'


def times(spread: Mapping[str, float]) -> str:
  return f'{spread["median"]:.1f}× ({spread["min"]:.1f}–{spread["max"]:.1f})'


def placed(text: str, made: str) -> str:
  """The README with the table between its marks."""
  before, _, rest = text.partition(BEGIN)
  _, found, after = rest.partition(END)
  if not found:
    raise ValueError(f'README.md has no {BEGIN} … {END}.')
  return f'{before}{BEGIN}\n{made}\n{END}{after}'


def plot(rows: list[Row], path: pathlib.Path) -> None:
  """Ratios with their ranges, both dtypes of a case beside each other."""
  import matplotlib

  matplotlib.use('agg')
  from matplotlib import pyplot as plt

  labels = [f'{title(row["case"])}\n{row["case"]["dtype"]}' for row in rows]
  figure, axes = plt.subplots(figsize=(8, 0.45 * len(rows) + 1.2))
  for offset, (side, colour) in enumerate(
    {'best': '#0072b2', 'eager': '#e69f00'}.items()
  ):
    spreads = [row['ratios'][side][clock(row)] for row in rows]
    middle = [x['median'] for x in spreads]
    errors = [
      [x['median'] - x['min'] for x in spreads],
      [x['max'] - x['median'] for x in spreads],
    ]
    at = [i + 0.36 * offset - 0.18 for i in range(len(rows))]
    axes.barh(at, middle, 0.34, xerr=errors, color=colour, label=side)
  axes.axvline(1, color='black', linewidth=0.8)
  axes.set_yticks(range(len(rows)), labels, fontsize=7)
  axes.set_ylim(len(rows) - 0.5, -0.5)
  axes.set_xlabel('time of PyTorch over time of jaxrep')
  axes.legend(title='PyTorch', frameon=False, loc='lower right')
  axes.spines[['top', 'right']].set_visible(False)
  figure.savefig(path, dpi=150, bbox_inches='tight')
  plt.close(figure)


if __name__ == '__main__':
  app.run(main)
