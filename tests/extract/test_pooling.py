"""Pooling rules against NumPy, one row at a time."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrep.extract import pooling
from jaxrep.extract.step import inner
from jaxrep.types import InputError
from ports.layers import Tap

LENGTHS = (1, 2, 5, 9)
REFERENCE = {
  'mean': lambda x: x.mean(axis=0),
  'last': lambda x: x[-1],
  'first': lambda x: x[0],
  'max': lambda x: x.max(axis=0),
}
OF_MASKS = {
  'heard': ('heard', 'mean'),
  'sequence': ('whole', 'mean'),
  'sequence_last': ('whole', 'last'),
}


def vector(rule, states, mask, name='x', **masks):
  tap = Tap(name, jnp.asarray(states), jnp.asarray(mask), **masks)
  return pooling.parse(rule).vector(tap)


def test_every_rule_is_tested():
  assert {*REFERENCE, *OF_MASKS} == set(pooling.POOLINGS)


def batch(dtype=np.float32):
  rng = np.random.default_rng(0)
  states = rng.standard_normal((len(LENGTHS), 9, 3)).astype(dtype)
  mask = np.arange(9) < np.array(LENGTHS)[:, None]
  return np.where(mask[..., None], states, np.nan), mask


@pytest.mark.parametrize('rule', REFERENCE)
def test_rules(rule):
  states, mask = batch()
  pooled = vector(rule, states, mask)
  expected = [REFERENCE[rule](s[m]) for s, m in zip(states, mask, strict=True)]
  np.testing.assert_allclose(pooled, expected, rtol=1e-6)


@pytest.mark.parametrize('rule', OF_MASKS)
def test_rules_of_other_masks(rule):
  """Of the steps that a tap names; of its own where it names none."""
  states, mask = batch()
  which, same = OF_MASKS[rule]
  own = jnp.asarray(mask).at[:, 0].set(False)
  others = {which: jnp.asarray(mask)}
  np.testing.assert_array_equal(
    vector(rule, states, own, **others), vector(same, states, mask)
  )
  np.testing.assert_array_equal(
    vector(rule, states, mask), vector(same, states, mask)
  )
  shorter = vector('mean', states, own, **others)[1:]
  assert np.abs(shorter - vector(rule, states, mask)[1:]).max() > 0.1


@pytest.mark.parametrize('rule', pooling.POOLINGS)
def test_nothing_valid_has_no_value(rule):
  states, mask = jnp.ones((2, 4, 3)), jnp.array([[True] * 4, [False] * 4])
  pooled = np.asarray(vector(rule, states, mask))
  assert np.isfinite(pooled[0]).all()
  assert np.isnan(pooled[1]).all()


def test_sums_are_float32_whatever_comes_in():
  states = jnp.full((1, 4096, 1), 1.001, jnp.bfloat16)
  mask = jnp.ones((1, 4096), bool)
  pooled = vector('mean', states, mask)
  assert pooled.dtype == jnp.float32
  np.testing.assert_allclose(pooled, np.float32(states[0, 0, 0]), rtol=1e-6)


def test_exceptions_by_tap():
  states, mask = batch()
  rules = 'max,speech/adaptor=last'
  for tap, rule in (('speech/adaptor', 'last'), ('speech/output', 'max')):
    np.testing.assert_array_equal(
      vector(rules, states, mask, tap), vector(rule, states, mask)
    )


@pytest.mark.parametrize(
  'text', ['median', 'mean,x', 'mean,x=median', 'x=mean', '']
)
def test_what_cannot_be_parsed(text):
  with pytest.raises(InputError, match='pooling'):
    pooling.parse(text)


def test_inner_leaves_the_first_and_last_valid_step_out():
  mask = jnp.arange(6) < jnp.array([[0], [1], [2], [3], [6]])
  expected = [
    [0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0],
    [0, 1, 0, 0, 0, 0],
    [0, 1, 1, 1, 1, 0],
  ]
  np.testing.assert_array_equal(inner(mask), np.array(expected, bool))


def test_an_exception_of_an_unknown_tap_is_refused():
  rule = pooling.parse('mean,speech/adapter=last')
  rule.check(['speech/embed', 'speech/adapter'])
  with pytest.raises(
    InputError, match=r"no tap 'speech/adapter'.*speech/adaptor"
  ):
    rule.check(name for name in ('speech/embed', 'speech/adaptor'))
