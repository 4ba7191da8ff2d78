"""What others compute of the same representations.

NumPy's best algebra for all pairs at once, the routine of google/svcca's
tutorial for one pair, and the packages of PyPI through their public functions.
Each takes NumPy arrays [n, p] and gives NumPy; a package is imported when it is
first called, so that one may be missing.
"""

import contextlib
import functools
import importlib.metadata
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Stack = Sequence[np.ndarray]
Call = Callable[[Stack, Stack], np.ndarray]

# By the name on PyPI; what is imported is called differently.
PACKAGES = ('ckatorch', 'torch-cka', 'pytorch-cka', 'rsatoolbox')


def versions() -> dict[str, str | None]:
  """The version of each package, None where it is not installed."""
  found = {}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = None
  return found


def centred(x: np.ndarray) -> np.ndarray:
  return x - x.mean(axis=0)


def numpy_cka(stack: Stack, debiased: bool = False) -> np.ndarray:
  """Linear CKA of all pairs: flattened centred Grams, one product."""
  n = len(stack[0])
  flat = np.empty((len(stack), n * n), stack[0].dtype)
  for row, x in zip(flat, stack, strict=True):
    x = centred(x)
    gram = np.matmul(x, x.T, out=row.reshape(n, n))
    if debiased:
      _u_centre(gram)
  cross = flat @ flat.T
  norms = np.sqrt(np.diagonal(cross))
  return cross / norms[:, None] / norms


def _u_centre(gram: np.ndarray) -> None:
  """Off-diagonal row means removed in place (Szekely and Rizzo 2014)."""
  n = len(gram)
  np.fill_diagonal(gram, 0)
  means = gram.sum(axis=0) / (n - 2)
  means -= means.sum() / (2 * (n - 1))
  gram -= means[:, None]
  gram -= means
  np.fill_diagonal(gram, 0)


def numpy_svcca(
  stack: Stack, variance: float = 0.99, k: int | None = None
) -> np.ndarray:
  """SVCCA of all pairs: one eigh of a Gram a layer, eigvalsh(A'A) a pair."""
  bases = [numpy_basis(x, variance, k) for x in stack]
  values = np.eye(len(stack))
  for i, u in enumerate(bases):
    for j in range(i):
      values[i, j] = values[j, i] = _mean_cosine(u, bases[j])
  return values


def numpy_basis(
  x: np.ndarray, variance: float = 0.99, k: int | None = None
) -> np.ndarray:
  """Left singular vectors of the components that hold the variance, or of k."""
  x = centred(x)
  wide = x.shape[1] > x.shape[0]
  squares, u = np.linalg.eigh(x @ x.T if wide else x.T @ x)
  squares, u = squares[::-1], u[:, ::-1]
  if k is None:
    share = np.cumsum(squares) / squares.sum()
    k = np.searchsorted(share, variance) + 1
  return u[:, :k] if wide else x @ u[:, :k] / np.sqrt(squares[:k])


def _mean_cosine(u: np.ndarray, v: np.ndarray) -> float:
  cross = u.T @ v if u.shape[1] <= v.shape[1] else v.T @ u
  squares = np.linalg.eigvalsh(cross @ cross.T)
  return np.sqrt(squares.clip(0)).mean()


def numpy_cka_permutations(stack: Stack, count: int) -> np.ndarray:
  """CKA at `count` random pairings [count, m, m], layers together.

  The layers lie last, so that what is gathered are whole vectors of them.
  """
  rng, n = np.random.default_rng(0), len(stack[0])
  flat = _unit_grams(stack)
  found = np.empty((count, len(stack), len(stack)), flat.dtype)
  for values in found:
    order = rng.permutation(n)
    moved = flat.take((order[:, None] * n + order).ravel(), axis=0)
    np.matmul(flat.T, moved, out=values)
  return found


def _unit_grams(stack: Stack) -> np.ndarray:
  """Centred Grams at norm 1, flattened [n * n, m]."""
  flat = np.empty((len(stack[0]) ** 2, len(stack)), stack[0].dtype)
  for i, x in enumerate(stack):
    x = centred(x)
    gram = x @ x.T
    flat[:, i] = gram.ravel() / np.linalg.norm(gram)
  return flat


