"""The training loop: one jitted step, checkpoints, curves."""

import importlib
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from absl import logging

from jaxrep import mesh as meshes
from jaxrep.training import retrieval
from jaxrep.training.batches import Order
from jaxrep.training.curves import Curves
from jaxrep.training.material import Material
from jaxrep.training.networks import Networks, Params, split
from jaxrep.training.recipes import Recipe
from jaxrep.types import InputError

SAVED_EVERY = 100
JUDGED_EVERY = 200


class State(NamedTuple):
  """All that changes while training."""

  params: Params
  optimizer: Any


def train(
  recipe: Recipe, material: Material, folder: pathlib.Path, seed: int
) -> Networks:
  """Trains from where `folder` left off; returns the networks.

  What happens at a step depends on the recipe, the seed and the step alone, so
  that an interrupted training ends as an uninterrupted one does.

  Losses and retrieval are written down as `curves.Curves`.

  Raises:
    InputError: `folder` holds another training's checkpoints.
  """
  objective = importlib.import_module(recipe.objective)
  params, merged = split(Networks(objective.Head, material.kinds, seed))
  optimizer = _optimizer(recipe)
  state = State(params, optimizer.init(params))
  curves = Curves(folder)
  with _checkpoints(folder, recipe, material, seed) as manager:
    first = manager.latest_step() or 0
    if first:
      state = manager.restore(first, args=ocp.args.StandardRestore(state))
      logging.info('Goes on at step %d.', first)
    curves.cut(first)
    step = _step(objective, optimizer, merged, recipe.rows)
    order = Order(material.training, recipe.rows, seed)
    for number in range(first, recipe.steps):
      generator = np.random.default_rng([seed, number])
      batch = objective.batch(material, order[number], generator)
      key = jax.random.fold_in(jax.random.key(seed), number)
      state, terms = step(state, batch, key, np.int32(number))
      done = number + 1
      curves.add(done, terms)
      if done % JUDGED_EVERY == 0 or done == recipe.steps:
        found = retrieval.judge(merged(state.params), material.development)
        curves.judge(done, found)
      if done % SAVED_EVERY == 0 or done == recipe.steps:
        manager.save(done, args=ocp.args.StandardSave(state))
    manager.wait_until_finished()
  return merged(state.params)


def _optimizer(recipe: Recipe) -> optax.GradientTransformation:
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, recipe.learning_rate, recipe.warmup, recipe.steps
  )
  return optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(schedule, b2=0.98, weight_decay=0.01),
  )


def _step(
  objective: Any,
  optimizer: optax.GradientTransformation,
  merged: Callable[[Params], Any],
  rows: int,
) -> Callable[..., tuple[State, dict[str, jax.Array]]]:
  """step(state, batch, key, number), over as many devices as deal the rows."""
  devices = jax.local_devices()
  mesh = meshes.of_devices(devices[: math.gcd(len(devices), rows)])
  whole, dealt = meshes.placement(mesh)(None), meshes.by_row(mesh)

  def step(state: State, batch: Any, key: jax.Array, number: jax.Array):
    def total(params: Params):
      terms = objective.loss(merged(params), batch, key, number)
      return sum(terms.values()), terms

    gradients, terms = jax.grad(total, has_aux=True)(state.params)
    updates, moved = optimizer.update(gradients, state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), moved), terms

  return jax.jit(
    step,
    in_shardings=(whole, dealt, whole, whole),
    out_shardings=whole,
  )


def _checkpoints(
  folder: pathlib.Path, recipe: Recipe, material: Material, seed: int
) -> ocp.CheckpointManager:
  """Those of one training; `training.json` says of which."""
  folder.mkdir(parents=True, exist_ok=True)
  named = folder / 'training.json'
  made_of = {'seed': seed, 'material': material.fingerprint, **recipe.settings}
  text = json.dumps(made_of, indent=2)
  if named.exists() and named.read_text() != text:
    raise InputError(
      f'{folder} holds another training, of which {named} tells: give another '
      '--training_dir, or delete it.'
    )
  named.write_text(text)
  return ocp.CheckpointManager(
    (folder / 'checkpoints').absolute(),
    options=ocp.CheckpointManagerOptions(max_to_keep=1),
  )
