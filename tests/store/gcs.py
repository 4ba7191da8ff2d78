"""A bucket on the loopback: the part of the GCS JSON API that a store needs.

A process that has TENSORSTORE_GCS_HTTP_URL set to the server's address before
it imports tensorstore reads and writes gs:// there, over real HTTP.
"""

import contextlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  wbufsize = -1  # one packet a reply, or each waits for an acknowledgement
  objects: dict[str, bytes]

  def do_GET(self):
    path, query = self._request()
    if path.endswith('/o'):
      items = [
        {'name': name, 'generation': '1', 'size': str(len(data))}
        for name, data in sorted(self.objects.items())
        if name.startswith(query.get('prefix', ''))
      ]
      return self._reply(200, json.dumps({'items': items}).encode())
    data = self.objects.get(path.rpartition('/o/')[2])
    if data is None:
      return self._reply(404, b'')
    asked = self.headers.get('Range')
    if not asked:
      return self._reply(200, data)
    first, last = asked.removeprefix('bytes=').split('-')
    start = int(first) if first else len(data) - int(last)
    stop = int(last) + 1 if first and last else len(data)
    where = f'bytes {start}-{min(stop, len(data)) - 1}/{len(data)}'
    return self._reply(206, data[start:stop], {'Content-Range': where})

  def do_POST(self):
    _, query = self._request()
    data = self.rfile.read(int(self.headers['Content-Length']))
    if query.get('ifGenerationMatch') == '0' and query['name'] in self.objects:
      return self._reply(412, b'')
    self.objects[query['name']] = data
    reply = {'name': query['name'], 'generation': '1', 'size': str(len(data))}
    return self._reply(200, json.dumps(reply).encode())

  def do_DELETE(self):
    path, _ = self._request()
    gone = self.objects.pop(path.rpartition('/o/')[2], None)
    return self._reply(404 if gone is None else 204, b'')

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
    self.send_header('x-goog-generation', '1')
    for name, value in (headers or {}).items():
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(body)


@contextlib.contextmanager
def serve() -> Iterator[tuple[str, dict[str, bytes]]]:
  """Yields the server's address and the objects it holds."""
  handler = type('Handler', (_Handler,), {'objects': {}})
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  try:
    yield f'http://127.0.0.1:{server.server_address[1]}', handler.objects
  finally:
    server.shutdown()
    server.server_close()
