"""Who may import whom, parsed from the code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = {
  *('jaxrep.types', 'jaxrep.config', 'jaxrep.registry', 'jaxrep.files'),
  'jaxrep.code',
  *('jaxrep.languages', 'jaxrep.precision', 'jaxrep'),
}
# Package → the packages of the project that it may import, besides SHARED.
MAY = {
  'ports': {'ports'},
  'jaxrep.audio': set(),
  'jaxrep.stats': set(),
  'jaxrep.similarity': {'jaxrep.stats'},
  'jaxrep.data': set(),
  'jaxrep.store': set(),
  'jaxrep.report': set(),
  'jaxrep.mesh': set(),
  'jaxrep.preemption': set(),
  'jaxrep.hosts': {'jaxrep.preemption'},
  'jaxrep.memory': set(),
  'jaxrep.compiled': set(),
  'jaxrep.observe': set(),
  'jaxrep.model_row': set(),
  'jaxrep.controls': {'jaxrep.model_row'},
  'jaxrep.models': {'jaxrep.model_row', 'jaxrep.controls'},
  'jaxrep.sources': {'ports'},
  'jaxrep.tokenizers': {'jaxrep.sources'},
  'jaxrep.inputs': {'jaxrep.audio'},
  'jaxrep.checkpoint': {
    *('ports', 'jaxrep.model_row', 'jaxrep.models', 'jaxrep.sources'),
  },
  'jaxrep.opened': {
    *('ports', 'jaxrep.model_row', 'jaxrep.models', 'jaxrep.sources'),
    *('jaxrep.inputs', 'jaxrep.audio', 'jaxrep.checkpoint'),
    'jaxrep.tokenizers',
  },
  # It publishes what it wrote by the store's conditional write.
  'jaxrep.weights_cache': {'ports', 'jaxrep.opened', 'jaxrep.store'},
  'jaxrep.extract': {
    *('ports', 'jaxrep.data', 'jaxrep.store', 'jaxrep.models'),
    *('jaxrep.inputs', 'jaxrep.mesh', 'jaxrep.opened'),
    'jaxrep.weights_cache',
    'jaxrep.observe',  # stages of a batch
  },
  'jaxrep.encoder': {
    *('ports', 'jaxrep.data', 'jaxrep.models', 'jaxrep.inputs'),
    *('jaxrep.extract', 'jaxrep.mesh', 'jaxrep.opened'),
  },
  'jaxrep.training': {
    *('ports', 'jaxrep.data', 'jaxrep.models', 'jaxrep.mesh'),
    *('jaxrep.audio', 'jaxrep.inputs', 'jaxrep.sources', 'jaxrep.tokenizers'),
  },
  'jaxrep.findings': {'jaxrep.similarity', 'jaxrep.stats'},
  'jaxrep.analyses': {
    *('jaxrep.similarity', 'jaxrep.store', 'jaxrep.report'),
    'jaxrep.stats',  # tests and probes of what no measure scores
    'jaxrep.findings',
  },
  'jaxrep.jobs': {
    *('jaxrep.analyses', 'jaxrep.data', 'jaxrep.extract', 'jaxrep.mesh'),
    'jaxrep.hosts',
    *('jaxrep.models', 'jaxrep.report', 'jaxrep.similarity', 'jaxrep.stats'),
    *('jaxrep.store', 'jaxrep.opened', 'jaxrep.model_row'),
    *('jaxrep.training', 'jaxrep.findings', 'jaxrep.controls'),
    'jaxrep.observe',
  },
}
DENIED = {
  'ports': {'torch', 'tensorflow'},
  'jaxrep': {'torch', 'tensorflow'},
  'jaxrep.data': {'jax', 'flax'},
  'jaxrep.store': {'jax', 'flax'},
  'jaxrep.report': {'jax', 'flax'},
}
COMPOSITIONS = {
  'attention': {'kernels'},
  'convolutions': {'kernels'},
  'flash': {'kernels'},
  'depthwise': {'kernels'},
  'seamless': {'nllb', 'conformer'},
  'sonar': {'nllb', 'conformer', 'pooler'},
  'pooler': {'nllb'},
  'w2vbert': {'conformer', 'nllb'},
  'salmonn': {'whisper', 'beats', 'qformer', 'llama'},
}
FILES = sorted(
  path for top in ('ports', 'jaxrep') for path in (ROOT / top).rglob('*.py')
)


def module_of(path: Path) -> str:
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def package_of(module: str) -> str:
  parts = module.split('.')
  return 'ports' if parts[0] == 'ports' else '.'.join(parts[:2])


def imports_of(path: Path) -> set[str]:
  """Every module that a file imports, at its top or inside a function."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative import'
      for alias in node.names:
        inner = f'{node.module}.{alias.name}'
        file = ROOT / (inner.replace('.', '/') + '.py')
        there = file.exists() or file.with_suffix('').is_dir()
        found.add(inner if there else node.module)
  return found


def forbidden(path: Path) -> list[str]:
  module = module_of(path)
  package = package_of(module)
  bad = []
  for name in imports_of(path):
    top = name.split('.')[0]
    for owner, denied in DENIED.items():
      if (module + '.').startswith(owner + '.') and top in denied:
        bad.append(name)
    if top in ('ports', 'jaxrep') and name not in SHARED:
      target = package_of(name)
      if target != package and target not in MAY.get(package, set()):
        bad.append(name)
      bad += _forbidden_inside(module, name)
  return bad


def _forbidden_inside(module: str, name: str) -> list[str]:
  """Analyses do not import each other; networks only what they compose."""
  parts, target = module.split('.'), name.split('.')
  if parts[:2] == target[:2] == ['jaxrep', 'analyses'] and len(parts) == 3:
    # What several of them read alike.
    shared = (['run'], ['verdicts'], ['matching'])
    return [name] if target[2:] not in shared else []
  if parts[0] == target[0] == 'ports' and len(target) > 1:
    shared = {'attention', 'convolutions', 'layers', 'parallel', 'positions'}
    shared |= {'checkpoints', 'configs', 'loading'}
    allowed = shared | COMPOSITIONS.get(parts[-1], set())
    return [name] if target[1] not in allowed else []
  return []


@pytest.mark.parametrize('path', FILES, ids=module_of)
def test_imports_go_down(path):
  package = package_of(module_of(path))
  known = package in MAY or package in SHARED
  assert known, f'{package} is not in the table of import directions'
  assert not forbidden(path)


def test_a_forbidden_import_is_found(tmp_path, monkeypatch):
  file = tmp_path / 'jaxrep' / 'data' / 'bad.py'
  file.parent.mkdir(parents=True)
  file.write_text('def f():\n  import jax.numpy\n  from jaxrep import models\n')
  (tmp_path / 'jaxrep' / 'models.py').touch()
  monkeypatch.setitem(globals(), 'ROOT', tmp_path)
  assert sorted(forbidden(file)) == ['jax.numpy', 'jaxrep.models']


def test_files_are_short():
  long = [p for p in FILES if len(p.read_text().splitlines()) > 400]
  assert not long
