"""What a training wrote down as it went: a file of JSON lines, and its plot."""

import json
import pathlib
import time
from typing import Any

import jax
import matplotlib.figure
import numpy as np
from absl import logging

LOGGED_EVERY = 20
NAME = 'curves.jsonl'


class Curves:
  """Lines in the order of steps: of losses, and of retrieval.

  {step, loss: {term: mean since the last such line, in nats}, seconds} and
  {step, retrieval: {what: R@1}, seconds}; the seconds are those since the line
  before.
  """

  def __init__(self, folder: pathlib.Path):
    self._path = folder / NAME
    self._waiting: list[dict[str, jax.Array]] = []
    self._since = time.monotonic()

  def cut(self, step: int) -> None:
    """Leaves out what came after the step that training goes on from."""
    kept = [row for row in self.rows() if row['step'] <= step]
    self._path.write_text(''.join(json.dumps(row) + '\n' for row in kept))

  def add(self, step: int, terms: dict[str, jax.Array]) -> None:
    self._waiting.append(terms)
    if step % LOGGED_EVERY == 0:
      rows = jax.device_get(self._waiting)
      means = {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}
      self._write(step, 'loss', means)
      self._waiting = []

  def judge(self, step: int, found: dict[str, float]) -> None:
    self._write(step, 'retrieval', found)

  def rows(self) -> list[dict[str, Any]]:
    if not self._path.exists():
      return []
    lines = self._path.read_text().splitlines(keepends=True)
    # A killed process may leave the last one unfinished.
    return [json.loads(line) for line in lines if line.endswith('\n')]

  def _write(self, step: int, kind: str, values: dict[str, float]) -> None:
    now = time.monotonic()
    row = {'step': step, kind: values, 'seconds': now - self._since}
    self._since = now
    logging.info('%s', row)
    with self._path.open('a') as file:
      file.write(json.dumps(row) + '\n')


def draw(rows: list[dict[str, Any]], title: str) -> matplotlib.figure.Figure:
  """Losses above, retrieval below."""
  figure = matplotlib.figure.Figure((7, 6), layout='constrained')
  figure.suptitle(title, fontsize=11)
  above, below = figure.subplots(2, sharex=True)
  for axes, kind, label in (
    (above, 'loss', 'loss (nats)'),
    (below, 'retrieval', 'R@1, development sentences'),
  ):
    some = [row for row in rows if kind in row]
    for name in some[0][kind] if some else ():
      steps = [row['step'] for row in some]
      axes.plot(steps, [row[kind][name] for row in some], label=name)
    axes.set_ylabel(label)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
  below.set_ylim(0, 1)
  below.set_xlabel('step')
  return figure
