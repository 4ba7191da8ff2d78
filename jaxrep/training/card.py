"""The model card of a bundled model, filled with its training's own figures."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jinja2

from jaxrep.languages import resource_classes
from jaxrep.models import RESOURCES
from jaxrep.training import material
from jaxrep.training.material import Material
from jaxrep.training.recipes import RECIPES, Recipe

_STEPS_AN_HOUR = 50 * 3600


def write(
  name: str, recipe: Recipe, stuff: Material, summary: Mapping[str, Any]
) -> str:
  """Markdown with the hub's header; `summary` is summary.json."""
  template = pathlib.Path(__file__).with_suffix('.md').read_text('utf-8')
  environment = jinja2.Environment(
    undefined=jinja2.StrictUndefined, keep_trailing_newline=True
  )
  classes = resource_classes(RESOURCES.table)
  languages = [
    {
      'iso': one.language,
      'class': classes[one.language],
      'sentences': len(one.tokens),
      'hours': one.steps.sum() / _STEPS_AN_HOUR,
    }
    for one in stuff.training
  ]
  flags = f' --seed={summary["seed"]}' if summary['seed'] else ''
  if recipe.steps != RECIPES[name].steps:
    flags += f' --steps={recipe.steps}'
  return environment.from_string(template).render(
    name=name,
    flags=flags,
    recipe=recipe,
    summary=summary,
    languages=languages,
    variants=material.VARIANTS,
    speeds=material.SPEEDS,
    pitches=material.PITCHES,
    shares=list(material.SHARES.values()),
  )
