"""Rows that an extraction cannot use: left out with a reason, or named."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep import mesh, store
from jaxrep.data import manifest
from jaxrep.extract import runner
from jaxrep.extract.step import groups
from jaxrep.jobs import definition, extract
from jaxrep.types import InputError

NAME = 'tiny-untrained'


def config(workdir, modality, **changes):
  return extract.Config(
    models=(NAME,),
    languages='eng',
    modalities=(modality,),
    workdir=str(workdir),
    **changes,
  )


def view(chosen):
  opened = store.open_store(chosen.workdir)
  return opened.view(NAME, chosen.modalities[0], 'eng')


def run(chosen, entry, corpus, second=1.0):
  """The states of all rows are 1, but for those of each batch's second row."""

  def step(_, inputs, lengths):
    states = jnp.ones(len(inputs)).at[1].set(second)
    return {
      width: jnp.broadcast_to(
        states[:, None, None], (len(inputs), len(names), width)
      )
      for width, names in groups(entry.model.taps).items()
    }

  writer = runner.open_entry(chosen.workdir, entry)
  runner.run_entry(
    runner.Engine(entry.model, None, step, mesh.local_mesh()),
    entry,
    writer,
    corpus,
    on_bad_input=chosen.on_bad_input,
    units=writer.remaining_units(),
  )


@pytest.mark.parametrize('state', [1e5, np.nan])
def test_states_that_the_store_cannot_hold_are_left_out_or_named(
  tmp_path, state
):
  chosen = config(tmp_path, 'text', store_dtype='float16', on_bad_input='skip')
  plan = definition.make_plan(chosen)
  (entry,) = plan.entries
  run(chosen, entry, plan.corpus, state)
  seconds = [batch.rows[1] for unit in entry.units for batch in unit.batches]
  gone = {entry.rows[row].id for row in seconds}
  found = view(chosen)
  assert {one.id for one in found.dropped} == gone
  assert {one.reason for one in found.dropped} == {
    'the states of text/embed are not finite in float16'
  }
  assert set(found.ids) == {row.id for row in entry.rows} - gone
  assert (found.read('text/output') == 1).all()
  strict = config(tmp_path / 'strict', 'text', store_dtype='float16')
  message = r'text/embed for id .* not finite in float16'
  with pytest.raises(InputError, match=message):
    run(strict, entry, plan.corpus, state)


def test_a_recording_that_was_changed_is_left_out_or_named(
  tmp_path, monkeypatch
):
  """It has become shorter since it was listed."""
  chosen = config(tmp_path, 'speech', on_bad_input='skip')
  plan = definition.make_plan(chosen)
  (entry,) = plan.entries
  other = entry.examples[3]

  def waveform(self, example):
    return np.zeros(example.samples - (example == other), np.float32)

  monkeypatch.setattr(manifest.ManifestCorpus, 'waveform', waveform)
  run(chosen, entry, plan.corpus)
  (dropped,) = view(chosen).dropped
  assert dropped.id == other.id
  said = f'{other.audio} has {other.samples - 1} samples, but {other.samples}'
  assert said in dropped.reason
  assert 'was changed since it was listed' in dropped.reason
  assert len(view(chosen).ids) == len(entry.rows) - 1
  with pytest.raises(InputError, match=f'id {other.id}: .* was changed since'):
    run(config(tmp_path / 'strict', 'speech'), entry, plan.corpus)


def test_half_precision_comes_through_to_the_store(tmp_path):
  found = []
  for kind, precision in (('float32', 'float32'), ('float16', 'bfloat16')):
    chosen = config(
      tmp_path / kind, 'text', store_dtype=kind, precision=precision
    )
    extract.run(chosen)
    states = view(chosen).read('text/output')
    assert np.isfinite(states).all()
    found.append(states.astype(np.float32))
  error = np.linalg.norm(found[1] - found[0]) / np.linalg.norm(found[0])
  assert 1e-4 < error < 0.03
