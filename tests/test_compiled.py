"""Programs are kept where the user's cache is, and nowhere else."""

import os

import jax
import pytest

from jaxrep import compiled, hosts

FOLDER = 'JAX_COMPILATION_CACHE_DIR'


@pytest.fixture
def place(monkeypatch, tmp_path):
  """A cache folder of its own, and an environment that says nothing else."""
  monkeypatch.setitem(os.environ, FOLDER, '')
  monkeypatch.setitem(
    os.environ, 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0'
  )
  monkeypatch.setitem(os.environ, 'XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return tmp_path / 'cache'


def test_they_are_kept_in_the_users_cache_folder(place):
  compiled.keep()
  kept = os.environ[FOLDER]
  assert kept.startswith(f'{place}/jaxrep/compiled/')
  assert os.path.isdir(kept)


def test_who_names_a_folder_has_it(place, monkeypatch):
  monkeypatch.setitem(os.environ, FOLDER, 'gs://bucket/cache')
  compiled.keep()
  assert os.environ[FOLDER] == 'gs://bucket/cache'
  assert not place.exists()


def test_without_a_place_nothing_is_kept(place):
  place.write_text('a file in the place of the folder')
  compiled.keep()
  assert not os.environ[FOLDER]


def test_none_keeps_none():
  before = jax.config.jax_enable_compilation_cache
  try:
    with hosts.joined(False, 'none'):
      assert not jax.config.jax_enable_compilation_cache
  finally:
    jax.config.update('jax_enable_compilation_cache', before)
