"""The jobs: each a module with a frozen `Config` and `run(config)`."""

JOBS = (
  *('all', 'plan', 'extract', 'compare', 'analyze', 'report', 'list'),
  *('findings', 'train'),
)