def numpy_svcca_permutations(
  stack: Stack, count: int, variance: float = 0.99
) -> np.ndarray:
  """SVCCA at `count` random pairings [count, m, m], bases made once."""
  rng, m = np.random.default_rng(0), len(stack)
  bases = [numpy_basis(x, variance) for x in stack]
  found = np.empty((count, m, m))
  for values in found:
    order = rng.permutation(len(stack[0]))
    for i, u in enumerate(bases):
      for j in range(i, m):
        values[i, j] = values[j, i] = _mean_cosine(u, bases[j][order])
  return found


def numpy_cka_replicates(stack: Stack, count: int) -> np.ndarray:
  """CKA of `count` bootstrap replicates [count, m, m], from cached Grams.

  Sentences are weighted by how often they are drawn; pairs of a sentence with
  itself are left out, as they must be.
  """
  rng, n, m = np.random.default_rng(0), len(stack[0]), len(stack)
  grams = _unit_grams(stack).reshape(n, n, m)
  found = np.empty((count, m, m), grams.dtype)
  for values in found:
    drawn = np.bincount(rng.integers(n, size=n), minlength=n)
    weight = drawn.astype(grams.dtype)
    means = (weight @ grams.reshape(n, n * m)).reshape(n, m) / n
    centre = grams - (means - weight @ means / (2 * n))[:, None]
    centre -= means - weight @ means / (2 * n)
    root = np.sqrt(np.outer(weight, weight))
    np.fill_diagonal(root, 0)
    flat = (centre * root[:, :, None]).reshape(n * n, m)
    cross = flat.T @ flat
    norms = np.sqrt(np.diagonal(cross))
    values[:] = cross / norms[:, None] / norms
  return found


def numpy_svcca_replicates(
  stack: Stack, count: int, left_out: int, variance: float = 0.99
) -> np.ndarray:
  """SVCCA without `left_out` random sentences, `count` times [count, m, m]."""
  rng, n = np.random.default_rng(0), len(stack[0])
  drawn = [rng.permutation(n)[left_out:] for _ in range(count)]
  return np.stack(
    [numpy_svcca([x[rows] for x in stack], variance) for rows in drawn]
  )


def tutorial_svcca(
  x: np.ndarray, y: np.ndarray, variance: float = 0.99
) -> float:
  """SVCCA of one pair as google/svcca's tutorial computes it.

  An SVD of each side, then CCA of the kept scores through their joint
  covariance: blocks scaled by their largest entry, pseudo-inverse, root by
  eigh, a full SVD of the whitened cross-covariance.
  """
  return mean_whitened(scores(x, variance), scores(y, variance))


def scores(x: np.ndarray, variance: float = 0.99) -> np.ndarray:
  """Principal components [k, n] that hold the variance."""
  _, s, rotation = np.linalg.svd(centred(x).T, full_matrices=False)
  kept = np.searchsorted(np.cumsum(s**2) / np.sum(s**2), variance) + 1
  return s[:kept, None] * rotation[:kept]


def whitened_cca(
  a: np.ndarray, b: np.ndarray, epsilon: float = 0.0
) -> np.ndarray:
  """Canonical correlations of a [k, n] and b [l, n] by whitening."""
  k = len(a)
  joint = np.cov(a, b)
  aa, ab, bb = joint[:k, :k], joint[:k, k:], joint[k:, k:]
  scale_a, scale_b = np.abs(aa).max(), np.abs(bb).max()
  aa, bb = aa / scale_a, bb / scale_b
  ab = ab / np.sqrt(scale_a * scale_b)
  left, right = (_inverse_root(block, epsilon) for block in (aa, bb))
  _, correlations, _ = np.linalg.svd(left @ ab @ right)
  return correlations


def mean_whitened(a: np.ndarray, b: np.ndarray) -> float:
  return whitened_cca(a, b).mean()


def _inverse_root(block: np.ndarray, epsilon: float) -> np.ndarray:
  inverse = np.linalg.pinv(block + epsilon * np.eye(len(block)))
  values, vectors = np.linalg.eigh(inverse)
  return vectors * np.sqrt(np.abs(values)) @ vectors.T


def ckatorch(
  stack: Stack,
  others: Stack,
  unbiased: bool = False,
  method: str = 'fro_norm',
) -> np.ndarray:
  """ckatorch's `cka_base`, one pair at a time; it works in float64."""
  from ckatorch.core import cka_base

  call = functools.partial(cka_base, unbiased=unbiased, method=method)
  pair = each(lambda x, y: float(call(x, y)))
  return pair(_tensors(stack), _tensors(others))


