"""Findings are claimed in at most 5 % of models without them: `-m slow`.

The designs are those of `benchmarks/findings.py`, which simulates more models.
"""

import numpy as np
import pytest

from benchmarks import findings

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('design', findings.DESIGNS)
def test_what_is_not_there_is_seldom_claimed(design):
  found = findings.simulate(design, 40)
  for measure in {measure for _, measure in found}:
    own = [errors for (_, m), errors in found.items() if m == measure]
    assert len(own) == len(findings.DESIGNS[design].untrue)
    assert np.mean([errors.claimed for errors in own]) <= 0.05, measure
