"""The flags that several jobs share, as dataclasses to inherit from."""

import dataclasses
from typing import Literal

from jaxrep.config import flag
from jaxrep.types import InputError

WORKDIR = 'runs/default'


@dataclasses.dataclass(frozen=True)
class Nothing:
  """A job without flags."""


@dataclasses.dataclass(frozen=True)
class Workdir:
  workdir: str = flag(
    WORKDIR, 'Folder of the run: a local path or gs://bucket/run.'
  )


@dataclasses.dataclass(frozen=True)
class Ceiling(Workdir):
  """What concerns both what is extracted and what is compared."""

  ceiling: bool = flag(
    False,
    'Extract every recording, compare the sentences that have two, and give '
    'what the same text by another recording scores.',
  )


@dataclasses.dataclass(frozen=True)
class Selection(Ceiling):
  """What is read by which models, and how it becomes vectors."""

  models: tuple[str, ...] = flag(
    ('tiny-aligned', 'tiny-translation', 'tiny-unaligned', 'tiny-untrained'),
    'Models, and controls of them as model@variant; `run.py list models` '
    'shows them.',
  )
  checkpoints: tuple[str, ...] = flag(
    (),
    'Where checkpoints are, as model=folder or model=hub id; model/speech= is '
    'for one modality, model/whisper= for one of several checkpoints of a '
    'model. Variants have that of their model.',
  )
  corpus: str = flag('bundled', 'Corpus: bundled, fleurs or manifest.')
  corpus_source: str = flag(
    '', 'The manifest file, or a folder with the raw tree of FLEURS.'
  )
  languages: str = flag(
    '',
    'Codes and presets (paper30, all), separated by commas; empty takes the '
    "corpus' own, or paper30 for fleurs.",
  )
  splits: tuple[str, ...] = flag(('test',), 'Splits, the preferred one first.')
  modalities: tuple[str, ...] = flag(('text', 'speech'), 'Which are read.')
  recordings: Literal['first', 'mean'] = flag(
    'first',
    'Several recordings of a sentence: take the first usable one, or extract '
    'all and average their vectors.',
  )
  on_bad_input: Literal['error', 'skip'] = flag(
    'error', 'Stop at a bad example, or leave it out and report it.'
  )
  resource_table: str = flag(
    '', 'TSV of language and hours (or high, medium, low) for the classes.'
  )
  taps: Literal['stages', 'fine'] = flag(
    'stages', 'Taps between stages, or also inside them.'
  )
  precision: Literal['float32', 'bfloat16'] = flag(
    'float32', 'Of parameters, and of what is multiplied by them.'
  )
  pooling: str = flag(
    'mean',
    'mean, last, first or max; heard leaves out silence that audio was filled '
    'up with; sequence and sequence_last read the prompt too. Exceptions as '
    'mean,tap=last.',
  )
  prompt: str = flag(
    '',
    'Of a language model, for both modalities: an instruction, or a whole '
    'prompt with <SpeechHere> where the item stands; empty for none.',
  )
  text_specials: bool = flag(
    True, 'Pool the language token and </s> of a text too.'
  )
  batch_seconds: int = flag(160, 'Audio in a batch at most, with padding.')
  batch_tokens: int = flag(2048, 'Tokens in a batch at most, with padding.')
  unit_size: int = flag(250, 'Rows that are written together at most.')
  store_dtype: Literal['float32', 'float16', 'bfloat16'] = flag(
    'float32', 'Of the store; bfloat16 opens with tensorstore only.'
  )


@dataclasses.dataclass(frozen=True)
class Devices:
  multihost: bool = flag(
    False, 'One of several processes (TPU pod slice, Slurm).'
  )
  jax_cache: str = flag(
    '',
    'Folder of the persistent compilation cache, local or gs://; empty for '
    "jaxrep/compiled in the user's cache folder, none for none. One that is "
    'full or read-only costs warnings, not the run.',
  )
  model_parallel: int = flag(
    0,
    "Devices that share a language model's weights; 0 for as few as they fit "
    'on.',
  )
  profile: bool = flag(
    False,
    'Write traces of a few batches of each step, and of a few scores of each '
    'measure, into the folder profile of --workdir, for XProf or TensorBoard.',
  )


@dataclasses.dataclass(frozen=True)
class Sampling(Workdir):
  """What concerns all scores, of a map or of a finding."""

  svcca_variance: float = flag(
    0.99,
    'Measures of components keep the fewest with this share of the variance.',
  )
  minimum_ids: int = flag(20, 'Fewest common sentences of a comparison.')
  seed: int = flag(0, 'Of all that is random.')


@dataclasses.dataclass(frozen=True)
class Findings(Sampling):
  """How the findings are tested."""

  findings_k: int = flag(
    10, 'Components that both sides of every cell of a finding keep.'
  )
  findings_replicates: int = flag(
    24, 'Subsets of the sentences for the intervals of the findings.'
  )
  smallest_effect: float = flag(
    0.02, 'Smallest effect of interest: a verdict of no effect excludes it.'
  )


@dataclasses.dataclass(frozen=True)
class Comparison(Ceiling, Sampling):
  """What is compared with what, and how."""

  measures: tuple[str, ...] = flag(
    (
      *('svcca', 'svcca_heldout', 'cka', 'cka_debiased', 'retrieval_r1'),
      *('retrieval_r1_back', 'centroid_distance', 'norm_ratio', 'cosine_gap'),
    ),
    'Similarity measures; `run.py list measures` shows them.',
  )
  svcca_k: int = flag(
    0, 'They keep this many components of each side; 0 for the share.'
  )
  ridge: float = flag(
    0.1, 'Of cca, relative to the mean variance of a component.'
  )
  heldout_splits: int = flag(
    8, 'Times that the sentences are halved for svcca_heldout.'
  )
  neighbours: int = flag(10, 'Of mutual_knn and of retrieval.')
  layer_pairs: Literal['all', 'within', 'matching'] = flag(
    'all',
    'Every layer with every layer; the same within a language, and between '
    'languages each with itself, which is all that figures show; or each with '
    'its counterpart alone.',
  )
  common_ids: Literal['pair', 'all'] = flag(
    'pair', 'Sentences that each pair of sides shares, or that all share.'
  )
  language_set: Literal['common', 'own'] = flag(
    'common',
    'Compare the languages that all models read in all their modalities, or '
    'each model in its own.',
  )
  permutations: int = flag(
    8, 'Random pairings for a floor that has no closed form.'
  )
  joint_permutations: int = flag(
    0, 'Random pairings of a whole map, for p-values that allow for its size.'
  )
  replicates: int = flag(
    0,
    'Times that some sentences are left out, for intervals that have no '
    'closed form; layers with their counterparts only.',
  )


def check_seed(seed: int) -> None:
  if not 0 <= seed < 2**31:
    raise InputError(f'--seed={seed}: give a number from 0 to {2**31 - 1}.')