def pytorch_cka(stack: Stack, others: Stack) -> np.ndarray:
  """pytorch-cka's `cka_from_features`; debiased, which is all it has."""
  from cka import cka_from_features

  return cka_from_features(_tensors(stack), _tensors(others)).numpy()


def pytorch_cka_models(stack: Stack, others: Stack) -> np.ndarray:
  """pytorch-cka's `compute_cka` of two models that replay the features."""
  from cka import compute_cka

  models, layers, loader = _replay(stack, others)
  (matrix,) = compute_cka(
    *(*models, loader),
    layers=layers[0],
    model2_layers=layers[1],
    device='cpu',
    progress=False,
  )
  return matrix.numpy()


def torch_cka(stack: Stack, others: Stack) -> np.ndarray:
  """torch_cka's `CKA.compare` of two models that replay the features."""
  from torch_cka import CKA

  models, layers, loader = _replay(stack, others)
  comparison = CKA(
    *models,
    *('first', 'second'),
    model1_layers=layers[0],
    model2_layers=layers[1],
  )
  with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
    comparison.compare(loader, loader)
  return comparison.export()['CKA'].detach().numpy()


def rsatoolbox(
  stack: Stack, others: Stack, comparison: str = 'cosine_cov'
) -> np.ndarray:
  """rsatoolbox's comparison of squared Euclidean distances."""
  from rsatoolbox.rdm import compare

  return compare(_distances(stack), _distances(others), comparison)


def _distances(stack: Stack):
  from rsatoolbox.data import Dataset
  from rsatoolbox.rdm import calc_rdm

  return calc_rdm([Dataset(x) for x in stack], method='euclidean')


def _tensors(stack: Stack) -> list:
  import torch

  torch.set_num_threads(1)  # as NumPy has: CPU seconds are compared

  return [torch.from_numpy(x) for x in stack]


def _replay(*stacks: Stack) -> tuple[list, list[list[str]], object]:
  """Models whose layers put out the given features, their names, a loader.

  What goes in is the positions of all rows, as one batch.
  """
  import torch

  class Stored(torch.nn.Module):
    def __init__(self, x: torch.Tensor):
      super().__init__()
      self.x = x

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
      return self.x[rows]

  class Replay(torch.nn.Module):
    def __init__(self, stack: Stack):
      super().__init__()
      self.layers = torch.nn.ModuleList(map(Stored, _tensors(stack)))

    def forward(self, rows: torch.Tensor) -> list[torch.Tensor]:
      return [layer(rows) for layer in self.layers]

  n = len(stacks[0][0])
  rows = torch.utils.data.TensorDataset(torch.arange(n))
  loader = torch.utils.data.DataLoader(rows, batch_size=n)
  names = [[f'layers.{i}' for i in range(len(stack))] for stack in stacks]
  return [Replay(stack) for stack in stacks], names, loader


def each(
  function: Callable[[np.ndarray, np.ndarray], float],
) -> Callable[[Stack, Stack], np.ndarray]:
  """The function of one pair, for every member of two stacks."""

  def matrix(stack: Stack, others: Stack) -> np.ndarray:
    return np.array([[function(x, y) for y in others] for x in stack])

  return matrix


# Which of their functions gives linear CKA, by package and function.
BIASED: Mapping[str, Call] = {
  'ckatorch': ckatorch,
  'ckatorch hsic': functools.partial(ckatorch, method='hsic'),
  'rsatoolbox cosine_cov': rsatoolbox,
}
DEBIASED: Mapping[str, Call] = {
  'ckatorch': functools.partial(ckatorch, unbiased=True),
  'ckatorch hsic': functools.partial(ckatorch, unbiased=True, method='hsic'),
  'pytorch-cka': pytorch_cka,
  'pytorch-cka compute_cka': pytorch_cka_models,
  'torch-cka': torch_cka,
}
# Those that share nothing between pairs, and how many layers they are timed on.
SLOW = {'ckatorch': 3, 'ckatorch hsic': 3, 'torch-cka': 6}


def installed(table: Mapping[str, Call]) -> dict[str, Call]:
  """The rows whose package is there."""
  found = versions()
  return {name: call for name, call in table.items() if found[name.split()[0]]}
