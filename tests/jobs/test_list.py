"""What `run.py list` prints."""

import pytest

from jaxrep import analyses, languages, similarity
from tests import command


@pytest.mark.parametrize(
  ('what', 'names', 'behind'),
  [
    ('measures', similarity.MEASURES, ':'),
    ('languages', languages.LANGUAGES, ' '),
    ('languages', languages.PRESETS, ':'),
    ('analyses', analyses.ANALYSES, ':'),
  ],
)
def test_all_that_there_is_has_a_line_of_its_own(what, names, behind):
  lines = command.succeed('list', what).splitlines()
  for name in names:
    (line,) = (row for row in lines if row.startswith(name + behind))
    assert len(line) > len(name) + 5


def test_another_list_is_refused():
  assert 'Did you mean measures' in command.fail('list', 'measurs')
