"""Some analyses write their own files; all of them also what sums them up."""

from jaxrep import analyses
from jaxrep.jobs import analyze
from tests.analyses import synthetic


def test_an_analysis_that_is_named_leaves_the_rest(tmp_path):
  measures = {'cka': synthetic.MEASURES['cka']}
  made = synthetic.definition(
    layers=1, languages=('eng', 'deu'), measures=measures
  )
  synthetic.write(tmp_path, made, synthetic.rows(made, measures))
  summary = tmp_path / 'summary.json'
  summary.write_text('of the last report')
  analyze.run(analyze.Config(str(tmp_path), analyses=('adaptor',)))
  assert summary.read_text() == 'of the last report'
  assert not (tmp_path / 'scores.csv').exists()
  (table,) = (tmp_path / 'tables').iterdir()
  assert table.name == 'adaptor.csv'
  figures = {path.name for path in (tmp_path / 'figures').iterdir()}
  assert figures
  assert all(name.startswith('adaptor') for name in figures)
  analyze.run(analyze.Config(str(tmp_path)))
  assert summary.read_text() != 'of the last report'
  assert (tmp_path / 'scores.csv').exists()
  tables = {path.stem for path in (tmp_path / 'tables').iterdir()}
  assert tables >= set(analyses.ANALYSES)
  assert {path.name for path in (tmp_path / 'figures').iterdir()} > figures
