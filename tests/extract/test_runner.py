"""Plans and runs in this process, on eight simulated devices."""

import dataclasses
import json
import threading

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

import jaxrep
from jaxrep import mesh, store
from jaxrep.extract import cost, runner
from jaxrep.jobs import all as everything
from jaxrep.jobs import compare, definition, extract
from jaxrep.types import InputError
from tests import checkpoint, speech

NAME = 'seamless-m4t-v2-large'


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  base = tmp_path_factory.mktemp('world')
  model = base / 'model'
  model.mkdir()
  return base, speech.write(base / 'corpus', voices=2), checkpoint.save(model)


def config(world, name, kind=extract.Config, **changes):
  base, manifest, model = world
  chosen = {
    'models': (NAME,),
    'checkpoints': (f'{NAME}={model}',),
    'corpus': 'manifest',
    'corpus_source': manifest,
    'workdir': str(base / name),
    'unit_size': 10,
    'batch_seconds': 40,
  }
  return kind(**{**chosen, **changes})


@pytest.fixture(scope='module')
def extracted(world):
  chosen = config(world, 'first')
  extract.run(chosen)
  return chosen


def view(chosen, modality, language, recordings='first'):
  opened = store.open_store(chosen.workdir)
  return opened.view(NAME, modality, language, recordings=recordings)


def test_the_store_holds_what_the_encoder_gives(world, extracted):
  assert jax.device_count() == 8
  from jaxrep.data import waveform

  for modality in ('text', 'speech'):
    encoder = jaxrep.load_encoder(NAME, modality, checkpoint=world[2])
    found = view(extracted, modality, 'fra')
    if modality == 'text':
      items = [row.text for row in found.rows]
    else:
      folder = world[0] / 'corpus'
      names = [f'fra-{int(row.id[1:]):03}-0.wav' for row in found.rows]
      items = [waveform.read(folder / name) for name in names]
    expected = encoder.encode(items, 'fra')
    assert [name for name, _ in found.taps] == list(expected)
    for name, value in expected.items():
      scale = np.abs(value).max()
      np.testing.assert_allclose(found.read(name), value, atol=1e-5 * scale)


def test_rows_say_what_went_in(world, extracted):
  rows = view(extracted, 'text', 'swh').rows
  encoder = jaxrep.load_encoder(NAME, 'text', checkpoint=world[2])
  for row in rows:
    (ids,) = encoder.model.inputs.whole([row.text], 'swh')
    assert row.token_ids == tuple(ids)
    assert row.length == len(ids)
  spoken = view(extracted, 'speech', 'swh').rows
  assert all(row.samples == row.length >= 8000 for row in spoken)
  assert {row.speaker for row in spoken} == {'v0'}


