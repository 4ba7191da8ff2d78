"""Where checkpoints are found, over a loopback mirror of the hub too."""

import json
import os
import shutil
import socket
import subprocess
import sys
import typing

import pytest
import torch
from safetensors.torch import save_file

from jaxrep import checkpoint, sources
from jaxrep.types import InputError
from tests import command, mirror
from tests.ports import (
  reference,
  sonar_reference,
  test_nllb,
  test_w2vbert,
)
from tests.test_tokenizers import GOLDEN

LOAD = """
import sys, numpy as np, jaxrep
from jaxrep import opened
from jaxrep.jobs.encoders import Encoders
name, modality, language = sys.argv[1:]
model = opened.open_model(name, modality, language=language)
print('opened', model.fingerprint, len(model.taps))
encoder = jaxrep.load_encoder(name, modality, language=language or None)
print('loaded', encoder.model.fingerprint)
if modality == 'text':
  print(encoder.encode(['a river'], 'eng')['text/output'].sum())
"""


def load(url, home, *arguments, offline='0'):
  """Opens and loads a released encoder in a process of its own."""
  return subprocess.run(
    [sys.executable, '-c', LOAD, *arguments],
    env=command.environment(
      HF_ENDPOINT=url, HF_HOME=str(home), HF_HUB_OFFLINE=offline
    ),
    capture_output=True,
    text=True,
    check=False,
  )


def fetched(home):
  return {path.name for path in home.glob('hub/*/snapshots/*/*')}


def save_nllb(folder):
  test_nllb.save(folder, vocab_size=700)
  pieces = GOLDEN / 'sentencepiece.model'
  shutil.copy(pieces, folder / 'sentencepiece.bpe.model')


def save_v1(folder):
  made = reference.config('v1')
  _, speech = reference.encoders(made)
  folder.mkdir()
  tensors = {f'speech_encoder.{k}': v for k, v in speech.state_dict().items()}
  torch.save(tensors, folder / 'pytorch_model.bin')
  config = made.to_json_string(use_diff=False)
  (folder / 'config.json').write_text(config)


def test_a_speech_encoder_is_downloaded_when_it_is_loaded(tmp_path):
  """Only its own file, and its licence is told first."""
  repo, home = tmp_path / 'repo', tmp_path / 'home'
  for name in ('spenc.eng.pt', 'spenc.v5ap.hin.pt', 'spenc.v3ap.fra.pt'):
    sonar_reference.save_speech(repo / name, 3 if 'eng' in name else 6)
  with mirror.serve({'facebook/SONAR': repo}) as url:
    result = load(url, home, 'sonar', 'speech', 'hin')
    assert result.returncode == 0, result.stderr[-2000:]
    assert fetched(home) == {'config.json', 'spenc.v5ap.hin.pt'}
    told = result.stderr.index(
      'Downloading spenc.v5ap.hin.pt of facebook/SONAR. Licence: CC-BY-NC-4.0'
    )
    assert 'Downloading' not in result.stderr[told + 20 :]
    opened, loaded = result.stdout.splitlines()
    assert opened.split()[1] == loaded.split()[1]
    result = load(url, home, 'sonar', 'speech', 'eng')
    assert 'spenc.eng.pt of facebook/SONAR. Licence: none listed' in (
      result.stderr
    )
  # What is in the cache is enough, and has the same name there.
  again = load(
    'http://127.0.0.1:9', home, 'sonar', 'speech', 'hin', offline='1'
  )
  assert again.returncode == 0, again.stderr[-2000:]
  assert again.stdout.splitlines()[0] == opened
  assert 'Downloading' not in again.stderr


def test_a_hub_that_cannot_be_reached_is_named(tmp_path):
  """At once, and not taken for a repository that lacks the file."""
  with socket.socket() as port:  # taken, but nobody listens
    port.bind(('127.0.0.1', 0))
    url = f'http://127.0.0.1:{port.getsockname()[1]}'
    result = load(url, tmp_path, 'sonar', 'speech', 'hin')
  last = result.stderr.strip().splitlines()[-1]
  assert 'InputError: Cannot download config.json of facebook/SONAR' in last
  assert 'refused' in last
  assert '--checkpoints=' in last


def test_what_the_hub_lacks_is_named(tmp_path):
  repo = tmp_path / 'repo'
  sonar_reference.save_speech(repo / 'spenc.eng.pt', 3)
  with mirror.serve({'facebook/SONAR': repo}) as url:
    result = load(url, tmp_path / 'home', 'sonar', 'speech', 'hin')
  assert 'InputError: No checkpoint in facebook/SONAR; looked for' in (
    result.stderr
  )
  assert 'spenc.v5ap.hin.pt' in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
  'name, modality, repo, save, files',
  [
    (
      'nllb-200-600m',
      'text',
      'facebook/nllb-200-distilled-600M',
      save_nllb,
      {'pytorch_model.bin', 'sentencepiece.bpe.model'},
    ),
    (
      'w2v-bert-2.0+nllb-200-600m',
      'speech',
      'facebook/w2v-bert-2.0',
      test_w2vbert.save,
      {'model.safetensors'},
    ),
    (  # whose other release is looked for first
      'seamless-m4t-v1-large',
      'speech',
      'facebook/hf-seamless-m4t-large',
      save_v1,
      {'pytorch_model.bin'},
    ),
  ],
)
def test_the_hubs_usual_names(tmp_path, name, modality, repo, save, files):
  save(tmp_path / 'repo')
  (tmp_path / 'repo/flax_model.msgpack').write_bytes(b'not wanted')
  with mirror.serve({repo: tmp_path / 'repo'}) as url:
    result = load(url, tmp_path / 'home', name, modality, '')
  assert result.returncode == 0, result.stderr[-2000:]
  assert fetched(tmp_path / 'home') == {'config.json'} | files
  again = load(
    'http://127.0.0.1:9', tmp_path / 'home', name, modality, '', offline='1'
  )
  assert again.returncode == 0, again.stderr[-2000:]
  assert again.stdout == result.stdout


