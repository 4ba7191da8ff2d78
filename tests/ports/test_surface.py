"""Networks without parameters: what they make of a batch, by hand."""

import jax
import numpy as np
import pytest
from flax import nnx

from ports import configs, loading, surface
from tests.ports.batches import pad, run

SIZES = {'features': 3, 'buckets': 5, 'orders': [1, 2]}


def network(which):
  abstract = which.abstract(which.config(SIZES))
  return loading.initialise(abstract, 0)


def test_counts_are_relative_frequencies_once_averaged():
  rows = [np.int32([4, 0, 4, 4]), np.int32([2])]
  found = run(network(surface.COUNTS), *pad(rows, 0, 8))
  states, mask = found['text/surface']
  means = [x[m].mean(axis=0) for x, m in zip(states, mask, strict=True)]
  np.testing.assert_array_equal(means[0], [0.25, 0, 0, 0, 0.75])
  np.testing.assert_array_equal(means[1], [0, 0, 1, 0, 0])


def test_a_length_is_one_step():
  rows = [np.int32([4, 0, 4, 4]), np.int32([2])]
  states, mask = run(network(surface.LENGTH), *pad(rows, 0, 8))['text/surface']
  assert mask.shape == (2, 1)
  assert states.tolist() == [[[4.0]], [[1.0]]]


def test_frames_stay_as_they_are():
  rows = [np.float32([[1, 2, 3], [4, 5, 6]]), np.float32([[7, 8, 9]])]
  found = run(network(surface.SPEECH), *pad(rows, np.nan, 4))
  states, mask = found['speech/surface']
  for row, x, m in zip(rows, states, mask, strict=True):
    np.testing.assert_array_equal(x[m], row)


@pytest.mark.parametrize('which', ['SPEECH', 'COUNTS', 'LENGTH'])
def test_there_are_no_parameters_and_taps_are_known(which):
  found = getattr(surface, which)
  module = network(found)
  assert not jax.tree.leaves(nnx.state(module))
  sizes = found.config(SIZES)
  (spec,) = found.taps(sizes)
  assert spec.dim == {'SPEECH': 3, 'COUNTS': 5, 'LENGTH': 1}[which]


def test_an_unknown_size_is_refused():
  with pytest.raises(configs.ConfigError, match='layers=2: unknown'):
    surface.config({**SIZES, 'layers': 2})
