"""BEATs (Chen et al., 2023): a post-norm transformer over patches of a fbank.

References: `BEATs` of speechbrain 1.1.2 and of SALMONN. Checkpoint:
`BEATs_iter3_plus_AS2M*.pt`, which holds its own sizes under `cfg`.

Easily got wrong: the bias of relative positions is layer 0's in all layers (the
file repeats it); a key behind the query has the upper half of the buckets; the
gate reads the queries before they are scaled; `max_distance` is 800 in the
released files, whatever the class' default; the residual alone is multiplied by
the deep norm's factor; patches are flattened time first; the even kernel of the
positional convolution drops its *last* frame.

| tap | reference |
|---|---|
| speech/embed/fbank | the normalised fbank, 100 frames a second |
| speech/embed/patch | patch_embedding, flattened |
| speech/embed/norm | layer_norm |
| speech/embed/proj | post_extract_proj |
| speech/embed | encoder.layer_norm: the input of layer 0 |
| speech/layer_NN/attn | after the norm behind layer NN-1's attention |
| speech/layer_NN | output of encoder.layers.(NN-1) |

A token is 160 ms of one of 8 bands; 8 tokens follow each other in time.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ports.attention import Bias, Relative, attention, split_heads
from ports.configs import ConfigError, check_parts, read_config
from ports.layers import (
  InnerLinear,
  LayerNorm,
  Linear,
  Tap,
  TapSpec,
  gelu,
  select,
  wide,
  zero_padding,
)
from ports.loading import Layout, Network

PATCH = 16
BINS = 128
BANDS = BINS // PATCH
GATES = 8  # a row of 8 makes two gates of 4 summands

REQUIRED = {
  'activation_fn': 'gelu',
  'layer_norm_first': False,
  'conv_bias': False,
  'deep_norm': True,
  'relative_position_embedding': True,
  'gru_rel_pos': True,
  'input_patch_size': PATCH,
}
UNREAD = (
  r'dropout$',
  r'layerdrop$',
  r'^dropout_input$',
  r'^layer_wise_gradient_decay_ratio$',
  r'^(finetuned_model|predictor_class)$',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Sizes, by the names of the file's `cfg`."""

  encoder_layers: int
  encoder_embed_dim: int
  encoder_ffn_embed_dim: int
  encoder_attention_heads: int
  embed_dim: int
  conv_pos: int
  conv_pos_groups: int
  num_buckets: int
  max_distance: int

  @property
  def alpha(self) -> float:
    """The deep norm's factor of the residual."""
    return (2 * self.encoder_layers) ** 0.25


def read(config: Mapping[str, Any]) -> Config:
  """From a file's `cfg`, which has to say all of it.

  Raises:
    ConfigError: It leaves a field out, or asks for what is not handled.
  """
  sizes = {field.name: 1 for field in dataclasses.fields(Config)}
  missing = [name for name in (*sizes, *REQUIRED) if name not in config]
  if missing:
    raise ConfigError(f'cfg leaves out {", ".join(missing)}.')
  values = read_config(config, sizes, REQUIRED, UNREAD)
  check_parts(values, 'encoder_embed_dim', 'encoder_attention_heads')
  check_parts(values, 'encoder_embed_dim', 'conv_pos_groups')
  return Config(**values)


class PatchEmbedding(nnx.Module):
  """torch.nn.Conv2d whose stride is its kernel, over [time, bin] patches."""

  def __init__(self, dim: int, *, rngs: nnx.Rngs):
    init = nnx.initializers.lecun_normal()
    shape = (dim, 1, PATCH, PATCH)
    self.weight = nnx.Param(init(rngs.params(), shape))

  @jax.named_scope('embed')
  def __call__(
    self, fbank: Float[Array, 'batch frame bin']
  ) -> Float[Array, 'batch token dim']:
    kernel = self.weight[...].reshape(-1, PATCH * PATCH)
    batch, frames, _ = fbank.shape
    rows = frames // PATCH
    patches = fbank[:, : rows * PATCH].reshape(batch, rows, PATCH, BANDS, PATCH)
    patches = patches.swapaxes(2, 3).reshape(batch, rows * BANDS, -1)
    y = jax.lax.dot_general(
      patches.astype(kernel.dtype),
      kernel,
      (((2,), (1,)), ((), ())),
      preferred_element_type=wide(kernel.dtype),
    )
    return y.astype(fbank.dtype)