def test_shards_are_found_by_their_index(tmp_path):
  weight_map = {}
  for name in ('a', 'b'):
    torch.save({name: torch.ones(3)}, tmp_path / f'part-{name}.bin')
    weight_map[name] = f'part-{name}.bin'
  index = tmp_path / 'pytorch_model.bin.index.json'
  index.write_text(json.dumps({'weight_map': weight_map}))
  opened = checkpoint.Checkpoint(sources.open_source(str(tmp_path)), 'MIT')
  assert opened.fetch() == index
  before = opened.fingerprint
  torch.save({'b': torch.zeros(3)}, tmp_path / 'part-b.bin')
  again = checkpoint.Checkpoint(sources.open_source(str(tmp_path)), 'MIT')
  assert again.fingerprint != before


class Later(sources.Folder):
  """Files that are there once they were asked for, as on a hub."""

  asked: typing.ClassVar[set[str]] = set()

  def file(self, name):
    self.asked.add(name)
    return sources.Folder.file(self, name)

  def here(self, name):
    return sources.Folder.file(self, name) if name in self.asked else None

  def has(self, name):
    return sources.Folder.file(self, name) is not None


def test_a_config_inside_the_weights_is_known_before_they_are_there(tmp_path):
  """And compared with what was known once they are."""
  torch.save(
    {'cfg': {'a': 1, 'b': 2}, 'model': {'w': torch.ones(2)}}, tmp_path / 'x.pt'
  )
  for known, message in (({'a': 1}, ''), ({'a': 1, 'b': 3}, 'otherwise of b')):
    Later.asked.clear()
    place = Later('here', tmp_path)
    opened = checkpoint.Checkpoint(place, 'MIT', 'x.pt', known, 'cfg')
    assert opened.config == known
    if message:
      with pytest.raises(InputError, match=message):
        opened.tensors()
    else:
      assert list(opened.tensors()) == ['w']
    again = checkpoint.Checkpoint(place, 'MIT', 'x.pt', known, 'cfg')
    assert again.config == {'a': 1, 'b': 2}
  (tmp_path / 'x.pt').unlink()
  torch.save({'model': {'w': torch.ones(2)}}, tmp_path / 'x.pt')
  broken = checkpoint.Checkpoint(place, 'MIT', 'x.pt', None, 'cfg')
  with pytest.raises(InputError, match="holds no table 'cfg'"):
    assert broken.config is None


def test_contents_are_named_by_what_they_are(tmp_path):
  """Not by the file's name or date; of a torch file by the sums inside."""
  for name, save in (
    ('one.safetensors', lambda path, x: save_file({'a': x}, path)),
    ('one.pt', lambda path, x: torch.save({'a': x}, path)),
  ):
    path, other, copy = (tmp_path / f'{i}{name}' for i in range(3))
    save(path, torch.ones(3))
    save(other, torch.zeros(3))
    shutil.copy(path, copy)
    os.utime(copy, (1, 1))
    assert sources.contents(path) == sources.contents(copy)
    assert sources.contents(path) != sources.contents(other)


def test_a_place_that_is_none_is_named():
  for place in ('no such folder', './x/y', 'a/b/c', 'a/', 'a/b--c', 'a/b c'):
    with pytest.raises(InputError, match='neither a path nor the id'):
      sources.open_source(place)


def test_a_blob_that_is_a_link_itself_keeps_its_name(tmp_path):
  """As huggingface_hub shares the blobs of several repositories."""
  shared = tmp_path / 'blobs' / 'ab' / 'xet'
  blob = tmp_path / 'models--a--b' / 'blobs' / 'etag'
  file = tmp_path / 'models--a--b' / 'snapshots' / 'main' / 'x.pt'
  for path in (shared, blob, file):
    path.parent.mkdir(parents=True)
  shared.write_bytes(b'weights')
  blob.symlink_to(os.path.relpath(shared, blob.parent))
  file.symlink_to(os.path.relpath(blob, file.parent))
  assert sources.contents(file) == 'etag'


def test_what_a_whole_download_lacks_is_lacking_without_a_network(
  tmp_path, monkeypatch
):
  """`hf download` leaves no notes of what the repository does not have."""
  from huggingface_hub import constants

  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  repo = tmp_path / 'models--a--b'
  (repo / 'snapshots' / 'abc').mkdir(parents=True)
  (repo / 'refs').mkdir()
  (repo / 'refs' / 'main').write_text('abc')
  (repo / 'snapshots' / 'abc' / 'config.json').write_text('{}')
  hub = sources.Hub('a/b')
  assert hub.file('config.json').read_text() == '{}'
  with pytest.raises(InputError, match=r'Cannot download tokenizer\.json'):
    hub.file('tokenizer.json')
  (repo / 'snapshots' / 'abc' / '.gitattributes').touch()
  assert hub.file('tokenizer.json') is None
  assert not hub.has('tokenizer.json')
  with pytest.raises(InputError, match=r'Cannot download model\.safetensors'):
    hub.file('model.safetensors')
