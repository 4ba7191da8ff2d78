"""How long FLEURS-102 takes three models, from the rows of benchmarks/results.

    python -m benchmarks.capacity

Writes benchmarks/CAPACITY.md: extraction by what the compilers for TPUs and for
GPUs say (`tpu_steps`, `gpu_steps`) and what a GPU took (`timed_steps`), scoring
by what was measured on two CPU cores (`similarity`).
"""

import json
import pathlib
import tempfile
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from absl import app

from benchmarks import harness
from jaxrep import models
from jaxrep.extract import target
from jaxrep.jobs import scoring, settings
from jaxrep.languages import LANGUAGES

PAGE = pathlib.Path(__file__).parent / 'CAPACITY.md'

# FLEURS: sentences of the test split, recordings of all of it, their mean
# length in seconds, tokens of a sentence; padding as `run.py plan` tells.
SENTENCES, RECORDINGS = 350, 77_810
SECONDS, TOKENS, PADDING = 12.5, 45, 0.08


class Reads(NamedTuple):
  """A model, and how many of the languages it reads as text and as speech."""

  name: str
  text: int
  speech: int

  @classmethod
  def of(cls, name: str) -> 'Reads':
    row = models.MODELS[name]
    counts = (
      sum(bool(models.language_code(row, kind, iso)) for iso in LANGUAGES)
      for kind in ('text', 'speech')
    )
    return cls(name, *counts)

  def taps(self) -> tuple[int, int]:
    from tests import released

    found = []
    for modality in ('text', 'speech'):
      with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        model = released.open_released(place, self.name, modality)
        found.append(len(model.taps))
    return tuple(found)


MODELS = tuple(map(Reads.of, ('seamless-m4t-v2-large', 'sonar', 'salmonn-7b')))


class Machine(NamedTuple):
  """So many chips, each as the rows of a target say."""

  name: str
  chips: int
  target: str


MACHINES = (
  Machine('v5e-8', 8, 'v5e:2x4'),
  Machine('v5e-256', 256, 'v5e:2x4'),
  Machine('8 × H100', 8, 'h100:1'),
  Machine('8 × H200', 8, 'h200:1'),
)


def main(_) -> None:
  PAGE.write_text(page())


def page() -> str:
  by_target, decode = latest_steps(), decoding()
  steps = by_target['v5e:2x4']
  host = 4 / steps['seamless-m4t-v2-large', 'speech']['seconds_each']
  units = {name: unit_costs(name) for name in ('svcca', 'cka')}
  return TEXT.format(
    steps=table(
      (
        'model',
        'weights, GiB a chip',
        'rows that fit a host',
        'chips that share weights',
        'µs each',
        'share of the peak',
      ),
      [step_line(key, row) for key, row in sorted(steps.items())],
    ),
    gpus=table(
      (
        *('model', 'weights, GiB', 'rows that fit', 'kernels'),
        *('µs each, H100', 'of its peak', 'H200', 'of its peak'),
        *('timed there', 'attention'),
      ),
      gpu_lines(by_target['h100:1'], by_target['h200:1']),
    ),
    extraction=table(
      ('model', 'audio, h', *(m.name for m in MACHINES)),
      [extraction_line(model, by_target) for model in MODELS],
    ),
    scoring=table(
      (
        *('model', 'id sets', 'bases', 'pairs of layers', 'SVCCA, h', 'CKA, h'),
        *('pairs, `within`', 'memory of both, GiB'),
      ),
      [scoring_line(model, units) for model in MODELS],
    ),
    units='; '.join(
      f'{name}: {1e3 * base:.1f} ms a basis, {1e3 * pair:.2f} ms a pair'
      for name, (base, pair) in units.items()
    ),
    decode=1e3 * decode,
    pair=pair_microseconds(),
    chips=1e3 * SECONDS / host,
    disk=host * 4 * 16_000 / 1e6,
    languages=len(LANGUAGES),
    each=scoring.BYTES_EACH,
    floor=floor_share(),
    width=width_factor(),
    sentences=SENTENCES,
    seconds=SECONDS,
    tokens=TOKENS,
    padding=PADDING,
    all_hours=RECORDINGS * SECONDS / 3600,
    some_hours=len(LANGUAGES) * SENTENCES * SECONDS / 3600,
    factor=RECORDINGS / (len(LANGUAGES) * SENTENCES),
  )


def decoding() -> float:
  """Seconds for a recording in FLEURS' format, the least of some."""
  import soundfile

  from jaxrep.data import waveform

  noise = 0.1 * np.random.default_rng(0).standard_normal(int(SECONDS * 16_000))
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'one.wav'
    soundfile.write(path, noise.astype(np.float32), 16_000, 'FLOAT')
    taken = []
    for _ in range(20):
      began = time.perf_counter()
      waveform.read(path)
      taken.append(time.perf_counter() - began)
  return min(taken)


