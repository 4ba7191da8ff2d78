"""Lists what can be chosen.

python run.py list models|corpora|languages|measures|analyses
"""

import dataclasses

from jaxrep.jobs import settings
from jaxrep.registry import lookup


@dataclasses.dataclass(frozen=True)
class Config(settings.Nothing):
  pass


def run(config: Config, what: str = 'models') -> None:
  print('\n'.join(lookup(LISTS, what, 'list')()))


def models() -> list[str]:
  from jaxrep.controls import VARIANTS
  from jaxrep.models import MODELS

  lines = []
  for name, row in MODELS.items():
    parts = {}
    for modality, part in row.parts.items():
      for one in part.components.values() or [part]:
        place = f'{one.checkpoint}; {one.licence}'
        parts.setdefault(place, []).append(modality)
    places = '; '.join(f'{", ".join(m)}: {p}' for p, m in parts.items())
    note = f'. {row.note}' if row.note else ''
    title = row.title + (f'; {row.control}' if row.control else '')
    lines.append(f'{name}: {title} ({places}){note}')
  variants = ', '.join(f'@{name}' for name in VARIANTS)
  return [
    *lines,
    f'Controls of any model, named as in sonar@untrained: {variants}',
  ]


def corpora() -> list[str]:
  from jaxrep.data import DATASETS

  return list(DATASETS)


def languages() -> list[str]:
  from jaxrep.languages import LANGUAGES, PRESETS, resource_classes

  classes = resource_classes()
  rows = [
    f'{iso}  {one.fleurs:12} {one.nllb:9} {one.name} ({one.script}, '
    f'{one.family}, {classes[iso]})' + _sonar(one)
    for iso, one in LANGUAGES.items()
  ]
  return [*rows, *(f'{name}: {",".join(v)}' for name, v in PRESETS.items())]


def _sonar(language) -> str:
  if not language.sonar_file:
    return ''
  return f'; SONAR speech: {language.sonar_file} ({language.sonar_licence})'


def measures() -> list[str]:
  from jaxrep.similarity import MEASURES, Parameters
  from jaxrep.similarity.pairs import measure_named

  parameters = Parameters()
  return [
    f'{name}: {measure_named(name).describe(parameters)}' for name in MEASURES
  ]


def analyses() -> list[str]:
  from jaxrep.analyses import ANALYSES

  return [f'{name}: {row.explanation}' for name, row in ANALYSES.items()]


LISTS = {
  'models': models,
  'corpora': corpora,
  'languages': languages,
  'measures': measures,
  'analyses': analyses,
}
