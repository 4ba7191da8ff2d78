"""Trains a bundled model again, from nothing.

    python run.py train --recipe=aligned

composes the material, has espeak-ng 1.51 speak it (Debian 12: apt-get install
espeak-ng; two minutes on two cores, once for all recipes), trains, and leaves
in runs/training/<recipe> the model with its card, curves.png, curves.jsonl and
summary.json. The same command goes on after a kill. The same seed gives the
same weights on the same kind of machine.
"""

import dataclasses
import json
import os
import pathlib
from typing import Literal

from absl import logging

from jaxrep.config import flag
from jaxrep.jobs import settings
from jaxrep.types import InputError


@dataclasses.dataclass(frozen=True)
class Config:
  recipe: Literal['aligned', 'translation', 'unaligned'] = flag(
    'aligned', 'Which of the bundled models.'
  )
  training_dir: str = flag(
    'runs/training',
    'Folder of the training material and, by recipe, of what is trained on it.',
  )
  steps: int = flag(0, "Steps; 0 for the recipe's own number.")
  seed: int = flag(0, 'Of all that is random.')


def run(config: Config) -> None:
  from jaxrep import mesh
  from jaxrep.training import card, curves, export, loop, material, retrieval
  from jaxrep.training.recipes import RECIPES

  recipe = RECIPES[config.recipe]
  settings.check_seed(config.seed)
  if config.steps:
    if config.steps <= recipe.warmup:
      raise InputError(
        f'--steps={config.steps}: give more than the {recipe.warmup} steps of '
        'warm-up, or 0.'
      )
    recipe = dataclasses.replace(recipe, steps=config.steps)
  root = pathlib.Path(config.training_dir)
  folder = root / config.recipe
  stuff = material.prepare(root / 'material', recipe.smallest)
  networks = loop.train(recipe, stuff, folder, config.seed)
  export.save(networks, folder / 'model')
  lines = curves.Curves(folder).rows()
  curves.draw(lines, recipe.title).savefig(folder / 'curves.png', dpi=150)
  summary = {
    'recipe': config.recipe,
    'seed': config.seed,
    'steps': recipe.steps,
    'parameters': export.count(networks),
    'minutes': sum(line['seconds'] for line in lines) / 60,
    'hardware': f'{mesh.describe(mesh.local_mesh())}, {os.cpu_count()} cores',
    'retrieval': {
      'development': retrieval.judge(networks, stuff.development),
      'test': retrieval.judge(networks, material.test_set()),
    },
  }
  (folder / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
  text = card.write(config.recipe, recipe, stuff, summary)
  (folder / 'model' / 'README.md').write_text(text)
  logging.info('%s', summary['retrieval'])
  print(f'Model: {folder / "model"}')
