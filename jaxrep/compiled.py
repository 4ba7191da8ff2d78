"""Where this process keeps the programs that it compiles."""

import hashlib
import os
import pathlib
import platform

_FOLDER = 'JAX_COMPILATION_CACHE_DIR'


def keep() -> None:
  """Tells JAX to keep them in the user's cache folder, unless told otherwise.

  To be called before jax is imported. A home that cannot be written to keeps
  none. A program for one kind of processor may not run on another, which a
  shared home does not tell apart: each kind has a folder.
  """
  if os.environ.get(_FOLDER):
    return
  home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  folder = pathlib.Path(home) / 'jaxrep' / 'compiled' / _processor()
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError:
    return
  if os.access(folder, os.W_OK):
    os.environ[_FOLDER] = str(folder)
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')


def _processor() -> str:
  """Names the instructions that this processor has."""
  said = pathlib.Path('/proc/cpuinfo')
  lines = said.read_text().splitlines() if said.exists() else []
  flags = {line for line in lines if line.startswith(('flags', 'Features'))}
  mark = hashlib.sha256('\n'.join(sorted(flags)).encode()).hexdigest()[:8]
  return f'{platform.machine()}-{mark}'
