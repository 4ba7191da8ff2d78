"""What `benchmarks.fuzz` damages and reads."""

from benchmarks.fuzzing import corpora, models, runs
from benchmarks.fuzzing.reader import Reader

READERS: dict[str, Reader] = {
  **corpora.READERS,
  **models.READERS,
  **runs.READERS,
}
