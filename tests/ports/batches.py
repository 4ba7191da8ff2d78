"""Padded batches of rows, and every tap of a port for them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.ports import reference


def run(model, inputs, mask):
  """Every tap of a padded batch: name → (states, mask)."""
  graphdef, state = nnx.split(model)
  names, step = _step(graphdef)
  found = jax.tree.map(np.asarray, step(state, inputs, mask))
  return dict(zip(names, found, strict=True))


@functools.lru_cache(maxsize=4)
def _step(graphdef):
  """Names of the taps, which are there once it ran, and the jitted network."""
  names = []

  @jax.jit
  def step(state, inputs, mask):
    taps = nnx.merge(graphdef, state)(inputs, mask)
    names[:] = [tap.name for tap in taps]
    return [(tap.states, tap.mask) for tap in taps]

  return names, step


def pad(rows, value, multiple=1):
  """Rows of different length as one batch and its mask."""
  longest = max(map(len, rows))
  longest = -(-longest // multiple) * multiple
  shape = (len(rows), longest, *rows[0].shape[1:])
  batch = np.full(shape, value, rows[0].dtype)
  mask = np.zeros((len(rows), longest), bool)
  for i, row in enumerate(rows):
    batch[i, : len(row)] = row
    mask[i, : len(row)] = True
  return jnp.asarray(batch), jnp.asarray(mask)


def compare(found, rows, expected_of, specs, tolerance=1e-5):
  """Asserts every tap of every row, and that no tap is left out."""
  assert list(found) == [spec.name for spec in specs]
  worst = {}
  for i, row in enumerate(rows):
    expected = expected_of(row)
    assert set(expected) == set(found)
    for spec in specs:
      states, mask = found[spec.name]
      assert states.shape[-1] == spec.dim
      ours = states[i][mask[i]]
      assert ours.shape == expected[spec.name].shape, spec.name
      error = reference.relative(ours, expected[spec.name])
      worst[spec.name] = max(worst.get(spec.name, 0), error)
  bad = {name: error for name, error in worst.items() if error > tolerance}
  assert not bad


def speech_rows(lengths, seed=0):
  rng = np.random.default_rng(seed)
  return [rng.standard_normal((n, 160)).astype(np.float32) for n in lengths]
