"""What is predicted of large maps is what the compiler counts."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import pytest

from jaxrep.similarity import alignment, newton_schulz


@pytest.fixture
def prediction(monkeypatch):
  monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[2])
  return importlib.import_module('benchmarks.prediction')


def operations(function, *shapes):
  arguments = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
  return jax.jit(function).lower(*arguments).compile().cost_analysis()['flops']


def test_operations_of_cka_are_those_of_its_program(prediction):
  cost, valid = prediction.cka(400, 1024), jnp.ones(400, bool)
  found = operations(lambda x: alignment.factor(x, valid), (400, 1024))
  assert found == pytest.approx(cost.factor, rel=0.05)
  found = operations(jnp.vdot, (400 * 400,), (400 * 400,))
  assert found == pytest.approx(cost.score, rel=0.01)


def test_operations_of_svcca_are_those_of_its_steps(prediction):
  def step(x):
    return newton_schulz._step(x, jnp.asarray(newton_schulz.STEPS[0]))[0]

  one = operations(step, (144, 144))
  cross = operations(lambda u, v: u.T @ v, (400, 144), (400, 144))
  found = cross + one * len(newton_schulz.STEPS)
  # Sums beside the products are not predicted.
  assert found == pytest.approx(
    prediction.svcca(400, 1024, 134).score, rel=0.02
  )


def test_what_exceeds_the_host_is_done_in_groups(prediction):
  cost = prediction.cka(400, 1024)

  def at(m, host):
    return prediction.predict(cost, m, prediction.H100, host)

  assert at(3000, 128e9)['groups'] == 1
  large = at(30_000, 128e9)
  assert large['groups'] > 1
  assert large['host_gb_a_call'] <= 64
  fewer = large['groups'] - 1
  assert prediction.PAIR_BYTES * (30_000 / fewer) ** 2 > 64e9
  assert large['tiles'] == 118 * 119 / 2
