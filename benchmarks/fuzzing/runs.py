"""Readers of what runs leave: the store, plans, scores, verdicts, tiles."""

import json
import pathlib
import random
from typing import Any

import numpy as np
from etils import epath

from benchmarks.fuzzing import damage
from benchmarks.fuzzing.reader import Reader, Way
from jaxrep import store
from jaxrep.analyses import run as runs
from jaxrep.analyses import verdicts
from jaxrep.jobs import definition
from jaxrep.similarity import saved as tiles

ROWS = 6
DROPPED = {1: 'is silent', 4: 'is silent'}
MODEL, LANGUAGE = 'tiny', 'eng'


def make_store(folder: pathlib.Path) -> None:
  from tests.store import entries

  writer = entries.create(folder, entries.rows(ROWS), definition={'seed': 1})
  entries.write(writer, DROPPED)


def _view(folder: pathlib.Path, rng: random.Random) -> Any:
  from tests.store import entries

  opened = store.open_store(str(folder))
  view = opened.view(*entries.NAME, recordings='all')
  values = {tap: x.tobytes() for tap, x in view.read_all().items()}
  return len(opened.entries()), view.rows, view.dropped, view.taps, values


def _resumed(folder: pathlib.Path, rng: random.Random) -> Any:
  from tests.store import entries

  rows = entries.rows(ROWS)
  writer = entries.create(folder, rows, definition={'seed': 1})
  return writer.remaining_units()


def make_run(folder: pathlib.Path) -> None:
  from tests.analyses import findings, synthetic

  made = synthetic.definition(languages=('eng', 'fra'), layers=1)
  synthetic.write(folder, made, synthetic.rows(made))
  findings.write(folder, made['models'])


def _run(folder: pathlib.Path, rng: random.Random) -> Any:
  found = runs.load_run(epath.Path(folder))
  models = list(found.definition['models'])
  languages = [found.languages(model, 'text', 'speech') for model in models]
  scores = found.scores.select(runs.COLUMNS).to_pylist()
  return json.dumps(found.definition), languages, repr(scores)


def _plan(folder: pathlib.Path, rng: random.Random) -> Any:
  return definition.read(str(folder))


def _verdicts(folder: pathlib.Path, rng: random.Random) -> Any:
  return repr(verdicts.read(epath.Path(folder), {}))


def make_tile(folder: pathlib.Path) -> None:
  arrays = {'value': np.arange(12.0), 'n': np.arange(12)}
  tiles.save(epath.Path(folder), 'tile', arrays)


def _tile(folder: pathlib.Path, rng: random.Random) -> Any:
  found = tiles.load(epath.Path(folder), 'tile')
  return found and {name: x.tobytes() for name, x in found.items()}


HERE = 'store/tiny/speech/eng'
READERS = {
  'store': Reader(
    35,
    make_store,
    _view,
    (
      Way(f'{HERE}/entry.json', damage.anything, summed=True),
      Way(f'{HERE}/entry.json', damage.fields, summed=True),
      Way(f'{HERE}/rows.parquet', damage.anything, summed=True),
      Way(f'{HERE}/dim6/zarr.json', damage.anything),
      Way(f'{HERE}/dim6/zarr.json', damage.fields),
      Way(f'{HERE}/dim6/c/0/0/0', damage.anything, summed=True),
      Way(f'{HERE}/dropped/0.json', damage.anything),
      Way(f'{HERE}/dropped/0.json', damage.fields),
    ),
  ),
  'store, to go on': Reader(
    15,
    make_store,
    _resumed,
    (
      Way(f'{HERE}/entry.json', damage.fields, summed=True),
      Way(f'{HERE}/dim10/zarr.json', damage.fields),
      Way(f'{HERE}/dropped/0.json', damage.fields),
      Way(f'{HERE}/complete.json', damage.anything),
    ),
  ),
  'plan of a run': Reader(
    15,
    make_run,
    _plan,
    (Way('plan.json', damage.anything), Way('plan.json', damage.fields)),
  ),
  'plan and scores': Reader(
    15,
    make_run,
    _run,
    (
      Way('plan.json', damage.fields),
      Way('scores.parquet', damage.anything),
    ),
  ),
  'verdicts': Reader(
    10, make_run, _verdicts, (Way('findings.parquet', damage.anything),)
  ),
  'tile of scores': Reader(
    10, make_tile, _tile, (Way('tile.npz', damage.anything, summed=True),)
  ),
}
