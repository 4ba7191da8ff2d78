"""The jobs: each a module with a frozen `Config` and `run(config)`."""

JOBS = {
  'all': 'extract, compare and report: the default',
  'plan': 'print what a run will take',
  'extract': 'pooled activations into the store',
  'compare': 'scores of all pairs',
  'analyze': 'tables and figures',
  'report': 'report.html with all of them',
  'list': 'models, corpora, languages, measures or analyses',
}