def rows(benchmark: str) -> list[Mapping]:
  path = harness.RESULTS / f'{benchmark}.jsonl'
  return [json.loads(line) for line in path.read_text().splitlines()]


def latest_steps() -> dict[str, dict[tuple[str, str], Mapping]]:
  """Target → (model, modality) → what the compiler says in bfloat16."""
  found: dict[str, dict[tuple[str, str], Mapping]] = {}
  for row in (*rows('tpu_steps'), *rows('gpu_steps')):
    case = row['case']
    if case['dtype'] == 'bfloat16':
      of_target = found.setdefault(case['target'], {})
      of_target[case['model'], case['modality']] = row
  return found


def pair_microseconds() -> float:
  """Of SVCCA on a v5e chip, by the compiler's cycles."""
  (row,) = (r for r in rows('tpu_ops') if r['case']['form'] == 'newton-schulz')
  return 1e3 * row['milliseconds'] / row['case']['shapes'][0][0]


def unit_costs(measure: str) -> tuple[float, float]:
  """Seconds a basis and a pair, fitted to maps of 400 sentences."""
  found = []
  for row in rows('similarity'):
    case = row['case']
    if [case.get(x) for x in ('measure', 'n', 'd')] != [measure, 400, 1024]:
      continue
    # With 99 % of the variance, as by default; floors and intervals apart.
    if case['name'] in ('cka', 'svcca-few', 'large') or (
      measure == 'cka' and case.get('axis') == 'm'
    ):
      m = case['m']
      found.append(
        (m, m * (m + 1) / 2, row['timings']['jaxrep']['wall']['median'])
      )
  bases, pairs, seconds = np.array(found).T
  # Relative errors count: small maps are as telling as large ones.
  design = np.stack([bases, pairs], 1) / seconds[:, None]
  return tuple(np.linalg.lstsq(design, np.ones(len(seconds)), rcond=None)[0])


def floor_share() -> float:
  """What floor and p in closed form add to CKA, at most."""
  both = 'jaxrep', 'jaxrep, floor, p'
  found = []
  for row in rows('similarity'):
    if row['case']['name'] == 'cka' and set(both) <= set(row['timings']):
      alone, judged = (row['timings'][x]['wall']['median'] for x in both)
      found.append(judged / alone - 1)
  return max(found)


def width_factor() -> float:
  """How much longer a map of SVCCA takes at twice the width."""
  seconds = {
    row['case']['d']: row['timings']['jaxrep']['wall']['median']
    for row in rows('similarity')
    if row['case'].get('axis') == 'd' and row['case']['measure'] == 'svcca'
  }
  return seconds[2048] / seconds[1024]


def each(key: tuple[str, str]) -> str:
  return 'a second' if key[1] == 'speech' else 'a token'


def step_line(key: tuple[str, str], row: Mapping) -> tuple:
  return (
    f'{" ".join(key)}',
    f'{row["weights_gib"]:.2f}',
    f'{row["rows_that_fit"]:,}',
    row['case']['shared'],
    f'{1e6 * row["seconds_each"]:,.4g} {each(key)}',
    f'{row["share_of_peak"]:.0%}',
  )


def gpu_lines(h100: Mapping, h200: Mapping) -> list[tuple]:
  """Rows that fit are those of the H100; timed was the H200."""
  timed = {
    (row['case']['model'], row['case']['modality']): row
    for row in rows('timed_steps')
    if row['machine']['device'] == '1 x NVIDIA H200'
  }
  lines = []
  for key, row in sorted(h100.items()):
    times = (
      cell
      for one in (row, h200[key])
      for cell in (
        f'{1e6 * one["seconds_each"]:,.4g} {each(key)}',
        f'{one["share_of_peak"]:.0%}',
      )
    )
    lines.append(
      (
        *(' '.join(key), f'{row["weights_gib"]:.2f}'),
        *(f'{row["rows_that_fit"]:,}', row['kernels'], *times),
        f'{1e6 * timed[key]["seconds_each"]:,.4g}' if key in timed else '—',
        f'{h200[key]["attention_share"]:.0%}',
      )
    )
  return lines


def extraction_line(model: Reads, by_target: Mapping) -> tuple:
  hours = model.speech * SENTENCES * SECONDS / 3600
  taken = (
    extraction_seconds(model, by_target[machine.target]) / machine.chips
    for machine in MACHINES
  )
  return (model.name, f'{hours:.0f}', *map(target.duration, taken))


def extraction_seconds(model: Reads, steps: Mapping) -> float:
  """Of one chip: what is read × what each takes × padding."""
  read = {
    'text': model.text * SENTENCES * TOKENS,
    'speech': model.speech * SENTENCES * SECONDS,
  }
  return sum(
    amount * steps[model.name, modality]['seconds_each'] / (1 - PADDING)
    for modality, amount in read.items()
  )


