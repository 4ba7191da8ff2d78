"""How often intervals hold the truth: simulated sets of sentences.

    python -m benchmarks.coverage

The truth is the mean of the score over sets of the same size, all drawn alike;
each of them also has an interval. Two sides have a latent signal of some
dimensions in common, or none (`shared` 0); components have variances j^-decay;
sentences may differ in scale (`tails`, of the logarithm of their norm) or come
in clusters of two and three recordings. Appends to `results/coverage.jsonl`;
an hour or two on two CPU cores.

The shape of CKA's intervals was chosen on designs like these, with n of 100 to
300; the big designs and those of `_HELD_OUT` came after. Those of `_APART` have
what is shared apart from the noise: there SVCCA is nearly a sum over sentences,
elsewhere it also varies with several at once.
"""

import dataclasses
import datetime
import functools
import itertools
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks import harness
from jaxrep.similarity import alignment
from jaxrep.stats import influence, intervals, moments

_SAME_SENTENCE = 0.7  # of the variance, between recordings of a sentence

_PARTS = flags.DEFINE_string('parts', '', 'Run those whose name has this.')


@dataclasses.dataclass(frozen=True)
class Design:
  """How sets of sentences are drawn."""

  n: int = 200
  p: int = 128
  decay: float = 1.0
  shared: float = 0.3
  latent: int = 16
  tails: float = 0.0
  clustered: bool = False


_HELD_OUT = (
  (Design(n=240, p=80), 0.9, 30),
  (Design(n=240, p=80, decay=1.7), 0.99, None),
  (Design(n=150, p=64, shared=0.0), 0.9, 10),
  (Design(n=180, p=64, tails=0.3), 0.9, None),
)
_APART = (
  (Design(n=200, p=24, decay=0.0, shared=0.5, latent=3), 0.9, 3),
  (Design(n=350, p=24, decay=0.0, shared=0.5, latent=3), 0.5, None),
)


@dataclasses.dataclass(frozen=True)
class Coverage:
  """Shares of sets; `truth_error` is the standard error of the truth.

  `error_ratio`: root mean square of the standard errors to the spread of the
  score over the sets.
  """

  truth: float
  truth_error: float
  spread: float
  error_ratio: float
  covered: float
  truth_below: float
  truth_above: float
  sets: int


def main(_) -> None:
  for name, design, settings, run in parts():
    if _PARTS.value not in name:
      continue
    start = time.perf_counter()
    found = run()
    for of, coverage in found.items():
      row = {
        'benchmark': 'coverage',
        'date': datetime.date.today().isoformat(),
        'score': name,
        'of': of,
        'design': dataclasses.asdict(design),
        'settings': settings,
        **dataclasses.asdict(coverage),
        'seconds': round(time.perf_counter() - start),
        'machine': harness.machine(),
      }
      harness.keep('coverage', row)
      print(name, of, settings, design, coverage, flush=True)


def parts() -> Iterator[tuple[str, Design, dict, Callable]]:
  """Score, design, settings, and what simulates them."""
  decays = (0.0, 1.0, 1.7)
  big = [Design(n=400, p=1024, decay=decay) for decay in decays]
  small = [
    *(Design(decay=d, shared=s) for s in (0.3, 0.0) for d in decays),
    *(Design(decay=d, clustered=True) for d in decays),
    *(Design(shared=0.9), Design(shared=0, clustered=True)),
    *(Design(tails=tails) for tails in (0.3, 0.5, 1.0)),
  ]
  for design, debiased in itertools.product([*small, *big], (False, True)):
    name = 'cka_debiased' if debiased else 'cka'
    yield name, design, {}, functools.partial(cka, design, debiased, 1000)
  for design in (Design(), Design(n=400, p=1024, decay=0.0)):
    for debiased in (False, True):
      name = 'bootstrap of ' + ('cka_debiased' if debiased else 'cka')
      yield name, design, {}, functools.partial(naive, design, debiased)
  fitted = [
    (Design(n=150, p=64, decay=decay), 0.9, k)
    for decay, k in itertools.product(decays, (10, None))
  ]
  for design, variance, k in (*fitted, *_HELD_OUT, *_APART):
    settings = {'variance': variance, 'k': k}
    simulate = functools.partial(svcca, design, variance, k, 400, 1000)
    yield 'svcca', design, settings, simulate


