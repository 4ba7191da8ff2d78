"""Converted, cast parameters on disk, which many hosts restore sharded.

A cache is a folder, local or gs://. What is kept of one encoder is an
orbax-checkpoint `<key>-<writer>/` and, written last, `<key>.json`, which names
it and the sizes of its files; without it nothing is read. `<key>` names all
that the parameters depend on, so what is found is never out of date, and
several processes may fill a cache at once: the first `<key>.json` stands, and
the others remove what they wrote.

A cache that cannot be written costs a warning, never the run. One that cannot
be read is refused, since to compute from other weights in silence is worse.
"""

import errno
import hashlib
import json
import logging as python_logging
import os
import shutil
import time
import uuid
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from flax import nnx

from jaxrep import code
from jaxrep.opened import Model
from jaxrep.store import layout
from jaxrep.types import InputError
from ports import loading

PIECE = 16 * 2**20
"""Bytes of a chunk, of which a device reads those that it holds a part of."""

# Seconds, since what orbax has begun may still be written after a failure.
_WAITS = (0, 0.1, 0.5, 1)
_FAILURES = (OSError, ValueError, KeyError, TypeError, RuntimeError)


def weights(
  folder: str, model: Model, precision: str, placement: loading.Placement
) -> Any:
  """`Model.weights`, from the cache in `folder` where it has them.

  Where it has not, they are kept there for the next time; of the processes of
  one run the first does this.

  Raises:
    InputError: What the cache has of this model cannot be read; or as
      `Model.weights`.
  """
  root = epath.Path(folder if '://' in folder else os.path.abspath(folder))
  shapes = model.program.shapes(precision, placement)
  name = key(model, precision)
  began = time.monotonic()
  if found := _published(root, name):
    state = _restore(root, name, found, shapes)
    done = 'restored from'
  else:
    state = model.weights(precision, placement)
    done = 'kept in'
    if jax.process_index() or not _keep(root, name, state, model):
      return state
  logging.info(
    'Weights of %s for %s: %s %s in %.1f s',
    *(model.name, model.modality, done, root, time.monotonic() - began),
  )
  return state


def key(model: Model, precision: str) -> str:
  """Names the parameters' values and how they lie in memory.

  Sizes that change no parameter, such as a prompt's tokens, change no key.
  """
  state = nnx.to_flat_state(model.program.shapes(precision))
  dtypes = {path: str(variable.dtype) for path, variable in state}
  leaves = [
    (leaf.path, leaf.shape, leaf.rule, dtypes[leaf.path])
    for leaf in loading.leaves(model.program.abstract)
  ]
  layouts = model.program.network.layouts
  made_of = (code.digest('ports'), model.origin, layouts, leaves)
  return hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]


def _published(root: epath.Path, name: str) -> dict[str, Any] | None:
  path = root / f'{name}.json'
  try:
    text = path.read_text()
  except (FileNotFoundError, NotADirectoryError):
    return None
  except OSError as error:
    raise _unusable(path, error) from error
  try:
    found = json.loads(text)
    return {'folder': found['folder'], 'sizes': dict(found['sizes'])}
  except (ValueError, KeyError, TypeError) as error:
    raise _unusable(path, error) from error


def _restore(
  root: epath.Path, name: str, found: dict[str, Any], shapes: Any
) -> Any:
  """Each device reads the chunks that it holds a part of."""
  path = root / found['folder']
  try:
    if _sizes(path) != found['sizes']:
      raise ValueError('files are missing, or are not as long as they were')
    wanted = _named(shapes)
    arguments = ocp.args.PyTreeRestore(
      wanted, ocp.checkpoint_utils.construct_restore_args(wanted)
    )
    with _checkpointer() as checkpointer:
      values = checkpointer.restore(path, arguments)
  except jax.errors.JaxRuntimeError:
    raise  # the devices', such as too little memory: the cache is not at fault
  except _FAILURES as error:
    raise _unusable(root / f'{name}.json', error) from error
  return _with_values(shapes, values)


def _unusable(path: epath.Path, error: Exception) -> InputError:
  return InputError(
    f'--weights_cache: what {path} names cannot be read '
    f'({layout.reason(error)}). Delete {path}, or leave the flag out, then run '
    'the same command again.'
  )


