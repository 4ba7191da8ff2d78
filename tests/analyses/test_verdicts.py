"""What the `findings` job has found, read for the report."""

import pytest

from jaxrep.analyses import verdicts
from jaxrep.findings import FINDINGS
from jaxrep.findings import verdicts as rule
from jaxrep.report import verdicts as shown
from jaxrep.types import InputError
from tests.analyses import findings


def test_a_verdict_says_what_its_finding_claims(tmp_path):
  uneven = findings.row('2', 'two', 'svcca', k_min=3, k_max=9, note='so')
  findings.write(tmp_path, ['one'], [uneven])
  found = verdicts.read(tmp_path, {})
  assert len(found) == 4 * 3 + 1
  first, last = found[0], found[-1]
  assert (first.finding, first.k, first.note) == ('1', 10, '')
  assert first.claim == FINDINGS['1'].claim
  assert first.statistic == FINDINGS['1'].meaning
  assert first.effect == -1.5  # the calibrated one
  assert (last.k, last.note) == (None, 'so; raw: k from 3 to 9')


def test_before_the_job_has_run_there_are_none(tmp_path):
  assert verdicts.read(tmp_path, {}) == ()


@pytest.mark.parametrize(
  'damage,message',
  [
    (lambda p: p.write_bytes(b'PAR1'), 'cannot be read'),
    (None, r'findings of another version \(9\)'),
  ],
)
def test_a_damaged_or_foreign_file_says_what_to_run(tmp_path, damage, message):
  findings.write(tmp_path, ['one'], [findings.row('9', 'one', 'svcca')])
  if damage:
    damage(tmp_path / 'findings.parquet')
  with pytest.raises(InputError, match=message) as caught:
    verdicts.read(tmp_path, {})
  assert 'run `python run.py findings' in str(caught.value)


def test_the_rule_on_the_page_is_the_one_that_is_applied():
  shows = ('positive', 'nothing', 'open', 'negative')
  of = dict(zip(shown.RULE, shows, strict=True))
  for text, (above, not_above) in shown.RULE.items():
    assert rule.TABLE[True, of[text]] == above
    assert rule.TABLE[False, of[text]] == not_above
  judged = {*rule.TABLE.values(), 'not measured'}
  assert judged == set(shown.MARKS)


def test_findings_of_another_comparison_are_not_shown(tmp_path):
  definition = {'models': {'one': {}}, 'compared_languages': ['eng', 'fra']}
  findings.write(
    tmp_path, ['one'], tested_on=verdicts.tested_on({**definition})
  )
  assert verdicts.read(tmp_path, {**definition, 'created': 'later'})
  for change in ({'compared_languages': ['eng']}, {'ceiling': True}):
    assert verdicts.read(tmp_path, {**definition, **change}) == ()
    assert not verdicts.rows(tmp_path, 'by_n', {**definition, **change})
