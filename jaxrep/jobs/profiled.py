"""A few scores of a measure while they are traced."""

import functools
from collections.abc import Callable
from typing import Any

from jaxrep.jobs.batch import Batch
from jaxrep.observe import tracing

CELLS = 256  # at most


def trace(batch: Batch, measure: str, score: Callable[..., Any]) -> None:
  """If traces are taken, one of each measure: of some cells of a batch.

  They are scored twice, to compile and in the trace, and not kept; `score` is
  `similarity.score_pairs` for these sentences.
  """
  tracer = tracing.current()
  if tracer is None or not tracer.first(measure):
    return
  cells = batch.cells[:CELLS]
  titles = {
    batch.title(end): None for cell in cells for end in (cell.a, cell.b)
  }
  states = {title: batch.states[title] for title in titles}
  few = Batch(batch.model, batch.ids, cells, states, {})
  once = functools.partial(score, states, few.pairs(cells), maps=few.maps)
  once()
  with tracer.trace(f'compare {measure}'):
    once()
