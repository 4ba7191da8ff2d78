"""Who agrees with the float64 answers of tests/golden/similarity.npz.

    python -m benchmarks.conformance

Prints, for this library and for every peer that is installed, each case of
each convention: `ok` within 1e-5, else the error, `nan`, or `raises`. `check`
does the same for a function of yours; it and the file need NumPy alone:

    check(lambda x, y: my_cka(x, y), 'cka')    # [('n > p', 3.1e-08), …]
"""

import functools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

GOLDEN = (
  pathlib.Path(__file__).parents[1] / 'tests' / 'golden' / 'similarity.npz'
)
AGREES = 1e-5

Function = Callable[[np.ndarray, np.ndarray], float]


def check(
  function: Function, convention: str, golden: pathlib.Path = GOLDEN
) -> list[tuple[str, float]]:
  """How far a function is from the answers of one convention.

  Args:
    function: takes x [n, p] and y [n, q], float32, and gives a number.
    convention: a name in the file's `conventions`; its `definitions` say what
      each is.
    golden: the file.

  Returns:
    Each case in which the convention has an answer, with the absolute error:
    NaN if the function gave no finite number, infinity if it raised.
  """
  with np.load(golden) as file:
    row = list(file['conventions']).index(convention)
    answers = dict(zip(file['cases'], file['answers'][row], strict=True))
    sides = {case: (file[f'x/{case}'], file[f'y/{case}']) for case in answers}
  return [
    (str(case), _error(function, *sides[case], answer))
    for case, answer in answers.items()
    if np.isfinite(answer)
  ]


def _error(
  function: Function, x: np.ndarray, y: np.ndarray, answer: float
) -> float:
  try:
    value = float(function(x, y))
  except Exception:  # whatever another library raises
    return np.inf
  return abs(value - answer) if np.isfinite(value) else np.nan


def conventions(golden: pathlib.Path = GOLDEN) -> dict[str, str]:
  """Each convention of the file and what it is in words."""
  with np.load(golden) as file:
    names, words = file['conventions'].tolist(), file['definitions'].tolist()
  return dict(zip(names, words, strict=True))


def implementations() -> Iterator[tuple[str, str, Function]]:
  """Name, convention and function of all that can be checked here."""
  for convention in conventions():
    yield 'jaxrep', convention, functools.partial(ours, convention)
  yield from theirs()


def ours(convention: str, x: np.ndarray, y: np.ndarray) -> float:
  from jaxrep import similarity

  measure, parameters = asked(convention)
  calibration = similarity.Calibration(permutations=1, intervals=False)
  return similarity.compare(x, y, measure, calibration, **parameters).value


def asked(convention: str) -> tuple[str, dict[str, int]]:
  """Measure and parameters that a convention such as `svcca, k=5` names."""
  measure, *rest = convention.split(', ')
  parts = (one.split('=') for one in rest)
  return measure, {name: int(value) for name, value in parts}


def theirs() -> Iterator[tuple[str, str, Function]]:
  from benchmarks import peers

  rsa = {
    convention: {
      f'rsatoolbox {kind}': functools.partial(peers.rsatoolbox, comparison=kind)
    }
    for convention, kind in (('rsa', 'spearman'), ('rsa_cosine', 'cosine'))
  }
  tables = {'cka': peers.BIASED, 'cka_debiased': peers.DEBIASED, **rsa}
  for convention, table in tables.items():
    for name, call in peers.installed(table).items():
      yield name, convention, functools.partial(_single, call)
  yield 'tutorial of google/svcca', 'svcca', peers.tutorial_svcca


def _single(call: Callable, x: np.ndarray, y: np.ndarray) -> float:
  """The only entry of a function of two stacks."""
  return call([x], [y])[0, 0]


def verdict(error: float) -> str:
  if error <= AGREES:
    return 'ok'
  return {np.inf: 'raises'}.get(error, f'{error:.0e}')


def main() -> None:
  from benchmarks import peers

  with np.load(GOLDEN) as file:
    cases = file['cases'].tolist()
  print(f'{"":55}' + ''.join(f'{case:>16}' for case in cases))
  for name, convention, function in implementations():
    errors = dict(check(function, convention))
    cells = (verdict(errors[c]) if c in errors else '-' for c in cases)
    print(f'{name:26}{convention:29}' + ''.join(f'{c:>16}' for c in cells))
  for package, version in peers.versions().items():
    print(f'{package}: {version or "missing; pip install " + package}')


if __name__ == '__main__':
  main()
