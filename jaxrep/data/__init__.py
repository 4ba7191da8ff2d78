"""Corpora: parallel text and speech, from disk to aligned sentence ids."""

from jaxrep import registry
from jaxrep.types import Corpus, CorpusOptions

# Name → a function CorpusOptions → jaxrep.types.Corpus.
DATASETS = {
  'bundled': 'jaxrep.data.manifest:open_bundled',
  'manifest': 'jaxrep.data.manifest:open_corpus',
  'fleurs': 'jaxrep.data.fleurs:open_corpus',
}


def open_corpus(name: str, options: CorpusOptions) -> Corpus:
  """The corpus of this name; InputError if there is none."""
  return registry.resolve(registry.lookup(DATASETS, name, 'corpus'))(options)
