"""Losses that objectives are made of, in nats."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_SCALE = 20.0


def info_nce(
  a: Float[Array, 'row dim'],
  b: Float[Array, 'row dim'],
  sentence: Int[Array, ' row'],
) -> Float[Array, '']:
  """Mean of both directions; other rows of the same sentence are left out."""
  same = sentence[:, None] == sentence[None]
  twice = same & ~jnp.eye(len(a), dtype=bool)
  scores = jnp.where(twice, -jnp.inf, _SCALE * (a @ b.T))
  there, back = (
    jnp.diagonal(jax.nn.log_softmax(scores, axis=axis)) for axis in (0, 1)
  )
  return -0.5 * (there.mean() + back.mean())


def cross_entropy(
  logits: Float[Array, 'row step code'],
  wanted: Int[Array, 'row step'],
  where: Bool[Array, 'row step'],
) -> Float[Array, '']:
  """Mean over the steps that count."""
  scores = jax.nn.log_softmax(logits, axis=-1)
  found = jnp.take_along_axis(scores, wanted[..., None], axis=-1)[..., 0]
  return -jnp.sum(found * where) / jnp.maximum(where.sum(), 1)
