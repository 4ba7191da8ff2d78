"""Traces that XProf reads: bounded, after compilation, with our names."""

import jax
import jax.numpy as jnp
import pytest

from jaxrep.observe import tracing


@jax.jit
@jax.named_scope('whole')
def step(x):
  with jax.named_scope('part_of_it'):
    return jnp.tanh(x @ x)


def batches(folder, sizes):
  """Runs the step on batches, as an extraction does."""
  with tracing.profiling(folder, True):
    found = None
    for number, size in enumerate(sizes):
      x = jnp.ones((size, size))
      tracing.current().batch('extract one', step, x.shape, found)
      with jax.profiler.StepTraceAnnotation('extract', step_num=number):
        found = step(x)


def traced(folder):
  """The numbers of the steps that are in the one trace of a folder."""
  (path,) = folder.glob('profile/plugins/profile/extract-one/*.xplane.pb')
  data = jax.profiler.ProfileData.from_file(str(path))
  steps = [
    dict(event.stats)['step_num']
    for plane in data.planes
    for line in plane.lines
    for event in line.events
    if event.name == 'extract'
  ]
  assert b'whole/part_of_it' in path.read_bytes()
  return steps


@pytest.mark.parametrize(
  ('sizes', 'expected'),
  [
    ([24, 40, 24, 40, 24, 40, 24, 24], [2, 3, 4, 5]),
    ([24, 40, 40], [2]),  # what is under way at the end is kept
    ([24, 24, 40, 40], [1, 2, 3]),
  ],
)
def test_a_few_batches_from_one_of_a_known_shape(tmp_path, sizes, expected):
  batches(tmp_path, sizes)
  assert traced(tmp_path) == expected


def test_where_no_shape_comes_twice_nothing_is_traced(tmp_path):
  batches(tmp_path, [24, 40, 56])
  assert not (tmp_path / 'profile').exists()


def test_nobody_is_traced_who_did_not_ask(tmp_path):
  with tracing.profiling(tmp_path, False):
    assert tracing.current() is None
  assert tracing.current() is None


def test_of_a_failure_what_was_traced_is_kept(tmp_path):
  with pytest.raises(ZeroDivisionError), tracing.profiling(tmp_path, True):
    for number in range(2):
      tracing.current().batch('extract one', step, (24, 24), None)
      with jax.profiler.StepTraceAnnotation('extract', step_num=number):
        step(jnp.ones((24, 24)))
    raise ZeroDivisionError
  assert traced(tmp_path) == [1]
