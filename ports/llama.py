"""The decoder of LLaMA and Vicuna (Touvron et al., 2023), read for its states.

Reference: `LlamaModel` of transformers 5.23, with peft's LoRA where a model
has that. One pass over a whole sequence; nothing is generated.

Easily got wrong: a head's two halves are rotated against each other, not
neighbouring pairs; the RMS norm multiplies behind the rounding to the input's
dtype in the reference, which shows in half precision alone; key and value heads
may be fewer than the queries'. The sequence begins with `<s>`, then come a
prompt's pieces around the item. The residual stream is float32 under every
policy of dtypes, in text and in speech alike.

| tap | reference |
|---|---|
| text/embed | embed_tokens |
| text/layer_NN/attn | the stream after layer NN-1's attention |
| text/layer_NN | output of layers.(NN-1) |
| text/output | norm |

A tap's `mask` is of the item's own tokens, its `whole` of the sequence.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ports.attention import attention, split_heads
from ports.configs import (
  TRANSFORMERS_FIELDS,
  ConfigError,
  check_parts,
  fault,
  read_config,
  short,
  take,
  whole,
)
from ports.layers import RMSNorm, Tap, TapSpec, select, wide
from ports.loading import Layout, Network
from ports.parallel import (
  ColumnEmbed,
  ColumnLinear,
  LoraLinear,
  RowLinear,
  dealt,
)

Parts = list[tuple[str, Float[Array, 'batch time dim']]]
BOS = 1  # the token of `<s>`

UNREAD = (
  r'^(max_position_embeddings|max_length|max_sequence_length)$',
  r'^(bos|eos|pad)_token_id$',
  r'^(initializer_range|attention_dropout|temperature|top_p|do_sample)$',
  *TRANSFORMERS_FIELDS,
)
REQUIRED = {
  'model_type': 'llama',
  'hidden_act': 'silu',
  'attention_bias': False,
  'mlp_bias': False,
  'rope_scaling': None,
  'pretraining_tp': 1,
}
# Vicuna 7B, v1.5. `before` and `after` are the prompt's tokens.
DEFAULTS = {
  'vocab_size': 32000,
  'hidden_size': 4096,
  'intermediate_size': 11008,
  'num_hidden_layers': 32,
  'num_attention_heads': 32,
  'num_key_value_heads': None,
  'head_dim': None,
  'rms_norm_eps': 1e-5,
  'rope_theta': 10000.0,
  'rope_parameters': None,
  'before': (),
  'after': (),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
  """The adapter of q_proj and v_proj; `scale` is alpha / rank."""

  rank: int
  scale: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Sizes, by the names of the hub's config.json.

  `before` and `after` are the token ids of the prompt around the item, without
  the `<s>` in front.
  """

  vocab_size: int
  hidden_size: int
  intermediate_size: int
  num_hidden_layers: int
  num_attention_heads: int
  num_key_value_heads: int
  head_dim: int
  rms_norm_eps: float
  rope_theta: float
  before: tuple[int, ...] = ()
  after: tuple[int, ...] = ()
  lora: Lora | None = None
  max_tokens: int | None = None


def read(config: Mapping[str, Any]) -> Config:
  """From the hub's config.json; refuses what the port does not handle."""
  values = read_config(config, DEFAULTS, REQUIRED, UNREAD)
  rope = values['rope_parameters']
  rope = {} if rope is None else rope
  kind = rope.get('rope_type', 'default') if isinstance(rope, Mapping) else rope
  theta = kind == 'default' and rope.get('rope_theta', values['rope_theta'])
  if kind != 'default' or fault('rope_theta', theta, 1.0):
    raise ConfigError(
      f'rope_parameters={short(repr(rope))}: only the default is handled.'
    )
  heads = values['num_attention_heads']
  values['rope_theta'] = float(theta)
  if values['num_key_value_heads'] is None:
    values['num_key_value_heads'] = heads
  if values['head_dim'] is None:
    check_parts(values, 'hidden_size', 'num_attention_heads')
    values['head_dim'] = values['hidden_size'] // heads
  for name in ('num_key_value_heads', 'head_dim'):
    whole(name, values[name])
  check_parts(values, 'num_attention_heads', 'num_key_value_heads')
  return Config(**take(Config, values))


