"""A bucket on the loopback: the part of the GCS JSON API that a run needs.

Three clients read and write gs:// there over real HTTP, in a process with the
variables that `environment` gives: tensorstore, gcsfs below etils' epath (the
extra `gcs`), and what stands on these two, orbax and JAX's compilation cache.
"""

import contextlib
import email
import http.server
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator


class Objects(dict[str, bytes]):
  """Contents by name; no more are taken once it is `closed`, by a status."""

  closed = 0


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  wbufsize = -1  # one packet a reply, or each waits for an acknowledgement
  objects: Objects
  uploads: dict[str, bytes]

  def do_GET(self):
    path, query = self._request()
    if path.endswith('/o'):
      return self._list(query)
    name = path.partition('/o/')[2]
    data = self.objects.get(name)
    if data is None:
      return self._reply(404, b'{}')
    if query.get('alt') != 'media' and '/download/' not in path:
      return self._reply_json(self._about(name))
    asked = self.headers.get('Range')
    if not asked:
      return self._reply(200, data)
    first, last = asked.removeprefix('bytes=').split('-')
    start = int(first) if first else max(len(data) - int(last), 0)
    if start >= len(data):
      return self._reply(416, b'')
    stop = int(last) + 1 if first and last else len(data)
    where = f'bytes {start}-{min(stop, len(data)) - 1}/{len(data)}'
    return self._reply(206, data[start:stop], {'Content-Range': where})

  def do_POST(self):
    path, query = self._request()
    data = self.rfile.read(int(self.headers.get('Content-Length', 0)))
    if self.objects.closed:
      message = b'{"error": {"message": "no access"}}'
      return self._reply(self.objects.closed, message)
    kind = query.get('uploadType')
    if '/moveTo/' in path:
      return self._copy(*path.split('/moveTo/'), self.objects.pop)
    if '/rewriteTo/' in path:
      return self._copy(*path.split('/rewriteTo/'), self.objects.get)
    if 'upload_id' in query:
      return self._go_on(query['upload_id'], data)
    if kind == 'resumable':
      return self._begin(query['name'])
    name = query.get('name', '')
    if kind == 'multipart':
      about, data = self._parts(data)
      name = about['name']
    if query.get('ifGenerationMatch') == '0' and name in self.objects:
      return self._reply(412, b'{}')
    self.objects[name] = data
    return self._reply_json(self._about(name))

  def do_DELETE(self):
    path, _ = self._request()
    gone = self.objects.pop(path.partition('/o/')[2], None)
    return self._reply(404 if gone is None else 204, b'')

  def _list(self, query: dict[str, str]) -> None:
    """By prefix and delimiter, as gcsfs asks, or by offsets, as tensorstore."""
    prefix, delimiter = query.get('prefix', ''), query.get('delimiter', '')
    start, end = query.get('startOffset', ''), query.get('endOffset')
    items, prefixes = [], {}
    for name in sorted(self.objects):
      inner = name.removeprefix(prefix)
      if (
        name.startswith(prefix) and start <= name and not (end and name >= end)
      ):
        if delimiter and delimiter in inner:
          prefixes[prefix + inner.partition(delimiter)[0] + delimiter] = None
        else:
          items.append(self._about(name))
    self._reply_json({'items': items, 'prefixes': [*prefixes]})

  def _copy(
    self, source: str, target: str, take: Callable[..., bytes | None]
  ) -> None:
    data = take(source.partition('/o/')[2], None)
    if data is None:
      return self._reply(404, b'{}')
    name = f'/{target}'.partition('/o/')[2]
    self.objects[name] = data
    about = self._about(name)
    return self._reply_json({**about, 'done': True, 'resource': about})

  def _begin(self, name: str) -> None:
    self.uploads[name] = b''
    quoted = urllib.parse.quote(name, '')
    where = f'http://{self.headers["Host"]}/upload?upload_id={quoted}'
    self._reply(200, b'{}', {'Location': where})

  def _go_on(self, name: str, piece: bytes) -> None:
    """A piece of an upload, and its end where its length is told."""
    self.uploads[name] += piece
    if self.headers['Content-Range'].endswith('/*'):
      last = len(self.uploads[name]) - 1
      return self._reply(308, b'', {'Range': f'bytes=0-{last}'})
    self.objects[name] = self.uploads.pop(name)
    return self._reply_json(self._about(name))

  def _parts(self, data: bytes) -> tuple[dict[str, str], bytes]:
    """The description and the contents of a multipart upload."""
    kind = f'Content-Type: {self.headers["Content-Type"]}\r\n\r\n'.encode()
    about, contents = email.message_from_bytes(kind + data).get_payload()
    return json.loads(about.get_payload()), contents.get_payload(decode=True)

  def _about(self, name: str) -> dict[str, str]:
    size, time = len(self.objects[name]), '2026-01-01T00:00:00.000Z'
    return {
      **{'kind': 'storage#object', 'bucket': 'bucket', 'name': name},
      **{'generation': '1', 'size': str(size), 'etag': '1'},
      **{'timeCreated': time, 'updated': time},
    }

  def _reply_json(self, value: dict) -> None:
    self._reply(200, json.dumps(value).encode())

  def log_message(self, *_):
    pass

  def _request(self) -> tuple[str, dict[str, str]]:
    url = urllib.parse.urlsplit(self.path)
    return urllib.parse.unquote(url.path), dict(
      urllib.parse.parse_qsl(url.query)
    )

  def _reply(self, status: int, body: bytes, headers=None) -> None:
    self.send_response(status)
    self.send_header('Content-Length', str(len(body)))
    self.send_header('Content-Type', 'application/json')
    self.send_header('x-goog-generation', '1')
    for name, value in (headers or {}).items():
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(body)


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True

  def handle_error(self, *_):
    """Clients that end leave their connections open."""


@contextlib.contextmanager
def serve() -> Iterator[tuple[str, Objects]]:
  """Yields the server's address and the objects it holds."""
  handler = type('Handler', (_Handler,), {'objects': Objects(), 'uploads': {}})
  server = _Server(('127.0.0.1', 0), handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  try:
    yield f'http://127.0.0.1:{server.server_address[1]}', handler.objects
  finally:
    server.shutdown()
    server.server_close()


def environment(url: str) -> dict[str, str]:
  """What sends a process' requests for gs:// to the server."""
  return {
    'TENSORSTORE_GCS_HTTP_URL': url,
    'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'none',
    'STORAGE_EMULATOR_HOST': url,
    'FSSPEC_GS_TOKEN': 'anon',
    'FSSPEC_GCS_TOKEN': 'anon',
    # Else it asks over gRPC what kind of bucket this is.
    'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
  }