def _keep(root: epath.Path, name: str, state: Any, model: Model) -> bool:
  """Whether the parameters were written; the run goes on without as well."""
  path = root / f'{name}-{uuid.uuid4().hex[:12]}'
  try:
    root.mkdir(parents=True, exist_ok=True)
    arrays = {n: _on_host(x) for n, x in _named(state).items()}
    _check_room(root, sum(x.nbytes for x in arrays.values()))
    arguments = ocp.args.PyTreeSave(arrays, _chunks(model))
    with _checkpointer() as checkpointer:
      checkpointer.save(path, arguments)
    won = _publish(root, name, path)
  except _FAILURES as error:
    logging.warning(
      '--weights_cache: cannot write to %s (%s). The run goes on without; make '
      'room or grant access for the next one.',
      *(root, layout.reason(error)),
    )
    won = False
  # Of killed and of slower writers too, once there is what readers take.
  for wait in (0,) if won else _WAITS:
    time.sleep(wait)
    for one in root.glob(f'{name}-*' if won else f'{path.name}*'):
      if not (won and one.name == path.name):
        _remove(one)
  return won


def _on_host(x: jax.Array) -> np.ndarray:
  """Its values, which `x` itself would keep as long as it lives."""
  parts = [shard.data for shard in x.addressable_shards]
  same = jax.make_array_from_single_device_arrays(x.shape, x.sharding, parts)
  return np.asarray(same)


def _check_room(root: epath.Path, needed: int) -> None:
  """Spares the disk, which a store may share, from being filled to the brim."""
  if '://' in str(root) or needed < shutil.disk_usage(root).free:
    return
  reason = os.strerror(errno.ENOSPC)
  raise OSError(errno.ENOSPC, f'{reason} for {needed / 1e9:.1g} GB')


def _publish(root: epath.Path, name: str, path: epath.Path) -> bool:
  """Whether this writer is the first to be done."""
  files = layout.open_files(f'{root}/', 'os')
  found = files.read(f'{name}.json').result()
  if found.state != 'missing':
    return False
  text = json.dumps({'folder': path.name, 'sizes': _sizes(path)})
  missing = found.stamp.generation
  files.write(f'{name}.json', text, if_equal=missing).result()
  return files.read(f'{name}.json').result().value == text.encode()


def _sizes(path: epath.Path) -> dict[str, int]:
  """Path → bytes of every file of a checkpoint."""
  found = {}
  for one in path.iterdir():
    if one.is_dir():
      inner = _sizes(one)
      found |= {f'{one.name}/{name}': size for name, size in inner.items()}
    else:
      found[one.name] = one.stat().length
  return found


def _remove(path: epath.Path) -> None:
  try:
    path.rmtree(missing_ok=True)
  except OSError as error:
    logging.warning('--weights_cache: %s stays behind (%s).', path, error)


def _named(state: Any) -> dict[str, Any]:
  """Parameters, or their shapes, by name."""
  return {
    '.'.join(map(str, path)): variable.get_value()
    for path, variable in nnx.to_flat_state(state)
  }


def _with_values(shapes: Any, values: dict[str, jax.Array]) -> Any:
  return nnx.from_flat_state(
    (path, variable.replace(values['.'.join(map(str, path))]))
    for path, variable in nnx.to_flat_state(shapes)
  )


def _chunks(model: Model) -> dict[str, ocp.SaveArgs]:
  """Cut first along the axis that may be dealt to several devices."""
  return {
    '.'.join(map(str, leaf.path)): ocp.SaveArgs(
      chunk_byte_size=PIECE,
      shard_axes=() if leaf.rule.split is None else (leaf.rule.split,),
    )
    for leaf in loading.leaves(model.program.abstract)
  }


def _checkpointer() -> ocp.Checkpointer:
  """One that waits for no other process: each loads when it comes to it."""
  logging.get_absl_logger().addFilter(_not_of_orbax)
  me = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(
    primary_host=me, active_processes={me}, barrier_sync_key_prefix=f'{me}'
  )
  types = ocp.type_handlers.create_type_handler_registry(
    (np.ndarray, ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)),
    (jax.Array, ocp.type_handlers.ArrayHandler(primary_host=me)),
  )
  handler = ocp.PyTreeCheckpointHandler(
    use_compression=False,  # weights hardly become shorter
    multiprocessing_options=alone,
    type_handler_registry=types,
  )
  return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _not_of_orbax(record: python_logging.LogRecord) -> bool:
  """It tells of every step, with tracebacks, in the logger that all share."""
  return f'{os.sep}orbax{os.sep}' not in record.pathname
