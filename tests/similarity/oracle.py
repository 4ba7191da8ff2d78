"""Slow float64 NumPy, by other routes than the library's, and inputs."""

import functools

import numpy as np


def svcca(x, y, variance=0.99, k=None):
  """Eigenvectors of the covariance, then the textbook CCA of the scores."""
  a, b = _components(x, variance, k), _components(y, variance, k)
  cross = a.T @ b
  squared = np.linalg.solve(a.T @ a, cross) @ np.linalg.solve(b.T @ b, cross.T)
  correlations = np.sqrt(np.clip(np.linalg.eigvals(squared).real, 0, None))
  smaller = min(a.shape[1], b.shape[1])
  return np.sort(correlations)[::-1][:smaller].mean()


def kept(x, variance=0.99):
  """Components that the variance cut keeps."""
  return _components(x, variance, None).shape[1]


def _components(x, variance, k):
  x = np.asarray(x, np.float64)
  x = x - x.mean(axis=0)
  values, vectors = np.linalg.eigh(x.T @ x)
  values, vectors = values[::-1], vectors[:, ::-1]
  limit = np.finfo(np.float32).eps * max(x.shape)
  rank = int(np.sum(values > limit**2 * values[0]))
  if k is None:
    share = np.cumsum(values) / values.sum()
    k = int(np.argmax(share >= variance - 1e-12)) + 1
  scores = x @ vectors[:, : min(k, rank)]
  return scores / np.linalg.norm(scores, axis=0)


def cka(x, y):
  """HSIC with the centring matrix, as its definition says."""
  n = len(x)
  centring = np.eye(n) - 1 / n
  a, b = (centring @ np.asarray(side, np.float64) for side in (x, y))
  a, b = a @ a.T @ centring, b @ b.T @ centring
  return np.trace(a @ b) / np.sqrt(np.trace(a @ a) * np.trace(b @ b))


def cka_debiased(x, y):
  """The four-term estimator of HSIC of Song et al. 2012, eq. 5."""
  a, b = (_hollow_gram(side) for side in (x, y))
  return _song(a, b) / np.sqrt(_song(a, a) * _song(b, b))


def _hollow_gram(x):
  x = np.asarray(x, np.float64)
  x = x - x.mean(axis=0)
  gram = x @ x.T
  np.fill_diagonal(gram, 0)
  return gram


def _song(a, b):
  n = len(a)
  sums = a.sum() * b.sum() / ((n - 1) * (n - 2))
  return np.trace(a @ b) + sums - 2 / (n - 2) * (a @ b).sum()


MEASURES = {'svcca': svcca, 'cka': cka, 'cka_debiased': cka_debiased}


def related(n, p, q, seed=0, decay=0.7):
  """x [n, p] and y [n, q], float32, of decaying spectra around one latent."""
  rng = np.random.default_rng(seed)
  latent = rng.normal(size=(n, min(p, q, 12)))
  sides = []
  for width in (p, q):
    common = latent @ rng.normal(size=(latent.shape[1], width))
    sides.append(common + decaying(n, width, decay, rng))
  return tuple(side.astype(np.float32) for side in sides)


def decaying(n, p, decay, rng):
  """Noise whose component j has standard deviation j ** -decay."""
  noise = rng.normal(size=(n, p)) * np.arange(1, p + 1) ** -decay
  return np.sqrt(p) * noise @ rotation(p, rng.integers(2))


@functools.cache
def rotation(p, seed=0):
  return np.linalg.qr(np.random.default_rng(seed).normal(size=(p, p)))[0]


def bases(n, correlations, seed=0):
  """Centred orthonormal u, v [n, k], float64, with u'v = diag(correlations)."""
  rng, k = np.random.default_rng(seed), len(correlations)
  draw = rng.normal(size=(n, 2 * k))
  q = np.linalg.qr(draw - draw.mean(axis=0))[0]
  rho = np.asarray(correlations)
  return q[:, :k], q[:, :k] * rho + q[:, k:] * np.sqrt(1 - rho**2)
