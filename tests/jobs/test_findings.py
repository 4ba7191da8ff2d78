"""The job that tests the findings, on a store of planted states."""

import dataclasses

import pyarrow.parquet as pq
import pytest

from benchmarks import planted
from benchmarks.planted import Parts
from jaxrep.findings import FINDINGS, scores
from jaxrep.jobs import findings, scoring
from jaxrep.types import InputError
from tests.jobs import stored

LANGUAGES = ('eng', 'hin', 'swh')


def rising(language, modality, layer):
  return Parts(common=0.2 + 0.25 * layer)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  model = planted.model(rising, n=64)
  sides = {}
  for language in LANGUAGES:
    for modality in planted.MODALITIES:
      held = model.sides[language, modality]
      sides[language, modality] = [
        {
          one: {tap: x[i] for tap, x in held.states.items()}
          for i, one in enumerate(held.ids)
        }
      ]
  layers = {speech: text for text, speech in model.layout.layers}
  made = stored.write(
    folder,
    sides,
    counterparts=layers,
    compared_languages=list(LANGUAGES),
    resource_classes=planted.CLASSES,
    resource_hours={},
    ceiling=False,
  )
  made['models']['made']['adaptor'] = {}
  stored.rewrite(folder, made)
  config = findings.Config(
    str(folder), findings_k=4, findings_replicates=12, minimum_ids=10
  )
  findings.run(config)
  return folder, config


def read(folder, name):
  return pq.read_table(folder / name).to_pylist()


def test_what_is_planted_in_the_store_is_found(workdir):
  folder, _ = workdir
  rows = read(folder, 'findings.parquet')
  assert {row['finding'] for row in rows} == set(FINDINGS)
  for row in rows:
    if row['finding'] == '1' and row['measure'] != 'svcca':
      assert (row['verdict'], row['n']) == ('holds', 64)
      assert row['languages'] == 3
    if row['finding'].startswith('2'):
      assert row['verdict'] == 'not measured'
  parts = read(folder, 'findings_by_n.parquet')
  assert {row['n'] for row in parts if row['n']} == {16, 32}


def test_the_same_seed_gives_the_same_numbers(workdir):
  folder, config = workdir
  before = read(folder, 'findings.parquet')
  findings.run(config)
  assert read(folder, 'findings.parquet') == before


def test_what_was_scored_before_a_kill_is_not_scored_again(
  workdir, monkeypatch
):
  folder, config = workdir
  before, original = read(folder, 'findings.parquet'), scores.score_parts

  class Killed(Exception):
    pass

  def counted(most):
    made = []

    def score_parts(*arguments):
      if len(made) >= most:
        raise Killed
      made.append(original(*arguments))
      return made[-1]

    monkeypatch.setattr(scores, 'score_parts', score_parts)
    return made

  first = counted(5)
  with pytest.raises(Killed):
    findings.run(config)
  rest = counted(1000)
  findings.run(config)
  assert read(folder, 'findings.parquet') == before
  assert not (folder / scoring.PARTS).exists()
  every = counted(1000)
  findings.run(config)
  assert len(first) + len(rest) == len(every)


@pytest.mark.parametrize(
  'changes,message',
  [
    ({'findings_k': 0}, '--findings_k=0: give 1 or more'),
    ({'findings_replicates': 6}, '--findings_replicates=6: give 12 or more'),
    ({'seed': 2**31}, '--seed=2147483648: give a number from 0'),
    ({'smallest_effect': 0.0}, '--smallest_effect=0.0: give a number above 0'),
  ],
)
def test_what_cannot_be_is_refused(workdir, changes, message):
  _, config = workdir
  with pytest.raises(InputError, match=message):
    findings.run(dataclasses.replace(config, **changes))


def test_before_a_comparison_it_is_asked_for(tmp_path):
  stored.write(tmp_path, {})
  with pytest.raises(InputError, match='was not compared yet'):
    findings.run(findings.Config(str(tmp_path)))