def scoring_line(model: Reads, units: Mapping) -> tuple:
  text, speech, (rows_, columns) = model.text, model.speech, model.taps()
  within = [n * (n - 1) // 2 for n in (text, speech)]
  across = min(text, speech)
  sets = max(within) + max(text, speech)
  bases = 2 * (within[0] * rows_ + within[1] * columns)
  bases += across * (rows_ + columns)
  own = across * rows_ * columns
  pairs = within[0] * rows_**2 + within[1] * columns**2 + own
  fewer = within[0] * rows_ + within[1] * columns + own
  hours = [
    f'{bases * base / 3600:.1f} + {pairs * pair / 3600:.1f}'
    for base, pair in units.values()
  ]
  measures = len(settings.Comparison.measures)
  memory = (
    f'{x * measures * scoring.BYTES_EACH / 2**30:.1f}' for x in (pairs, fewer)
  )
  return (
    model.name,
    *(f'{x:,}' for x in (sets, bases, pairs)),
    *hours,
    f'{fewer:,}',
    ', '.join(memory),
  )


def table(head: tuple, lines: list[tuple]) -> str:
  whole = [head, ('---',) * len(head), *lines]
  return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in whole)


TEXT = """# What a large run takes

Made by `python -m benchmarks.capacity` from the rows in `results/`. The run:
FLEURS' test split in {languages} languages, {sentences} sentences of
{seconds} s and {tokens} tokens in each, the first recording of a sentence,
bfloat16, padding {padding:.0%}, three models, all layers with all layers.

## Formula

time = (S·s + K·t) / (1 − padding) / chips + weights + B·b + P·p

- S seconds of audio and K tokens, each summed over a model's languages; s and t
  are what one takes on a chip. Both grow linearly with languages, sentences and
  models, and with layers; a longer recording costs a little more a second, for
  attention. Hosts share nothing, so chips divide it all.
- weights: read once a host and model, at the disk's speed.
- B bases: two for every pair of sides and tap, since nearly every pair of
  languages of FLEURS has its own set of sentences: **with the square of the
  languages**, linear in layers and models. With `--common_ids=all` there is one
  set, and B grows with the languages alone.
- P pairs of layers: with the square of the languages and of the layers
  (`--layer_pairs=within`, as `all.flags` has it: between languages linear in
  the layers, and nothing that a figure shows is left out).
- memory of the host: {each} bytes for each pair and measure, and as much again
  while the report is made.
- b grows as n²·d + n³, p as n·k² + k³: n sentences, d features, k components.

## Extraction

What the compiler says of one v5e chip, for batches of 12 s and of 64 tokens: no
measurement. Its cycles leave out gathers and waiting for the host, so a run is
slower; kernels in Pallas are counted by their schedules. The share of the peak
is that of the operations in the time that it reckons with.

{steps}

What the compiler for GPUs makes of the same batches, 16 clips or 64 texts on
one GPU. It tells neither time nor bytes; a kernel is taken to run at what such
kernels reached on an H200, of its bandwidth or of its products, and nothing to
wait for its launch. «Timed there» is a batch of 64 clips (`timed_steps`). Rows
that fit are those of the H100, of which JAX takes three quarters of the memory.
«Attention» is its kernel's share of the time on the H200.

{gpus}

Whole runs of {some_hours:.0f} h of audio a modality where a model reads all
languages, by these costs; none was timed. All recordings of the split,
{all_hours:.0f} h, take {factor:.1f} times the audio's part.

{extraction}

Bound by the chips: one thread of a host decodes a recording of {seconds} s of
32-bit WAV in {decode:.1f} ms (measured on one CPU core, the file in memory);
its four chips take {chips:.1f} ms for it with SeamlessM4T v2's speech encoder.
Below {disk:.0f} MB/s a host the disk bounds it instead. Compiling the programs
and reading the weights come on top, whatever the slice.

## Scoring

On two CPU cores, hours of bases + of pairs for one measure, as fitted to maps
measured there, of 24 and 200 representations for SVCCA and of 6 to 200 for CKA,
400 sentences and width 1024 ({units}; small maps take up to twice
as long). SALMONN's language model is four times as wide, and twice the width
took {width:.1f} times as long. Floors and intervals come on top: in closed form
{floor:.0%} of CKA's time, for SVCCA a few random pairings of each k. What 256
chips take of it is not known: bases on a TPU are singular value decompositions,
whose cycles the compiler does not tell, and a pair of SVCCA is {pair:.0f} µs
there (`tpu_ops`, Newton–Schulz).

{scoring}

Bases are made for every pair of languages, with its own sentences: on one
device again for each id set; a slice deals them over all its chips. Where a
model has many layers, as SALMONN's, pairs bound SVCCA, and the scores of all
default measures their memory: `--layer_pairs=within` takes both away.
"""


if __name__ == '__main__':
  app.run(main)