class PositionalConv(nnx.Module):
  """A grouped torch.nn.Conv1d of even size under weight norm, then GELU.

  One convolution a group: XLA's partitioner gathers a batch that is dealt to
  several devices in front of a grouped one.
  """

  def __init__(self, dim: int, size: int, groups: int, *, rngs: nnx.Rngs):
    init = nnx.initializers.lecun_normal()
    shape = (dim, dim // groups, size)
    self.weight_v = nnx.Param(init(rngs.params(), shape))
    self.weight_g = nnx.Param(jnp.ones((1, 1, size)))
    self.bias = nnx.Param(jnp.zeros(dim))
    self.groups = groups

  @jax.named_scope('convolution')
  def __call__(
    self, x: Float[Array, 'batch time dim']
  ) -> Float[Array, 'batch time dim']:
    dtype = self.weight_v[...].dtype
    parts = zip(
      jnp.split(x.astype(dtype), self.groups, axis=2),
      jnp.split(self._weight().astype(dtype), self.groups, axis=0),
      strict=True,
    )
    y = jnp.concatenate([_centred(*part) for part in parts], axis=2)
    return gelu(y.astype(x.dtype) + self.bias[...]).astype(x.dtype)

  def _weight(self) -> Float[Array, 'outer inner size']:
    """g v / ‖v‖ at each position of the kernel."""
    v = self.weight_v[...].astype(jnp.float32)
    norm = jnp.sqrt(jnp.sum(v * v, axis=(0, 1), keepdims=True))
    return self.weight_g[...].astype(v.dtype) * v / norm


def _centred(
  x: Float[Array, 'batch time inner'], weight: Float[Array, 'outer inner size']
) -> Float[Array, 'batch time outer']:
  """Half a kernel on both sides would give one step too many, at the end.

  In a loop, XLA's convolution for a CPU is fast with the kernel in this order
  alone.
  """
  half = weight.shape[-1] // 2
  return jax.lax.conv_general_dilated(
    x,
    weight.transpose(2, 1, 0),
    window_strides=(1,),
    padding=[(half, half - 1)],
    dimension_numbers=('NWC', 'WIO', 'NWC'),
  )


class Distances(NamedTuple):
  """A bias of each head: by distance key − query, and for every pair."""

  rows: Float[Array, 'head distance']
  whole: Float[Array, 'head query key']

  @classmethod
  def of(cls, rows: Float[Array, 'head distance']) -> 'Distances':
    """The bias of a pair is that of its distance: rows shifted by one each."""
    heads, distances = rows.shape
    time = (distances + 1) // 2
    padded = jnp.pad(rows, ((0, 0), (0, 1)))[:, None]
    padded = jnp.broadcast_to(padded, (heads, time, 2 * time))
    shifted = padded.reshape(heads, -1)[:, : time * distances]
    shifted = shifted.reshape(-1, time, distances)
    return cls(rows, shifted[:, :, time - 1 :])


class SelfAttention(nnx.Module):
  """Attention with a bias of relative positions that each query weighs."""

  def __init__(self, config: Config, *, first: bool, rngs: nnx.Rngs):
    dim, heads = config.encoder_embed_dim, config.encoder_attention_heads
    self.heads = heads
    self.q_proj = Linear(dim, dim, rngs=rngs)
    self.k_proj = Linear(dim, dim, rngs=rngs)
    self.v_proj = Linear(dim, dim, rngs=rngs)
    self.out_proj = Linear(dim, dim, rngs=rngs)
    self.grep_linear = Linear(dim // heads, GATES, rngs=rngs)
    self.grep_a = nnx.Param(jnp.ones((1, heads, 1, 1)))
    if first:
      self.relative_attention_bias = nnx.Embed(
        config.num_buckets, heads, rngs=rngs
      )

  @jax.named_scope('attention')
  def __call__(
    self,
    x: Float[Array, 'batch time dim'],
    mask: Bool[Array, 'batch time'],
    bias: Distances,
  ) -> Float[Array, 'batch time dim']:
    q, k, v = (
      split_heads(proj(x), self.heads)
      for proj in (self.q_proj, self.k_proj, self.v_proj)
    )
    gate = self._gate(q)
    near = Relative(gate, bias.rows[None, ..., None], x.shape[1] - 1)
    weighed = Bias(jnp.multiply, (gate, bias.whole[None]), near)
    return self.out_proj(attention(q, k, v, mask[:, None], weighed))

  def _gate(
    self, q: Float[Array, 'batch time head d']
  ) -> Float[Array, 'batch head time 1']:
    z = self.grep_linear(q).astype(wide(q.dtype))
    z = z.reshape(*z.shape[:3], 2, GATES // 2).sum(-1)
    a, b = jnp.moveaxis(jax.nn.sigmoid(z), -1, 0)
    scale = self.grep_a[...].reshape(self.heads)
    return (a * (b * scale - 1) + 2).swapaxes(1, 2)[..., None]


class Layer(nnx.Module):
  def __init__(self, config: Config, *, first: bool, rngs: nnx.Rngs):
    dim, ffn = config.encoder_embed_dim, config.encoder_ffn_embed_dim
    self.alpha = config.alpha
    self.self_attn = SelfAttention(config, first=first, rngs=rngs)
    self.self_attn_layer_norm = LayerNorm(dim, rngs=rngs)
    self.fc1 = InnerLinear(dim, ffn, rngs=rngs)
    self.fc2 = Linear(ffn, dim, rngs=rngs)
    self.final_layer_norm = LayerNorm(dim, rngs=rngs)

  def __call__(
    self,
    x: Float[Array, 'batch time dim'],
    mask: Bool[Array, 'batch time'],
    bias: Distances,
  ) -> tuple[Float[Array, 'batch time dim'], Float[Array, 'batch time dim']]:
    attended = self.self_attn_layer_norm(
      self.alpha * x + self.self_attn(x, mask, bias)
    )
    inner = self.fc2(gelu(self.fc1(attended)))
    return attended, self.final_layer_norm(self.alpha * attended + inner)


class Transformer(nnx.Module):
  """`encoder` of the checkpoint: positions and layers."""

  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    dim = config.encoder_embed_dim
    self.config = config
    self.pos_conv = PositionalConv(
      dim, config.conv_pos, config.conv_pos_groups, rngs=rngs
    )
    self.layer_norm = LayerNorm(dim, rngs=rngs)
    self.layers = nnx.List(
      [
        Layer(config, first=i == 0, rngs=rngs)
        for i in range(config.encoder_layers)
      ]
    )

  def __call__(
    self, x: Float[Array, 'batch time dim'], mask: Bool[Array, 'batch time']
  ) -> list[tuple[str, Float[Array, 'batch time dim']]]:
    x = zero_padding(x, mask)
    x = self.layer_norm(x + self.pos_conv(x))
    parts = [('embed', x)]
    bias = self.bias(x.shape[1])
    for i, layer in enumerate(self.layers, 1):
      with jax.named_scope(f'layer_{i:02}'):
        attended, x = layer(x, mask, bias)
      parts += [(f'layer_{i:02}/attn', attended), (f'layer_{i:02}', x)]
    return parts

  def bias(self, time: int) -> Distances:
    table = self.layers[0].self_attn.relative_attention_bias.embedding[...]
    return Distances.of(table[buckets(time, self.config)].astype(jnp.float32).T)


def buckets(time: int, config: Config) -> Int[np.ndarray, ' distance']:
  """The buckets of the distances key − query from 1 − time to time − 1.

  Half of them are for keys behind the query. Near distances have one each, the
  others share them logarithmically up to `max_distance`; rounded in float32 as
  the reference's are.
  """
  half = config.num_buckets // 2
  near = half // 2
  distance = np.arange(1 - time, time)
  far = np.maximum(np.abs(distance), 1).astype(np.float32)
  grown = np.log(far / np.float32(near))
  grown = grown / np.float32(np.log(config.max_distance / near))
  grown = near + (grown * np.float32(half - near)).astype(int)
  found = np.where(
    np.abs(distance) < near, np.abs(distance), np.minimum(grown, half - 1)
  )
  return found + half * (distance > 0)


class Encoder(nnx.Module):
  """A normalised fbank to the states of every stage."""

  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    inner, dim = config.embed_dim, config.encoder_embed_dim
    self.patch_embedding = PatchEmbedding(inner, rngs=rngs)
    self.layer_norm = LayerNorm(inner, rngs=rngs)
    self.post_extract_proj = Linear(inner, dim, rngs=rngs)
    self.encoder = Transformer(config, rngs=rngs)

  def __call__(
    self,
    fbank: Float[Array, 'batch frame bin'],
    mask: Bool[Array, 'batch frame'],
  ) -> tuple[Tap, ...]:
    """Every tap, fine ones too: what a jitted caller drops is not computed.

    Frames that do not fill a patch are left out at the end.
    """
    patches = self.patch_embedding(zero_padding(fbank, mask))
    normed = self.layer_norm(patches)
    projected = self.post_extract_proj(normed)
    whole = mask.sum(axis=1) // PATCH * BANDS
    there = jnp.arange(patches.shape[1]) < whole[:, None]
    parts = [
      ('embed/patch', patches),
      ('embed/norm', normed),
      ('embed/proj', projected),
      *self.encoder(projected, there),
    ]
    first = Tap('speech/embed/fbank', fbank, mask)
    return first, *(Tap(f'speech/{name}', x, there) for name, x in parts)


def specs_of(config: Config) -> list[TapSpec]:
  """Every tap of an Encoder, in order."""
  inner, dim = config.embed_dim, config.encoder_embed_dim
  specs = [
    ('embed/fbank', BINS),
    ('embed/patch', inner),
    ('embed/norm', inner),
    ('embed/proj', dim),
    ('embed', dim),
  ]
  for i in range(1, config.encoder_layers + 1):
    specs += [(f'layer_{i:02}/attn', dim), (f'layer_{i:02}', dim)]
  return [TapSpec(f'speech/{name}', size) for name, size in specs]


def taps(config: Config, fine: bool = False) -> tuple[TapSpec, ...]:
  """The taps of an Encoder, in layer order."""
  return select(specs_of(config), fine)


LAYOUT = Layout(
  'BEATs',
  r'^patch_embedding\.',
  renames=((r'^encoder\.pos_conv\.0\.', 'encoder.pos_conv.'),),
  ignored=(
    (r'^predictor\.', 'classes of AudioSet'),
    (
      r'^encoder\.layers\.[1-9]\d*\.self_attn\.relative_attention_bias\.',
      "a copy of layer 0's",
    ),
  ),
)
SPEECH = Network(read, Encoder, taps, (LAYOUT,))
