"""Checkpoint → NNX module: total, tensor by tensor, straight to its sharding.

Every parameter is filled, every key of the checkpoint is used or ignored by
name with a reason, every shape is equal; else one error lists all of it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ports.checkpoints import CheckpointError, Tensor
from ports.convolutions import Conv, DepthwiseConv, PointwiseConv
from ports.layers import (
  AdaptorParameters,
  BatchNorm,
  LayerNorm,
  Linear,
  RMSNorm,
  TapSpec,
)
from ports.parallel import ColumnEmbed, ColumnLinear, LoraLinear, RowLinear

Table = tuple[tuple[str, str], ...]


class MismatchError(CheckpointError):
  """A checkpoint's names or shapes are not the network's."""


class Rule(NamedTuple):
  """Where a leaf stands in the checkpoint, and the axes it has there.

  `axes` transposes the checkpoint's tensor, after dropping `squeeze`. Axis
  `split` of the leaf may be dealt to several devices, each of which then works
  on its own part of the network's width.
  """

  name: str
  axes: tuple[int, ...] | None = None
  squeeze: int | None = None
  split: int | None = None

  def read(self, tensor: np.ndarray) -> np.ndarray:
    if self.squeeze is not None:
      tensor = tensor.squeeze(self.squeeze)
    return tensor if self.axes is None else tensor.transpose(self.axes)

  def shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """What `read` makes of a shape; None where it cannot be read."""
    rank = len(shape) - (self.squeeze is not None)
    if self.squeeze is not None and (
      self.squeeze >= len(shape) or shape[self.squeeze] != 1
    ):
      return None
    if self.axes is not None and len(self.axes) != rank:
      return None
    return self.read(np.broadcast_to(np.empty(()), shape)).shape


class Layout(NamedTuple):
  """The names that one tool gives to a network's parameters.

  A checkpoint has this layout if one of its keys matches `marker`. `renames`
  are (pattern, replacement), applied to its keys in order; `ignored` are
  (pattern, reason) for keys that are not loaded. Of a network of several
  checkpoints, `parts` have layouts of their own behind 'part.'.
  """

  name: str
  marker: str
  renames: Table = ()
  ignored: Table = ()
  parts: tuple[tuple[str, 'Layout'], ...] = ()

  def parameter(self, key: str) -> str | None:
    """The parameter that a key of the checkpoint names; None if ignored."""
    part, _, rest = key.partition('.')
    if inner := dict(self.parts).get(part):
      name = inner.parameter(rest)
      if name is None:
        return None
      key = f'{part}.{name}'
    if any(re.search(pattern, key) for pattern, _ in self.ignored):
      return None
    for pattern, replacement in self.renames:
      key = re.sub(pattern, replacement, key)
    return key


class Network(NamedTuple):
  """What a port offers for one modality.

  `config` makes the network's sizes from a parsed config.json, `encoder` the
  network from them, `taps` the list of its taps (sizes, fine). `layouts` are
  those of the checkpoints that it reads. `weights` are maps of attention that
  can be asked for: their taps. `adaptor` is there where it shortens time.
  """

  config: Callable[[Mapping[str, Any]], Any]
  encoder: Callable[..., nnx.Module]
  taps: Callable[..., tuple[TapSpec, ...]]
  layouts: tuple[Layout, ...]
  weights: Callable[[Any], tuple[TapSpec, ...]] = lambda sizes: ()
  adaptor: AdaptorParameters | None = None

  def abstract(self, sizes: Any) -> nnx.Module:
    """The network by shape."""
    return nnx.eval_shape(lambda: self.encoder(sizes, rngs=_OneKey(0)))


class _OneKey(nnx.Rngs):
  """Gives the same key to all parameters, whose values nobody sees.

  Counting the keys out, as nnx.Rngs does, takes seconds under `eval_shape`:
  each count is traced through all that came before it.
  """

  def params(self) -> jax.Array:
    return self.default.key[...]


# The most derived class comes first.
RULES: tuple[tuple[type, dict[str, Rule]], ...] = (
  (PointwiseConv, {'kernel': Rule('weight', (1, 0), squeeze=2)}),
  (
    LoraLinear,
    {
      'kernel': Rule('weight', (1, 0), split=1),
      'lora_a': Rule('lora_A.default.weight', (1, 0)),
      'lora_b': Rule('lora_B.default.weight', (1, 0), split=1),
    },
  ),
  (ColumnLinear, {'kernel': Rule('weight', (1, 0), split=1)}),
  (RowLinear, {'kernel': Rule('weight', (1, 0), split=0)}),
  (Linear, {'kernel': Rule('weight', (1, 0)), 'bias': Rule('bias')}),
  (DepthwiseConv, {'kernel': Rule('weight', (1, 0), squeeze=1)}),
  (Conv, {'kernel': Rule('weight', (2, 1, 0)), 'bias': Rule('bias')}),
  (LayerNorm, {'scale': Rule('weight'), 'bias': Rule('bias')}),
  (
    BatchNorm,
    {
      'scale': Rule('weight'),
      'bias': Rule('bias'),
      'mean': Rule('running_mean'),
      'var': Rule('running_var'),
    },
  ),
  (RMSNorm, {'scale': Rule('weight')}),
  (ColumnEmbed, {'embedding': Rule('weight', split=1)}),
  (nnx.Embed, {'embedding': Rule('weight')}),
)
KEPT_WIDE = (LayerNorm, BatchNorm, RMSNorm)
# A leaf's split axis → where the leaf goes.
Placement = Callable[[int | None], jax.sharding.Sharding | None]


class Leaf(NamedTuple):
  """One parameter: where it is in the module, and how it is filled."""

  path: tuple[Any, ...]
  key: str
  rule: Rule
  shape: tuple[int, ...]
  wide: bool


def leaves(model: nnx.Module) -> Iterator[Leaf]:
  """Every parameter of a (possibly abstract) module."""
  modules = dict(nnx.iter_modules(model))
  for path, variable in nnx.to_flat_state(nnx.state(model)):
    owner = modules[path[:-1]]
    rules = next((r for cls, r in RULES if isinstance(owner, cls)), {})
    rule = rules.get(path[-1], Rule(str(path[-1])))
    key = '.'.join([*map(str, path[:-1]), rule.name])
    wide = isinstance(owner, KEPT_WIDE)
    yield Leaf(path, key, rule, variable.shape, wide)


def load(
  abstract: nnx.Module,
  checkpoint: Mapping[str, Tensor],
  layouts: tuple[Layout, ...] = (Layout('its own', ''),),
  dtype: jax.typing.DTypeLike = jnp.float32,
  placement: Placement = lambda split: None,
) -> nnx.Module:
  """Fills a module from a checkpoint.

  Args:
    abstract: The module by shape, as `Network.abstract` gives it.
    checkpoint: Lazy tensors by key, as `ports.checkpoints.open_checkpoint`
      gives them.
    layouts: Those that the checkpoint may have.
    dtype: Of all parameters but those of norms, which stay float32.
    placement: From the axis of a parameter that may be dealt to several
      devices, or None, to its sharding; None is the default device.

  Raises:
    CheckpointError: Lists every parameter that is missing, every key that is
      neither used nor ignored, and every shape that differs; or names the
      first tensor that cannot be read.
  """
  layout = layout_of(checkpoint, layouts)
  sources = match(list(leaves(abstract)), checkpoint, layout)

  def value(leaf: Leaf) -> jax.Array:
    kind = jnp.float32 if leaf.wide else dtype
    key = sources[leaf.key]
    try:
      sharding = placement(leaf.rule.split)
      return place(checkpoint[key], leaf.rule, kind, sharding)
    except CheckpointError as error:
      raise CheckpointError(f'{key}: {error}') from error

  return _filled(abstract, value)


def layout_of(checkpoint: Iterable[str], layouts: tuple[Layout, ...]) -> Layout:
  """The first layout whose marker is there."""
  for layout in layouts:
    if any(re.search(layout.marker, key) for key in checkpoint):
      return layout
  known = ', '.join(f'{one.name} (with {one.marker})' for one in layouts)
  some = ', '.join(sorted(checkpoint)[:5])
  raise MismatchError(
    f'The checkpoint has none of the known layouts: {known}. Its keys are '
    f'{some} …'
  )


def match(
  wanted: list[Leaf], checkpoint: Mapping[str, Tensor], layout: Layout
) -> dict[str, str]:
  """Parameter key → checkpoint key, or an error that lists what is wrong."""
  missing = {leaf.key: leaf for leaf in wanted}
  sources: dict[str, str] = {}
  problems = []
  for key in checkpoint:
    name = layout.parameter(key)
    if name is None:
      continue
    if name in sources:
      problems.append(f'{key}: the same parameter as {sources[name]}')
    elif name in missing:
      leaf = missing.pop(name)
      shape = tuple(checkpoint[key].shape)
      if leaf.rule.shape(shape) != leaf.shape:
        problems.append(f'{key}: shape {shape} does not fill {leaf.shape}')
      sources[name] = key
    else:
      problems.append(f'{key}: no parameter takes it')
  problems += [f'{key}: not in the checkpoint' for key in missing]
  if problems:
    raise MismatchError(
      f'The checkpoint does not fit the model in {len(problems)} places:\n  '
      + '\n  '.join(sorted(problems))
    )
  return sources


def place(
  tensor: Tensor,
  rule: Rule,
  dtype: jax.typing.DTypeLike,
  sharding: jax.sharding.Sharding | None,
) -> jax.Array:
  """Reads one tensor, only the parts that this process holds of it."""
  view = rule.read(tensor.read())

  def part(index: tuple[slice, ...]) -> np.ndarray:
    # Always a copy: the array must not stay a window into the file.
    return np.array(view[index], dtype, order='C')

  if sharding is None or sharding.is_fully_replicated:
    value = jax.device_put(part((slice(None),) * view.ndim), sharding)
  else:
    value = jax.make_array_from_callback(view.shape, sharding, part)
  return value.block_until_ready()


def initialise(
  abstract: nnx.Module,
  seed: int,
  dtype: jax.typing.DTypeLike = jnp.float32,
  placement: Placement = lambda split: None,
) -> nnx.Module:
  """A module of random weights that depend on the seed and the names alone.

  Kernels and embeddings are normal with variance 1 / fan-in (embeddings:
  1 / dim), norms are the identity, other biases 0.
  """

  def value(leaf: Leaf) -> jax.Array:
    kind = jnp.float32 if leaf.wide else dtype
    drawn = draw(leaf, seed).astype(kind)
    return jax.device_put(drawn, placement(leaf.rule.split))

  return _filled(abstract, value)


def cast_shapes(
  abstract: nnx.Module,
  dtype: jax.typing.DTypeLike,
  placement: Placement = lambda split: None,
) -> Any:
  """The state that `load` would give, as shapes."""

  def value(leaf: Leaf) -> jax.ShapeDtypeStruct:
    kind = jnp.float32 if leaf.wide else dtype
    sharding = placement(leaf.rule.split)
    return jax.ShapeDtypeStruct(leaf.shape, kind, sharding=sharding)

  return nnx.state(_filled(abstract, value))


def _filled(abstract: nnx.Module, value: Callable[[Leaf], Any]) -> nnx.Module:
  graphdef, state = nnx.split(abstract)
  variables = dict(nnx.to_flat_state(state))
  for leaf in leaves(abstract):
    variables[leaf.path] = variables[leaf.path].replace(value(leaf))
  return nnx.merge(graphdef, nnx.from_flat_state(variables.items()))


def draw(leaf: Leaf, seed: int) -> np.ndarray:
  if leaf.path[-1] in ('scale', 'var'):
    return np.ones(leaf.shape, np.float32)
  if leaf.path[-1] in ('bias', 'mean'):
    return np.zeros(leaf.shape, np.float32)
  embedding = leaf.path[-1] == 'embedding'
  fan_in = leaf.shape[-1] if embedding else np.prod(leaf.shape[:-1])
  entropy = [seed, *leaf.key.encode()]
  normal = np.random.default_rng(entropy).standard_normal(leaf.shape)
  return (normal / np.sqrt(fan_in)).astype(np.float32)