def naive(design: Design, debiased: bool) -> dict[str, Coverage]:
  return {'value': bootstrap(design, debiased, 60)}


def clusters(design: Design) -> jax.Array | None:
  """Ids of sentences with two and three recordings in turn."""
  if not design.clustered:
    return None
  ids = np.repeat(np.arange(design.n), np.tile([2, 3], design.n)[: design.n])
  return jnp.asarray(ids[: design.n])


def draw(key: jax.Array, design: Design) -> jax.Array:
  """Three representations [3, n, p]; the third shares half as much."""
  keys = jax.random.split(key, 5)
  scales = jnp.arange(1, design.p + 1) ** (-design.decay / 2)
  scales = scales / jnp.sqrt(jnp.mean(scales**2))
  latent = _rows(keys[0], (design.n, design.latent), design)
  loadings = jax.random.normal(jax.random.key(1), (3, design.latent, design.p))
  shares = design.shared * jnp.array([1, 1, 0.5])[:, None, None]
  noise = jnp.stack([_rows(k, (design.n, design.p), design) for k in keys[1:4]])
  signal = latent @ loadings / design.latent**0.5
  x = jnp.sqrt(1 - shares) * noise * scales + jnp.sqrt(shares) * signal
  norms = jnp.exp(design.tails * jax.random.normal(keys[4], (design.n, 1)))
  return x * norms


def _rows(key: jax.Array, shape: tuple[int, int], design: Design) -> jax.Array:
  ids = clusters(design)
  own, common = jax.random.normal(key, (2, *shape))
  if ids is None:
    return own
  return _SAME_SENTENCE**0.5 * common[ids] + (1 - _SAME_SENTENCE) ** 0.5 * own


def over_sets(
  one: Callable[[jax.Array], tuple], sets: int, first: int = 0, batch: int = 10
) -> tuple[np.ndarray, ...]:
  """`one` of every set's key; the sets are numbered from `first`."""
  keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(7)))(
    jnp.arange(first, first + sets)
  )
  run = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=batch))
  return tuple(np.asarray(part, np.float64) for part in run(keys))


def cka(design: Design, debiased: bool, sets: int) -> dict[str, Coverage]:
  """Coverage of a score's interval, and of the contrast of two scores."""
  factor = alignment.factor_debiased if debiased else alignment.factor
  valid, ids = jnp.ones(design.n, bool), clusters(design)

  def one(key: jax.Array) -> tuple:
    rows = jax.vmap(lambda x: factor(x, valid).rows)(draw(key, design))
    summary = jax.vmap(lambda x: moments.summarise(x, valid))(rows)
    mean, sd, _ = moments.null(summary[:1], summary[1:], design.n)
    values = jnp.sum(rows[0] * rows[1:], axis=(1, 2))
    spread = influence.spread(
      rows[:1], rows[1:], valid, mean[None], sd[None], ids
    )
    change = spread.influence[:, 0, 0] - spread.influence[:, 0, 1]
    present = valid if ids is None else jnp.arange(design.n) <= ids[-1]
    return (
      *(values, spread.error[0], spread.degrees[0], mean),
      *(spread.chance_error[0], jnp.linalg.norm(change)),
      influence.degrees(change, present),
    )

  value, error, degrees, mean, alone, gap, gap_degrees = over_sets(one, sets)
  first = (value[:, 0], error[:, 0], degrees[:, 0])
  if ids is None:
    found = intervals.interval_above_chance(*first, mean[:, 0], alone[:, 0])
  else:
    found = intervals.interval(*first)
  contrast = intervals.contrast(value[:, 0], value[:, 1], gap, gap_degrees)
  return {
    'value': judge(value[:, 0], found.low, found.high, error[:, 0]),
    'contrast': judge(contrast.difference, contrast.low, contrast.high, gap),
  }


