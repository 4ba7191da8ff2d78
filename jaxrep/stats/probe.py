"""Linear probes: what a linear reader finds in states, on unseen sentences.

Multinomial logistic regression on standardised features,

    mean over rows of -log softmax(z W + b)[class] + penalty / 2 |W|^2,

which has one minimum (Alain and Bengio 2017, arXiv 1610.01644, use it layer by
layer). The penalty is the same everywhere, so that layers and models differ by
their states alone.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

PENALTY = 1e-2
STEPS = 100  # of L-BFGS, at most
_FLAT = 1e-4  # largest entry of a gradient that ends it: accuracy is settled


class Probe(NamedTuple):
  """Logits are x @ weights + bias, of states as they are."""

  weights: Float[Array, 'dim class']
  bias: Float[Array, ' class']


@functools.partial(jax.jit, static_argnames='classes')
def fit(
  x: Float[Array, 'row dim'],
  labels: Int[Array, ' row'],
  used: Bool[Array, ' row'],
  classes: int,
) -> Probe:
  """The probe of the rows that are used, standardised by these rows."""
  share = used / jnp.sum(used)
  mean = share @ x
  sd = jnp.sqrt(share @ jnp.square(x - mean))
  scale = jnp.where(sd > 0, 1 / jnp.where(sd > 0, sd, 1), 0)

  def raw(probe: Probe) -> Probe:
    weights = probe.weights * scale[:, None]
    return Probe(weights, probe.bias - mean @ weights)

  def loss(probe: Probe) -> Float[Array, '']:
    weights, bias = raw(probe)
    surprise = optax.softmax_cross_entropy_with_integer_labels(
      x @ weights + bias, labels
    )
    return share @ surprise + PENALTY / 2 * jnp.sum(probe.weights**2)

  start = Probe(jnp.zeros((x.shape[1], classes)), jnp.zeros(classes))
  return raw(_minimise(loss, start))


def _minimise(loss, start: Probe) -> Probe:
  # The loss is convex, so that a step that lowers it is good enough; looking
  # for a better one takes twice the time, to compile and to run.
  search = optax.scale_by_backtracking_linesearch(
    max_backtracking_steps=30, store_grad=True
  )
  solver = optax.lbfgs(linesearch=search)
  value_and_grad = optax.value_and_grad_from_state(loss)

  def going_on(carry):
    step, _, state = carry
    gradient = optax.tree.get(state, 'grad')
    return (step < STEPS) & (optax.tree.norm(gradient, ord='inf') > _FLAT)

  def one_step(carry):
    step, probe, state = carry
    value, gradient = value_and_grad(probe, state=state)
    update, state = solver.update(
      gradient, state, probe, value=value, grad=gradient, value_fn=loss
    )
    return step + 1, optax.apply_updates(probe, update), state

  # The state keeps what the next step begins with; a flat start needs none.
  value, gradient = jax.value_and_grad(loss)(start)
  state = optax.tree.set(solver.init(start), value=value, grad=gradient)
  carry = (0, start, state)
  return jax.lax.while_loop(going_on, one_step, carry)[1]


@functools.partial(jax.jit, static_argnames=('classes', 'splits'))
def held_out(
  x: Float[Array, 'row dim'],
  labels: Int[Array, ' row'],
  folds: Int[Array, ' row'],
  classes: int,
  splits: int,
) -> Bool[Array, ' row']:
  """Whether each row is read right by the probe fitted without its fold."""
  x = x - x.mean(axis=0)

  def without(split):
    probe = fit(x, labels, folds != split, classes)
    found = jnp.argmax(x @ probe.weights + probe.bias, axis=1)
    return (found == labels) & (folds == split)

  # One after the other: a CPU takes batched products of this size badly.
  with jax.default_matmul_precision('highest'):
    return jax.lax.map(without, jnp.arange(splits)).any(axis=0)
