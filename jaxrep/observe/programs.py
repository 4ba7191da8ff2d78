"""Programs that JAX traces and compiles, or loads from its cache."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

_TRACE = (
  '/jax/core/compile/jaxpr_trace_duration',
  '/jax/core/compile/jaxpr_to_mlir_module_duration',
)
_COMPILE = '/jax/core/compile/backend_compile_duration'
_LOADED = '/jax/compilation_cache/cache_hits'


class Programs:
  """Tells `found(stage, seconds, **counts)` of each, if made in this thread.

  Stages are 'trace' (to the lowered program) and 'compile' (or loading it);
  counts are `programs` and, of these, `loaded`. What is traced inside of
  something else is told once.
  """

  def __init__(self, found: Callable[..., None]):
    self._found, self._thread = found, threading.get_ident()
    self._spans: list[tuple[float, float]] = []
    self._loaded = 0

  @contextlib.contextmanager
  def heard(self) -> Iterator[None]:
    from jax import monitoring

    monitoring.register_event_listener(self._event)
    monitoring.register_event_duration_secs_listener(self._duration)
    try:
      yield
    finally:
      monitoring.unregister_event_listener(self._event)
      monitoring.unregister_event_duration_listener(self._duration)

  def _event(self, event: str, **_: str | int) -> None:
    if event == _LOADED and threading.get_ident() == self._thread:
      self._loaded += 1

  def _duration(self, event: str, seconds: float, **_: str | int) -> None:
    if threading.get_ident() != self._thread:
      return
    if event in _TRACE:
      self._found('trace', self._own(seconds))
    elif event == _COMPILE:
      loaded, self._loaded = self._loaded, 0
      self._found('compile', self._own(seconds), programs=1, loaded=loaded)

  def _own(self, seconds: float) -> float:
    """Without what was told of spans inside of this one, which just ended."""
    began, inner = time.monotonic() - seconds, 0.0
    while self._spans and self._spans[-1][0] >= began:
      inner += self._spans.pop()[1]
    self._spans.append((began, seconds))
    return seconds - inner