def svcca(
  design: Design,
  variance: float,
  k: int | None,
  sets: int,
  truth_sets: int,
  rounds: tuple[int, ...] = (32, 8),
) -> dict[str, Coverage]:
  """Coverage with so many rounds of subsets; more sets tell the truth."""
  whole, ids = jnp.ones(design.n, bool), clusters(design)
  masks = jax.jit(lambda key: intervals.subsets(key, whole, max(rounds), ids))
  sides = jax.jit(lambda key: draw(key, design)[:2])
  value, values = [], []
  for index in range(sets + truth_sets):
    key = jax.random.fold_in(jax.random.key(7), index)
    x, y = np.asarray(sides(key), np.float64)
    value.append(mean_correlation(x, y, variance, k))
    if index < sets:
      subsets = np.asarray(masks(jax.random.fold_in(key, 1)))
      scores = [
        mean_correlation(x[kept], y[kept], variance, k)
        for kept in subsets.reshape(-1, design.n)
      ]
      values.append(np.reshape(scores, subsets.shape[:2]))
  n = design.n if ids is None else int(ids[-1]) + 1
  found, stacked = {}, np.stack(values, -1)
  first, fresh = np.array(value[:sets]), np.array(value[sets:])
  for number in rounds:
    error = intervals.subset_error(stacked[:number], n)
    ends = intervals.interval(first, error, intervals.subset_degrees(number))
    found[f'{number} rounds'] = judge(first, *ends, error, fresh)
  return found


def mean_correlation(
  x: np.ndarray, y: np.ndarray, variance: float, k: int | None
) -> float:
  """SVCCA in float64: faster on a CPU than the library, for one small pair."""
  a, b = _basis(x, variance, k), _basis(y, variance, k)
  correlations = np.linalg.svd(a.T @ b, compute_uv=False)
  return correlations.sum() / min(a.shape[1], b.shape[1])


def _basis(x: np.ndarray, variance: float, k: int | None) -> np.ndarray:
  x = x - x.mean(axis=0)
  wide = x.shape[0] <= x.shape[1]
  values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
  values, vectors = values[::-1], vectors[:, ::-1]
  if k is None:
    k = int(np.sum(np.cumsum(values) < variance * values.sum())) + 1
  if wide:
    return vectors[:, :k]
  return x @ vectors[:, :k] / np.sqrt(values[:k])


def bootstrap(
  design: Design, debiased: bool, sets: int, count: int = 200
) -> Coverage:
  """Rows drawn with replacement, 2.5 to 97.5 % of the replicates."""
  factor = alignment.factor_debiased if debiased else alignment.factor
  valid = jnp.ones(design.n, bool)

  def score(x: jax.Array) -> jax.Array:
    return alignment.score(factor(x[0], valid), factor(x[1], valid))

  def one(key: jax.Array) -> tuple:
    x = draw(key, design)
    rows = jax.random.randint(
      jax.random.fold_in(key, 2), (count, design.n), 0, design.n
    )
    copies = jax.lax.map(lambda index: score(x[:, index]), rows)
    return score(x), jnp.quantile(copies, jnp.array([0.025, 0.975]))

  value, ends = over_sets(one, sets, batch=1)
  (fresh,) = over_sets(lambda key: (score(draw(key, design)),), 1000, sets)
  half = (ends[:, 1] - ends[:, 0]) / 2 / 1.96
  return judge(value, ends[:, 0], ends[:, 1], half, fresh)


def judge(
  value: np.ndarray,
  low: np.ndarray,
  high: np.ndarray,
  error: np.ndarray,
  fresh: np.ndarray | None = None,
) -> Coverage:
  """Shares of intervals that hold the mean of all values."""
  values = value if fresh is None else np.concatenate([value, fresh])
  truth = values.mean()
  return Coverage(
    truth=float(truth),
    truth_error=float(values.std() / len(values) ** 0.5),
    spread=float(values.std()),
    error_ratio=float(np.sqrt(np.mean(error**2)) / values.std()),
    covered=float(np.mean((low <= truth) & (truth <= high))),
    truth_below=float(np.mean(truth < low)),
    truth_above=float(np.mean(truth > high)),
    sets=len(value),
  )


if __name__ == '__main__':
  app.run(main)
