"""Translation: a decoder writes a sentence in another language.

It reads the text encoder's output, or the speech encoder's, and is the same for
both, as in SeamlessM4T. The decoder is a pre-norm transformer with the text
encoder's embeddings at both ends; it is not kept with the encoders. Beside it
phones are recognised.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jaxrep.training import batches
from jaxrep.training.batches import Chosen
from jaxrep.training.losses import cross_entropy
from jaxrep.training.material import Material
from jaxrep.training.networks import Networks, valid
from jaxrep.training.recognition import Recogniser
from ports.attention import attention, split_heads
from ports.layers import LayerNorm, Linear, Tap, sinusoid

LAYERS = 2
FORGOTTEN = 0.5
"""Share of its own words that the decoder does not see (Bowman et al., 2016).

With all of them it writes likely sentences, and learns too late to read.
"""


class Attention(nnx.Module):
  def __init__(self, sizes: Any, *, rngs: nnx.Rngs):
    dim = sizes.hidden_size
    self.heads = sizes.encoder_attention_heads
    self.norm = LayerNorm(dim, rngs=rngs)
    self.q, self.k, self.v, self.out = (
      Linear(dim, dim, rngs=rngs) for _ in range(4)
    )

  def __call__(
    self,
    x: Float[Array, 'batch query dim'],
    allowed: Bool[Array, 'batch #query key'],
    read: Float[Array, 'batch key dim'] | None = None,
  ) -> Float[Array, 'batch query dim']:
    """x and what its normed queries find in `read`, or in x itself."""
    normed = self.norm(x)
    source = normed if read is None else read
    q, k, v = (
      split_heads(linear(y), self.heads)
      for linear, y in ((self.q, normed), (self.k, source), (self.v, source))
    )
    return x + self.out(attention(q, k, v, allowed))


class Layer(nnx.Module):
  def __init__(self, sizes: Any, *, rngs: nnx.Rngs):
    dim, ffn = sizes.hidden_size, sizes.encoder_ffn_dim
    self.self_attention = Attention(sizes, rngs=rngs)
    self.cross_attention = Attention(sizes, rngs=rngs)
    self.norm = LayerNorm(dim, rngs=rngs)
    self.fc1, self.fc2 = (
      Linear(dim, ffn, rngs=rngs),
      Linear(ffn, dim, rngs=rngs),
    )

  def __call__(
    self,
    x: Float[Array, 'batch token dim'],
    earlier: Bool[Array, 'batch token token'],
    source: Tap,
  ) -> Float[Array, 'batch token dim']:
    x = self.self_attention(x, earlier)
    x = self.cross_attention(x, source.mask[:, None], source.states)
    return x + self.fc2(jax.nn.relu(self.fc1(self.norm(x))))


class Decoder(nnx.Module):
  def __init__(self, sizes: Any, *, rngs: nnx.Rngs):
    self.layers = nnx.List([Layer(sizes, rngs=rngs) for _ in range(LAYERS)])
    self.norm = LayerNorm(sizes.hidden_size, rngs=rngs)

  def __call__(
    self,
    embedding: Float[Array, 'piece dim'],
    ids: Int[Array, 'batch token'],
    lengths: Int[Array, ' batch'],
    source: Tap,
  ) -> Float[Array, 'batch token piece']:
    """Logits of the token behind each."""
    time, dim = ids.shape[1], embedding.shape[1]
    positions = jnp.broadcast_to(jnp.arange(time), ids.shape)
    x = embedding[ids] * dim**0.5 + sinusoid(positions, dim)
    earlier = valid(lengths, time)[:, None] & jnp.tri(time, dtype=bool)
    for layer in self.layers:
      x = layer(x, earlier, source)
    return self.norm(x) @ embedding.T


class Head(nnx.Module):
  def __init__(self, sizes: Any, kinds: int, *, rngs: nnx.Rngs):
    self.decoder = Decoder(sizes, rngs=rngs)
    self.recogniser = Recogniser(sizes.hidden_size, kinds, rngs=rngs)


def batch(
  material: Material, chosen: Chosen, generator: np.random.Generator
) -> dict[str, Any]:
  """Text and speech of a sentence in one language, and it in another."""
  both = batches.parallel(material, chosen, generator)
  forgotten = generator.random(both['translation']['ids'].shape) < FORGOTTEN
  forgotten[:, 0] = False  # the language
  return {**both, 'forgotten': forgotten}


def loss(
  networks: Networks,
  batch: dict[str, Any],
  key: jax.Array,
  step: Int[Array, ''],
) -> dict[str, Float[Array, '']]:
  """The terms that are summed; the target begins with its language."""
  del key, step  # nothing is random but the batch
  ids, lengths = batch['translation']['ids'], batch['translation']['lengths']
  embedding = networks.text.embed_tokens.embedding[...]
  taps = networks.hear(**batch['speech'])
  sources = {
    'text': networks.read(**batch['text']),
    'speech': taps['speech/output'],
  }
  known = jnp.where(batch['forgotten'], batches.UNKNOWN, ids)[:, :-1]
  written = valid(lengths - 1, ids.shape[1] - 1)
  terms = {
    name: cross_entropy(
      networks.head.decoder(embedding, known, lengths - 1, source),
      ids[:, 1:],
      written,
    )
    for name, source in sources.items()
  }
  return {**terms, 'phones': networks.head.recogniser(taps, batch['phones'])}
