"""Headless Chromium through its debugging pipe, with nothing but the library.

Chromium's `--remote-debugging-pipe` speaks the DevTools protocol over two file
descriptors, JSON messages that end in a zero byte, so neither a websocket nor a
driver is needed.
"""

import base64
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
PATIENCE = 60.0  # seconds


def executable() -> str | None:
  """Where Chromium is, or None."""
  return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
  """One page; `requests` and `complaints` list all since `open`."""

  def __init__(self, path: str):
    self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    read, theirs_out = os.pipe()
    theirs_in, write = os.pipe()
    command = [
      *('bash', '-c', f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', 'bash'),
      *(path, '--headless', '--remote-debugging-pipe', '--disable-gpu'),
      *('--no-first-run', '--disable-background-networking'),
      *('--hide-scrollbars', f'--user-data-dir={self._profile.name}'),
      *(['--no-sandbox'] if os.geteuid() == 0 else []),
    ]
    self._process = subprocess.Popen(
      command,
      pass_fds=(theirs_in, theirs_out),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    self._read, self._write = read, write
    self._numbers = itertools.count(1)
    self._buffer = b''
    self.requests: list[str] = []
    self.complaints: list[str] = []
    self.width = 0
    target = self.call('Target.createTarget', url='about:blank')['targetId']
    attached = self.call('Target.attachToTarget', targetId=target, flatten=True)
    self._session = attached['sessionId']
    for domain in ('Page', 'Runtime', 'Network', 'Log'):
      self.call(f'{domain}.enable')

  _session = ''

  def close(self) -> None:
    self._send('Browser.close', {})
    self._process.wait(PATIENCE)
    os.close(self._read)
    os.close(self._write)
    self._profile.cleanup()

  def open(self, path: pathlib.Path, width: int, height: int = 900) -> None:
    """Loads a file at a width in CSS pixels, as a telephone's below 500."""
    self.requests.clear()
    self.complaints.clear()
    self.width = width
    self.call(
      'Emulation.setDeviceMetricsOverride',
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=width < 500,
    )
    self.call('Page.navigate', url=path.resolve().as_uri())
    self.until('document.readyState === "complete"')

  def value(self, expression: str):
    """What a JavaScript expression gives, as JSON; promises are awaited."""
    found = self.call(
      'Runtime.evaluate',
      expression=expression,
      returnByValue=True,
      awaitPromise=True,
      userGesture=True,
    )
    assert 'exceptionDetails' not in found, found['exceptionDetails']
    return found['result'].get('value')

  def until(self, expression: str) -> None:
    """Waits until an expression is true."""
    end = time.monotonic() + PATIENCE
    while not self.value(expression):
      assert time.monotonic() < end, f'never true: {expression}'
      time.sleep(0.05)

  def screenshot(self, whole: bool = False) -> bytes:
    """PNG of what is seen, or of the whole page."""
    found = self.call(
      'Page.captureScreenshot', format='png', captureBeyondViewport=whole
    )
    return base64.b64decode(found['data'])

  def pdf(self) -> bytes:
    """The page printed on A4."""
    found = self.call(
      'Page.printToPDF',
      preferCSSPageSize=True,
      paperWidth=8.27,
      paperHeight=11.69,
    )
    return base64.b64decode(found['data'])

  def call(self, method: str, **parameters):
    """The result of one call of the protocol; events before it are noted."""
    number = self._send(method, parameters)
    end = time.monotonic() + PATIENCE
    while True:
      message = self._receive(end)
      if message.get('id') == number:
        assert 'error' not in message, (method, message['error'])
        return message['result']
      self._note(message)

  def _send(self, method: str, parameters) -> int:
    message = {'id': next(self._numbers), 'method': method}
    message |= {'params': parameters}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._write, json.dumps(message).encode() + b'\0')
    return message['id']

  def _receive(self, end: float):
    while b'\0' not in self._buffer:
      ready = select.select(
        [self._read], [], [], max(0, end - time.monotonic())
      )
      assert ready[0], 'Chromium does not answer'
      some = os.read(self._read, 1 << 20)
      assert some, 'Chromium has ended'
      self._buffer += some
    message, _, self._buffer = self._buffer.partition(b'\0')
    return json.loads(message)

  def _note(self, event) -> None:
    found = event.get('params', {})
    match event.get('method'):
      case 'Network.requestWillBeSent':
        self.requests.append(found['request']['url'])
      case 'Runtime.exceptionThrown':
        self.complaints.append(str(found['exceptionDetails']))
      case 'Runtime.consoleAPICalled' if found['type'] in ('error', 'warning'):
        self.complaints.append(str(found['args']))
      case 'Log.entryAdded' if found['entry']['level'] in ('error', 'warning'):
        self.complaints.append(str(found['entry']))