def test_one_compilation_a_shape(world, extracted):
  chosen = config(world, 'shapes', modalities=('speech',))
  plan = definition.make_plan(chosen)
  shapes = {
    (batch.size, batch.padded_length)
    for entry in plan.entries
    for unit in entry.units
    for batch in unit.batches
  }
  # Rows are rounded up to the devices, so that some shapes become one.
  shapes = {(-(-size // 8) * 8, length) for size, length in shapes}
  engine = runner.start(plan.entries[0], mesh.local_mesh())
  for entry in plan.entries:
    writer = runner.open_entry(chosen.workdir, entry)
    runner.run_entry(
      engine,
      entry,
      writer,
      plan.corpus,
      on_bad_input='error',
      units=writer.remaining_units(),
    )
  assert engine.step._cache_size() == len(shapes)


def test_the_plan_knows_nothing_of_devices(world, monkeypatch):
  """The same definition and units whatever jax would say."""
  chosen = config(world, 'plan')
  first = definition.make_plan(chosen)
  monkeypatch.setattr(jax, 'devices', None)
  monkeypatch.setattr(jax, 'local_devices', None)
  second = definition.make_plan(chosen)
  for one, two in zip(first.entries, second.entries, strict=True):
    assert one.definition == two.definition
    assert one.units == two.units
    assert one.rows == two.rows


def test_a_run_grows_by_a_language_and_keeps_the_rest(world):
  chosen = config(world, 'grows', languages='eng', modalities=('text',))
  extract.run(chosen)
  folder = world[0] / 'grows' / 'store'
  before = {p: p.stat().st_mtime_ns for p in folder.rglob('*') if p.is_file()}
  chosen = config(world, 'grows', languages='eng,swh', modalities=('text',))
  extract.run(chosen)
  assert {p: p.stat().st_mtime_ns for p in before} == before
  assert view(chosen, 'text', 'swh').ids == view(chosen, 'text', 'eng').ids


def test_recordings_are_averaged_where_asked(world, extracted):
  chosen = config(
    world,
    'mean',
    recordings='mean',
    languages='eng,fra',
    modalities=('speech',),
  )
  extract.run(chosen)
  scored = {'permutations': 2, 'measures': ('cka_debiased',)}
  compare.run(compare.Config(workdir=chosen.workdir, **scored))
  every = view(chosen, 'speech', 'eng', 'all')
  assert len(every.ids) == 2 * len(set(every.ids)) == 48
  means = view(chosen, 'speech', 'eng', 'mean').read('speech/output')
  values = every.read('speech/output').astype(np.float64)
  np.testing.assert_allclose(means, (values[::2] + values[1::2]) / 2, atol=1e-6)
  first = view(extracted, 'speech', 'eng').read('speech/output')
  np.testing.assert_allclose(values[::2], first, atol=2e-5)
  assert pq.read_table(f'{chosen.workdir}/scores.parquet')['n'][0].as_py() == 24


def test_specials_can_be_left_out_of_the_text_mean(world):
  chosen = config(
    world, 'inner', text_specials=False, modalities=('text',), languages='eng'
  )
  extract.run(chosen)
  encoder = jaxrep.load_encoder(NAME, 'text', checkpoint=world[2])
  found = view(chosen, 'text', 'eng')
  states = encoder.encode([row.text for row in found.rows], 'eng', pooling=None)
  expected = np.stack([x[1:-1].mean(axis=0) for x in states['text/output']])
  np.testing.assert_allclose(found.read('text/output'), expected, atol=1e-5)


def test_fine_taps_and_matching_layers_go_through_to_the_report(world):
  chosen = config(
    world,
    'fine',
    everything.Config,
    taps='fine',
    layer_pairs='matching',
    languages='eng,swh',
    permutations=2,
    measures=('cka',),
    findings=False,
  )
  everything.run(chosen)
  defined = json.loads((world[0] / 'fine' / 'plan.json').read_text())
  taps = [name for name, _ in defined['models'][NAME]['taps']['speech']]
  assert 'speech/layer_02/conv' in taps
  scores = pq.read_table(world[0] / 'fine' / 'scores.parquet').to_pylist()
  pairs = {
    (row['tap_a'], row['tap_b'])
    for row in scores
    if row['modality_a'] != row['modality_b']
  }
  matches = defined['models'][NAME]['counterparts']
  assert pairs == {(text, spoken) for spoken, text in matches.items()}
  assert (world[0] / 'fine' / 'report.html').exists()


def test_costs_follow_from_shapes(world):
  plan = definition.make_plan(config(world, 'cost'))
  text, spoken = cost.costs(plan.entries)
  assert (text.rows, spoken.rows) == (72, 72)
  assert spoken.seconds == pytest.approx(
    sum(row.samples for e in plan.entries[3:] for row in e.rows) / 16_000
  )
  dims = sum(dim for _, dim in plan.entries[3].model.taps)
  assert spoken.store_bytes == 72 * dims * 4
  assert 0 < spoken.padding < 1
  # The products with weights alone: two operations a weight and step.
  layers = 3 * (4 * 32 * 32 + 2 * 2 * 32 * 56 + 3 * 32 * 32)
  steps = sum(
    size * (t // 320 - 1) * n for (size, t), n in spoken.shapes.items()
  )
  assert spoken.flops > 2 * layers * steps
  assert 'floating-point' in cost.describe(plan.entries)


def test_the_loops_of_a_cpu_are_counted_whole(world):
  """A lone CPU reads rows and heads in turns: each row more counts the same."""
  entry = definition.make_plan(config(world, 'cost')).entries[3]
  some, more, most = (
    cost.flops_of(entry.model, entry.options, rows, 10 * 16_000)
    for rows in (4, 8, 12)
  )
  # By XLA's counts eight rows and twelve differ from that by 3e-5.
  assert most - more == pytest.approx(more - some, rel=1e-4)
  assert more - some > 0.9 * some


def test_operations_cannot_be_counted_without_a_cpu(world, monkeypatch):
  entry = definition.make_plan(config(world, 'cost')).entries[3]

  def devices(backend):
    raise RuntimeError(f'Unknown backend {backend}')

  monkeypatch.setattr(jax, 'local_devices', devices)
  with pytest.raises(InputError, match='JAX_PLATFORMS'):
    cost.flops_of(entry.model, entry.options, 4, 16_000)


def test_a_kernels_operations_are_counted(world):
  """XLA counts none in a kernel, which bfloat16's program has."""
  plan = definition.make_plan(config(world, 'cost'))
  narrow = definition.make_plan(config(world, 'cost', precision='bfloat16'))
  found, wanted = (
    [one.flops for one in cost.costs(made.entries)] for made in (narrow, plan)
  )
  assert found == wanted


def test_files_are_read_while_the_device_computes(world, monkeypatch):
  """A step ends only when the batch after the next one is being read.

  So it never would where a slow disk and the device wait for each other.
  """
  sizes = {'batch_seconds': 10, 'unit_size': 24}
  chosen = config(world, 'slow', modalities=('speech',), **sizes)
  entry, *_ = (plan := definition.make_plan(chosen)).entries
  batches = entry.units[0].batches
  assert len(batches) > 3
  begun = [threading.Event() for _ in batches]
  batch_of = {row: i for i, b in enumerate(batches) for row in b.rows}
  read, engine = runner._item, runner.start(entry, mesh.local_mesh())

  def reading(plan, row, corpus):
    begun[batch_of[row]].set()
    return read(plan, row, corpus)

  steps = []

  def step(*arguments):
    ahead = min(len(steps) + 2, len(batches) - 1)
    assert begun[ahead].wait(60), f'batch {ahead} waits for the device'
    steps.append(ahead)
    return engine.step(*arguments)

  monkeypatch.setattr(runner, '_item', reading)
  slow = dataclasses.replace(engine, step=step)
  found = [*runner._computed(slow, entry, batches, plan.corpus)]
  assert [batch for batch, *_ in found] == [*batches]
  assert len(steps) == len(batches)
