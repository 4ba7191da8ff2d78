"""What a similarity measure is: factor each side once, score every pair."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int

from jaxrep.types import InputError

_FEWEST_REPLICATES = 8


@dataclasses.dataclass(frozen=True)
class Parameters:
  """What a user may choose of a measure; a measure reads what concerns it.

  Attributes:
    variance: the kept components hold at least this share of the variance.
    k: keep this many components instead.
    ridge: of CCA, relative to the mean variance of a component.
    splits: of a held-out score.
    neighbours: of mutual kNN and CSLS.
  """

  variance: float = 0.99
  k: int | None = None
  ridge: float | int = 0.1
  splits: int = 8
  neighbours: int = 10

  def __post_init__(self):
    if not 0 < self.variance <= 1:
      raise InputError(
        f'variance={self.variance} is no share of the variance: '
        'give a number above 0 and up to 1.'
      )
    if self.k is not None and self.k < 1:
      raise InputError(f'k={self.k}: keep at least one component.')
    if not self.ridge >= 0:
      raise InputError(f'ridge={self.ridge}: give 0 or more.')
    for name in ('splits', 'neighbours'):
      if getattr(self, name) < 1:
        raise InputError(f'{name}={getattr(self, name)}: give 1 or more.')


@dataclasses.dataclass(frozen=True)
class Calibration:
  """What is computed to judge a score by.

  Attributes:
    permutations: random pairings of the sentences for a floor that has no
      closed form.
    joint: random pairings that all cells of a map share, for the p-value that
      the largest of them is allowed for; 0 for none.
    intervals: whether a measure whose interval has a closed form gets it.
    replicates: subsets of the sentences, for the interval of a measure that
      has no closed form; 0 for none.
    seed: of everything that is random.
  """

  permutations: int = 8
  joint: int = 0
  intervals: bool = True
  replicates: int = 0
  seed: int = 0

  def __post_init__(self):
    if self.permutations < 1:
      raise InputError(
        f'permutations={self.permutations}: a floor needs one or more.'
      )
    if self.replicates and self.replicates < _FEWEST_REPLICATES:
      raise InputError(
        f'replicates={self.replicates}: an interval needs '
        f'{_FEWEST_REPLICATES} or more, or 0 for none.'
      )


class Factors(NamedTuple):
  """What a measure needs of one representation to score it against others.

  `rows` has one row per sentence. `k` is the number of components kept, 0 for
  a measure that keeps none. `defined` is false where the measure has no value.
  `rest` is what does not move when the sentences are reordered, a tuple of
  arrays; `rank` is the number of components that there are, where other cuts
  than the measure's own can be asked for.
  """

  rows: Float[Array, '*batch n width']
  k: Int[Array, '*batch']
  defined: Bool[Array, '*batch']
  rest: Any = ()
  rank: Any = ()


class Null(NamedTuple):
  """Moments of a score over all pairings of the sentences."""

  mean: Float[Array, '*batch']
  sd: Float[Array, '*batch']
  skewness: Float[Array, '*batch']


class Measure(NamedTuple):
  """A row's target in `jaxrep.similarity.MEASURES`.

  Attributes:
    factor: `(x[n, p], valid[n], **arguments) -> Factors`.
    score: `(Factors, Factors) -> value`.
    describe: the definition that is printed with every number.
    undefined: why `Factors.defined` can be false.
    arguments: what `factor` takes of the parameters; traced, so that another
      k or variance compiles nothing. `static` of them are not.
    static: names of arguments that give shapes.
    least: the fewest sentences for which the measure means something.
    inner: the score is the inner product of the rows, times `scale`; all
      pairs are then one matrix product.
    scale: `(k_a, k_b) -> factor` of such a score, or of a `nuclear` one.
    pairwise: the columns of the factors' rows are sentences too.
    directed: such rows are no symmetric matrix.
    symmetric: score(a, b) = score(b, a).
    same_width: both sides must have equally many features.
    centred: an offset or the scale of a side does not matter.
    fixed_rows: sentences have places that matter (splits), so that another
      pairing means other factors, not reordered ones.
    summary: `(rows, valid) -> [q]`, what `null` needs of one side.
    null: `(summary_a, summary_b, n) -> Null`, exact over all pairings.
    law: `(k_a, k_b, n) -> mean` over all pairings, on NumPy arrays; exact,
      or, if `nuclear`, an approximation that random pairings correct.
    components: columns of the rows beyond the first k do not count.
    nuclear: the score is ||a' b||_* / min(k_a, k_b), times `scale`, where a
      and b are the first k columns of the rows; these are orthonormal, and a
      complete basis if there are as many as rows.
    jackknife: the rows sum to zero, so that leaving each sentence out has a
      closed form.
    paired: false where the pairing of the sentences does not enter, so that
      there is no floor.
  """

  factor: Callable[..., Factors]
  score: Callable[[Factors, Factors], Array]
  describe: Callable[[Parameters], str]
  undefined: str
  arguments: Callable[[Parameters], Mapping[str, Any]] = lambda _: {}
  static: tuple[str, ...] = ()
  least: int = 3
  inner: bool = False
  scale: Callable[[Array, Array], Array] | None = None
  pairwise: bool = False
  directed: bool = False
  symmetric: bool = True
  same_width: bool = False
  centred: bool = True
  fixed_rows: bool = False
  summary: Callable[[Factors, Array], Array] | None = None
  null: Callable[[Array, Array, Any], Null] | None = None
  law: Callable[..., Any] | None = None
  components: bool = False
  nuclear: bool = False
  jackknife: bool = False
  paired: bool = True
