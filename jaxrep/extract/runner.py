"""Runs a plan: every unit that is not in the store yet, and nothing else.

While a batch is on the device the next one is read and the last one fetched;
a finished unit is written before the next begins, so that a kill loses at most
one unit.
"""

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh
from tqdm import tqdm

from jaxrep import mesh as meshes
from jaxrep import store, weights_cache
from jaxrep.data.batching import Batch, Unit
from jaxrep.extract import pooling
from jaxrep.extract.plan import EntryPlan
from jaxrep.extract.step import groups, pooled_step
from jaxrep.inputs import pad
from jaxrep.observe import recorder, tracing
from jaxrep.opened import Model
from jaxrep.types import SAMPLE_RATE, Corpus, InputError

Step = Callable[..., dict[int, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Engine:
  """A model on its devices, ready to run."""

  model: Model
  state: Any
  step: Step
  mesh: Mesh


def start(plan: EntryPlan, mesh: Mesh, cache: str = '') -> Engine:
  """Loads the weights for the plans of one model and modality.

  Args:
    plan: One of these plans.
    mesh: The devices.
    cache: The folder of `weights_cache`, or ''.

  Raises:
    InputError: The weights cannot be read.
  """
  model, options = plan.model, plan.options
  placement = meshes.placement(mesh)
  if cache:
    state = weights_cache.weights(cache, model, options.precision, placement)
  else:
    state = model.weights(options.precision, placement)
  rule = pooling.parse(options.pooling)
  step = pooled_step(
    model.program, rule, options.precision, mesh, options.specials
  )
  return Engine(model, state, step, mesh)


def open_entry(workdir: str, plan: EntryPlan) -> store.Writer:
  """The plan's entry of the store, made or opened again."""
  return store.create_or_open(
    workdir,
    plan.model.name,
    plan.model.modality,
    plan.language,
    definition=plan.definition,
    rows=plan.rows,
    taps=[tuple(tap) for tap in plan.model.taps],
    unit_size=len(plan.units[0].rows),
    dtype=plan.options.store_dtype,
  )


def run_entry(
  engine: Engine,
  plan: EntryPlan,
  writer: store.Writer,
  corpus: Corpus,
  *,
  on_bad_input: Literal['error', 'skip'],
  units: Sequence[int],
) -> None:
  """Computes and writes these units of the plan.

  Raises:
    InputError: A recording that cannot be read, or states that are not
      finite; under 'skip' such rows are dropped with the reason.
  """
  began, samples = time.monotonic(), 0
  rows = sum(len(plan.units[unit].rows) for unit in units)
  with tqdm(total=rows, desc=plan.title, unit='row', disable=None) as bar:
    for unit in units:
      work = plan.units[unit]
      values, bad = _run_unit(engine, plan, work, corpus, bar)
      dropped = _settle(plan, work, values, bad, on_bad_input)
      with recorder.stage('write store'):
        writer.write_unit(unit, values, dropped)
      samples += sum(plan.rows[row].samples for row in work.rows)
  writer.finish()
  _log(plan, rows, samples, time.monotonic() - began)


def _log(plan: EntryPlan, rows: int, samples: int, seconds: float) -> None:
  speed = f'{rows / seconds:.1f} rows/s'
  if samples:
    audio = samples / SAMPLE_RATE
    speed += f', {audio / seconds:.0f} s of audio per second'
  logging.info('%s: %d rows in %.1f s, %s', plan.title, rows, seconds, speed)


def _run_unit(
  engine: Engine,
  plan: EntryPlan,
  unit: Unit,
  corpus: Corpus,
  bar: tqdm,
) -> tuple[dict[str, np.ndarray], dict[int, str]]:
  """The unit's vectors by tap, and the rows that could not be read."""
  taps = dict(plan.model.taps)
  shape = len(unit.rows)
  values = {n: np.full((shape, d), np.nan, np.float32) for n, d in taps.items()}
  dropped: dict[int, str] = {}
  for batch, found, bad in _computed(engine, plan, unit.batches, corpus):
    at = slice(batch.rows.start - unit.rows.start, None)
    for width, names in groups(plan.model.taps).items():
      block = np.asarray(found[width])[: len(batch.rows)]
      for position, name in enumerate(names):
        values[name][at][: len(batch.rows)] = block[:, position]
    dropped |= bad
    bar.update(len(batch.rows))
    _count(engine, plan, batch)
  return values, dropped


def _computed(
  engine: Engine, plan: EntryPlan, batches: tuple[Batch, ...], corpus: Corpus
) -> Iterator[tuple[Batch, dict[int, jax.Array], dict[int, str]]]:
  """Results one batch behind the device, which is one behind the reader."""
  with concurrent.futures.ThreadPoolExecutor(1) as reader:
    loading = [
      reader.submit(_load, engine, plan, b, corpus) for b in batches[:2]
    ]
    running, tracer = None, tracing.current()
    for i, batch in enumerate(batches):
      arrays, bad = _awaited(loading[i], running)
      if i + 2 < len(batches):
        following = batches[i + 2]
        loading.append(reader.submit(_load, engine, plan, following, corpus))
      loading[i] = None
      if tracer:
        shape = arrays[0].shape
        tracer.batch(f'extract {plan.title}', engine.step, shape, running)
      with jax.profiler.StepTraceAnnotation('extract', step_num=i):
        found = engine.step(engine.state, *arrays)
      if running is not None:
        yield running
      running = batch, found, bad
    if tracer:
      tracer.end(running)
    if running is not None:
      yield running


def _awaited(
  loading: concurrent.futures.Future[Any], running: tuple[Any, ...] | None
) -> Any:
  """What was read; counts the seconds if devices had nothing else to do."""
  began = time.monotonic()
  with recorder.stage('wait for input'):
    found = loading.result()
  if running is None or all(x.is_ready() for x in running[1].values()):
    recorder.add(starved_seconds=time.monotonic() - began)
  return found


def _count(engine: Engine, plan: EntryPlan, batch: Batch) -> None:
  """Notes a batch that was computed, in samples or tokens."""
  rows = [plan.rows[row] for row in batch.rows]
  recorder.add(
    batches=1,
    rows=len(rows),
    audio_seconds=sum(row.samples for row in rows) / SAMPLE_RATE,
    used=sum(row.length for row in rows),
    computed=_padded_rows(engine, batch) * batch.padded_length,
  )


def _padded_rows(engine: Engine, batch: Batch) -> int:
  return -(-batch.size // engine.mesh.size) * engine.mesh.size


def _load(
  engine: Engine, plan: EntryPlan, batch: Batch, corpus: Corpus
) -> tuple[tuple[jax.Array, jax.Array], dict[int, str]]:
  """A batch on its devices; unreadable rows are left empty and named."""
  items, bad = [], {}
  for row in batch.rows:
    try:
      items.append(_item(plan, row, corpus))
    except InputError as error:
      bad[row] = str(error)
      items.append(np.zeros(0, plan.model.inputs.dtype))
  rows, dtype = _padded_rows(engine, batch), plan.model.inputs.dtype
  padded = pad(items, rows, batch.padded_length, dtype)
  return jax.device_put(padded, meshes.by_row(engine.mesh)), bad


def _item(plan: EntryPlan, row: int, corpus: Corpus) -> np.ndarray:
  if plan.model.modality == 'text':
    return np.asarray(plan.rows[row].token_ids, np.int32)
  example = plan.examples[row]
  waveform = corpus.waveform(example)
  if len(waveform) != example.samples:
    raise InputError(
      f'{example.audio} has {len(waveform)} samples, but {example.samples} '
      'were announced: the file was changed since it was listed.'
    )
  return waveform[: plan.model.inputs.limit]


def _settle(
  plan: EntryPlan,
  unit: Unit,
  values: dict[str, np.ndarray],
  dropped: dict[int, str],
  on_bad_input: str,
) -> dict[int, str]:
  """The rows to drop, and why; raises for the first one under 'error'.

  States that are not finite are named by the writer under 'error'.
  """
  if on_bad_input == 'error':
    for row, reason in dropped.items():
      example = plan.examples[row]
      raise InputError(
        f'{example.language}, id {example.id}: {reason} --on_bad_input=skip '
        'leaves such rows out.'
      )
    return {}
  dropped = dict(dropped)
  kind = plan.options.store_dtype
  largest = float(jnp.finfo(kind).max)
  for tap, found in values.items():
    fine = (np.abs(found) <= largest).all(axis=1)  # and no NaN
    for i in np.flatnonzero(~fine):
      reason = f'the states of {tap} are not finite in {kind}'
      dropped.setdefault(unit.rows.start + int(i), reason)
  return dropped
