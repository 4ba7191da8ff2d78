"""What a similarity measure is: factor each side once, score every pair."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int

from jaxrep.types import InputError


@dataclasses.dataclass(frozen=True)
class Parameters:
  """What a user may choose of a measure; a measure reads what concerns it.

  `k` components are kept on each side or, where it is None, the fewest that
  hold the share `variance` of the variance.
  """

  variance: float = 0.99
  k: int | None = None

  def __post_init__(self):
    if not 0 < self.variance <= 1:
      raise InputError(
        f'variance={self.variance} is no share of the variance: '
        'give a number above 0 and up to 1.'
      )
    if self.k is not None and self.k < 1:
      raise InputError(f'k={self.k}: keep at least one component.')


class Factors(NamedTuple):
  """What a measure needs of one representation to score it against others.

  `rows` has one row per sentence, zero where the sentence was not valid, and
  zero columns beyond `k`, the number of components kept (0 for a measure that
  keeps none). `defined` is false where the measure has no value.
  """

  rows: Float[Array, '*batch n width']
  k: Int[Array, '*batch']
  defined: Bool[Array, '*batch']


class Measure(NamedTuple):
  """A row's target in `jaxrep.similarity.MEASURES`.

  Attributes:
    factor: `(x[n, p], valid[n], **arguments) -> Factors`.
    score: `(Factors, Factors) -> value`.
    describe: the definition that is printed with every number.
    undefined: why `Factors.defined` can be false.
    arguments: what `factor` takes of the parameters; traced, so that another
      k or variance compiles nothing.
    floor: `(Factors, Factors, n) -> mean value over all pairings of the
      sentences`, where that is known exactly; else it is sampled.
    pairwise: the columns of the factors' rows are sentences too.
    least: the fewest sentences for which the measure means something.
  """

  factor: Callable[..., Factors]
  score: Callable[[Factors, Factors], Array]
  describe: Callable[[Parameters], str]
  undefined: str
  arguments: Callable[[Parameters], Mapping[str, Any]] = lambda _: {}
  floor: Callable[[Factors, Factors, Array], Array] | None = None
  pairwise: bool = False
  least: int = 3
