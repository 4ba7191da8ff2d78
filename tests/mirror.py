"""A loopback mirror of the hub: serves local folders as repositories.

It answers what `hf_hub_download` and `snapshot_download` of huggingface_hub
ask. A process that has HF_ENDPOINT set to the mirror's address before it
imports huggingface_hub downloads from the folders over real HTTP.
"""

import contextlib
import hashlib
import http.server
import json
import pathlib
import re
import threading
import urllib.parse
from collections.abc import Iterator, Mapping

RESOLVE = re.compile(r'/(?P<repo>.+?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)')
REVISION = re.compile(r'/api/(?P<repo>.+?)/revision/(?P<revision>[^/]+)')
TREE = re.compile(
  r'/api/(?P<repo>.+?)/tree/(?P<revision>[^/]+)(/(?P<path>.+))?'
)


def commit(repo: str) -> str:
  """The revision that `main` of a served repository stands at."""
  return hashlib.sha1(repo.encode()).hexdigest()


@contextlib.contextmanager
def serve(repos: Mapping[str, str | pathlib.Path]) -> Iterator[str]:
  """Serves folders on 127.0.0.1 and yields the endpoint's URL.

  Args:
    repos: Repository name → folder; data sets as 'datasets/owner/name', models
      as 'owner/name'. Files may be added or changed while it runs.
  """
  folders = {name: pathlib.Path(folder) for name, folder in repos.items()}
  handler = type('Handler', (_Handler,), {'repos': folders})
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  server.daemon_threads = True
  threading.Thread(target=server.serve_forever, daemon=True).start()
  try:
    yield f'http://127.0.0.1:{server.server_port}'
  finally:
    server.shutdown()
    server.server_close()


class _NotFound(Exception):
  """What the hub calls it is the argument."""


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  repos: Mapping[str, pathlib.Path]

  def do_HEAD(self):
    self._answer(with_body=False)

  def do_GET(self):
    self._answer(with_body=True)

  def log_message(self, *args):
    pass

  def _answer(self, with_body: bool):
    path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
    try:
      if match := RESOLVE.fullmatch(path):
        self._file(match, with_body)
      elif match := REVISION.fullmatch(path):
        self._json(self._info(match))
      elif match := TREE.fullmatch(path):
        self._json(self._tree(match))
      else:
        raise _NotFound('EntryNotFound')
    except _NotFound as error:
      headers = {'X-Error-Code': str(error), 'Content-Length': '0'}
      if match and str(error) == 'EntryNotFound':  # what the cache remembers
        headers['X-Repo-Commit'] = commit(match['repo'].removeprefix('models/'))
      self._send(404, headers)

  def _repo(self, match: re.Match) -> tuple[str, pathlib.Path]:
    repo = match['repo'].removeprefix('models/')
    if repo not in self.repos:
      raise _NotFound('RepoNotFound')
    if match['revision'] not in ('main', commit(repo)):
      raise _NotFound('RevisionNotFound')
    return repo, self.repos[repo]

  def _file(self, match: re.Match, with_body: bool):
    repo, folder = self._repo(match)
    file = (folder / match['path']).resolve()
    if not file.is_relative_to(folder.resolve()) or not file.is_file():
      raise _NotFound('EntryNotFound')
    content = file.read_bytes()
    headers = {
      'ETag': f'"{_oid(content)}"',
      'X-Repo-Commit': commit(repo),
      'Accept-Ranges': 'bytes',
    }
    status = 200
    if wanted := re.fullmatch(
      r'bytes=(\d+)-(\d*)', self.headers.get('Range', '')
    ):
      size, start = len(content), int(wanted[1])
      content = content[start : int(wanted[2] or size) + 1]
      end = start + len(content) - 1
      headers['Content-Range'] = f'bytes {start}-{end}/{size}'
      status = 206
    headers['Content-Length'] = str(len(content))
    self._send(status, headers, content if with_body else b'')

  def _info(self, match: re.Match) -> dict:
    repo, folder = self._repo(match)
    files = [{'rfilename': entry['path']} for entry in _files(folder, folder)]
    name = repo.removeprefix('datasets/')
    return {'id': name, 'sha': commit(repo), 'siblings': files}

  def _tree(self, match: re.Match) -> list[dict]:
    _, folder = self._repo(match)
    return _files(folder, folder / (match['path'] or ''))

  def _json(self, answer: object):
    body = json.dumps(answer).encode()
    headers = {'Content-Type': 'application/json'}
    headers['Content-Length'] = str(len(body))
    self._send(200, headers, body)

  def _send(self, status: int, headers: dict[str, str], body: bytes = b''):
    self.send_response(status)
    for name, value in headers.items():
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(body)


def _files(root: pathlib.Path, folder: pathlib.Path) -> list[dict]:
  return [
    {
      'type': 'file',
      'path': file.relative_to(root).as_posix(),
      'size': file.stat().st_size,
      'oid': _oid(file.read_bytes()),
    }
    for file in sorted(folder.rglob('*'))
    if file.is_file()
  ]


def _oid(content: bytes) -> str:
  return hashlib.sha1(content).hexdigest()