class Attention(nnx.Module):
  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    dim, each = config.hidden_size, config.head_dim
    self.heads = config.num_attention_heads
    self.shared = config.num_key_value_heads
    self.theta = config.rope_theta
    adapted: type = ColumnLinear
    options: dict[str, Any] = {'use_bias': False}
    if config.lora:
      adapted, options = LoraLinear, dataclasses.asdict(config.lora)
    self.q_proj = adapted(dim, self.heads * each, rngs=rngs, **options)
    self.k_proj = ColumnLinear(
      dim, self.shared * each, use_bias=False, rngs=rngs
    )
    self.v_proj = adapted(dim, self.shared * each, rngs=rngs, **options)
    self.o_proj = RowLinear(self.heads * each, dim, use_bias=False, rngs=rngs)

  @jax.named_scope('attention')
  def __call__(
    self, x: Float[Array, 'batch time dim'], mask: Bool[Array, 'batch time']
  ) -> Float[Array, 'batch time dim']:
    q = rotate(split_heads(self.q_proj(x), self.heads), self.theta)
    k = rotate(split_heads(self.k_proj(x), self.shared), self.theta)
    v = split_heads(self.v_proj(x), self.shared)
    k, v = (jnp.repeat(y, self.heads // self.shared, axis=2) for y in (k, v))
    past = np.tri(x.shape[1], dtype=bool)
    allowed = mask[:, None] & past
    return self.o_proj(attention(q, k, v, allowed, heads_over='model'))


def rotate(
  x: Float[Array, 'batch time head d'], theta: float
) -> Float[Array, 'batch time head d']:
  """Rotary positions (Su et al., 2021): step t turns pair m by t θ^(−2m/d)."""
  half = x.shape[-1] // 2
  frequencies = (1 / theta ** (np.arange(half) / half)).astype(np.float32)
  phase = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None] * frequencies
  cosine, sine = jnp.cos(phase)[:, None], jnp.sin(phase)[:, None]
  left, right = jnp.split(x.astype(wide(x.dtype)), 2, axis=-1)
  turned = [left * cosine - right * sine, right * cosine + left * sine]
  return jnp.concatenate(turned, axis=-1).astype(x.dtype)


class FeedForward(nnx.Module):
  def __init__(self, dim: int, inner: int, *, rngs: nnx.Rngs):
    self.gate_proj = ColumnLinear(dim, inner, use_bias=False, rngs=rngs)
    self.up_proj = ColumnLinear(dim, inner, use_bias=False, rngs=rngs)
    self.down_proj = RowLinear(inner, dim, use_bias=False, rngs=rngs)

  @jax.named_scope('feed_forward')
  def __call__(
    self, x: Float[Array, 'batch time dim']
  ) -> Float[Array, 'batch time dim']:
    return self.down_proj(jax.nn.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nnx.Module):
  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    dim, epsilon = config.hidden_size, config.rms_norm_eps
    self.input_layernorm = RMSNorm(dim, epsilon=epsilon)
    self.self_attn = Attention(config, rngs=rngs)
    self.post_attention_layernorm = RMSNorm(dim, epsilon=epsilon)
    self.mlp = FeedForward(dim, config.intermediate_size, rngs=rngs)

  def __call__(
    self, x: Float[Array, 'batch time dim'], mask: Bool[Array, 'batch time']
  ) -> tuple[Float[Array, 'batch time dim'], Float[Array, 'batch time dim']]:
    attended = x + self.self_attn(self.input_layernorm(x), mask)
    inner = self.mlp(self.post_attention_layernorm(attended))
    return attended, attended + inner


class Decoder(nnx.Module):
  """Vectors of a sequence to the states of every layer."""

  def __init__(self, config: Config, *, rngs: nnx.Rngs):
    self.config = config
    self.embed_tokens = ColumnEmbed(
      config.vocab_size, config.hidden_size, rngs=rngs
    )
    self.layers = nnx.List(
      [Layer(config, rngs=rngs) for _ in range(config.num_hidden_layers)]
    )
    self.norm = RMSNorm(config.hidden_size, epsilon=config.rms_norm_eps)

  def states(
    self, x: Float[Array, 'batch time dim'], mask: Bool[Array, 'batch time']
  ) -> Parts:
    """Every stage of a sequence of vectors, but for themselves."""
    # Between layers the stream is whole on every device of a row: a layer sums
    # behind its two parts and gathers nothing in front of them.
    x = dealt(x)
    parts: Parts = []
    for i, layer in enumerate(self.layers, 1):
      with jax.named_scope(f'layer_{i:02}'):
        attended, x = layer(x, mask)
      x = dealt(x)
      parts += [(f'layer_{i:02}/attn', attended), (f'layer_{i:02}', x)]
    return [*parts, ('output', self.norm(x))]

  @jax.named_scope('embed')
  def embed(
    self, ids: Int[Array, 'batch time']
  ) -> Float[Array, 'batch time dim']:
    """Rows of the embeddings, in the residual stream's dtype."""
    # Cast behind the look-up: nnx.Embed casts all of the table, for each batch.
    rows = jnp.take(self.embed_tokens.embedding[...], ids, axis=0)
    return rows.astype(wide(rows.dtype))

  def text(
    self, ids: Int[Array, 'batch time'], mask: Bool[Array, 'batch time']
  ) -> tuple[Tap, ...]:
    """The taps of `<s>`, the prompt's pieces and a text between them."""
    x = self.embed(jnp.where(mask, ids, 0))
    parts = [('embed', x), *self.states(x, mask)]
    own = slots(mask, self.config)
    return tuple(Tap(f'text/{name}', y, own, mask) for name, y in parts)


class TextEncoder(Decoder):
  """Token ids to the states of every stage."""

  def __call__(
    self, ids: Int[Array, 'batch time'], mask: Bool[Array, 'batch time']
  ) -> tuple[Tap, ...]:
    """Every tap, fine ones too: what a jitted caller drops is not computed."""
    return self.text(ids, mask)


def slots(
  mask: Bool[Array, 'batch time'], config: Config
) -> Bool[Array, 'batch time']:
  """The steps of the item, between the prompt's pieces."""
  steps = jnp.arange(mask.shape[1])
  end = mask.sum(axis=1, keepdims=True) - len(config.after)
  return (steps > len(config.before)) & (steps < end)


def names_of(config: Config) -> list[str]:
  """The stages of a Decoder, in order."""
  names = []
  for i in range(1, config.num_hidden_layers + 1):
    names += [f'layer_{i:02}/attn', f'layer_{i:02}']
  return [*names, 'output']


def text_specs_of(config: Config) -> list[TapSpec]:
  """Every tap of a text, in order."""
  names = ['embed', *names_of(config)]
  return [TapSpec(f'text/{name}', config.hidden_size) for name in names]


def taps(config: Config, fine: bool = False) -> tuple[TapSpec, ...]:
  """The taps of a text, in layer order."""
  return select(text_specs_of(config), fine)


def merge(decoder: Decoder) -> Decoder:
  """The same decoder with its adapters added to its kernels, in place."""
  for layer in decoder.layers:
    attn = layer.self_attn
    for name in ('q_proj', 'v_proj'):
      if isinstance(linear := getattr(attn, name), LoraLinear):
        setattr(attn, name, linear.merge())
  return decoder


LAYOUT = Layout(
  'the hub',
  r'^(model\.)?embed_tokens\.',
  renames=((r'^model\.', ''),),
  ignored=(
    (r'rotary_emb\.inv_freq$', 'computed'),
    (r'^lm_head\.', 'not read for states'),
  ),
)
TEXT = Network(read, TextEncoder, taps, (LAYOUT,))
