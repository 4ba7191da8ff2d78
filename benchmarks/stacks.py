"""What similarity benchmarks compare: stacks of layers, and the truth of them.

Two stacks of layers around a shared latent that drifts from layer to layer,
with an offset of every feature; the variance of component j falls as a power
of j. The truth is float64, SVCCA's by singular vectors and values alone.
"""

import numpy as np

from benchmarks import peers

DECAY = {'few': 1.7, 'many': 1.0}  # few or many components hold 99 %
OFFSET = 5  # norm of the mean over the rms norm of a centred row
DRIFT = 0.3  # of the latent, from layer to layer
CHECKED = 24  # layers whose pairs have a truth

Stack = list[np.ndarray]


def stacks(m: int, n: int, d: int, spectrum: str) -> Stack:
  """Two stacks of m / 2 layers each, [n, d] in float32."""
  rng = np.random.default_rng(0)
  deviation = np.arange(1, d + 1) ** (-DECAY[spectrum] / 2)
  rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
  shared, layers = rng.normal(size=(n, d)), []
  for depth in range(m):
    if depth in (0, (m + 1) // 2):
      latent = shared
    change = rng.normal(size=(n, d))
    latent = np.sqrt(1 - DRIFT**2) * latent + DRIFT * change
    x = latent * deviation * rng.choice([-1, 1], d) @ rotation
    mean = rng.normal(size=d)
    mean *= OFFSET * np.linalg.norm(deviation) / np.linalg.norm(mean)
    layers.append((x + mean).astype(np.float32))
  return layers


def cka_truth(stack: Stack, debiased: bool = False) -> np.ndarray:
  return peers.numpy_cka([x.astype(float) for x in stack[:CHECKED]], debiased)


def cka_floor(stack: Stack) -> np.ndarray:
  """Mean of biased CKA over all pairings: tr K tr L / (|K| |L| (n - 1))."""
  shares = []
  for x in stack[:CHECKED]:
    values = np.linalg.svd(peers.centred(x.astype(float)), compute_uv=False)
    shares.append(np.sum(values**2) / np.linalg.norm(values**2))
  return np.outer(shares, shares) / (len(stack[0]) - 1)


def svcca_truth(stack: Stack, k: int | None = None) -> np.ndarray:
  bases = []
  for x in stack[:CHECKED]:
    u, s, _ = np.linalg.svd(peers.centred(x.astype(float)), full_matrices=False)
    share = np.cumsum(s**2) / np.sum(s**2)
    bases.append(u[:, : k or np.searchsorted(share, 0.99) + 1])
  values = np.empty((len(bases), len(bases)))
  for i, u in enumerate(bases):
    for j, v in enumerate(bases[: i + 1]):
      cosines = np.linalg.svd(u.T @ v, compute_uv=False)
      values[i, j] = values[j, i] = cosines.mean()
  return values
