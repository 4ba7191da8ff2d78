"""The models: which port, inputs, checkpoint and languages each one has."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrep import controls, languages
from jaxrep.languages import Language
from jaxrep.model_row import Files, Part, Released, Resources, Row
from jaxrep.registry import lookup
from jaxrep.types import Modality

NON_COMMERCIAL = 'CC-BY-NC-4.0'


def sonar_speech(language: Language) -> Released:
  """The asset card of SONAR's speech encoder of a language that has one."""
  licences = {'MIT': 'MIT', 'NC': NON_COMMERCIAL, 'unlisted': 'none listed'}
  return Released(
    language.sonar_file,
    licences[language.sonar_licence],
    {'pooler': {'num_layers': language.sonar_pooler}},
  )


def _seamless(
  checkpoint: str,
  version: str,
  *,
  licence: str = NON_COMMERCIAL,
  file: str = '',
  sizes: Mapping[str, Any] | None = None,
  codes: str = 'seamless_text',
  tokenizer: str = '',
) -> dict[str, Any]:
  """The fields that the versions of SeamlessM4T share; as of `Part`."""
  shared = {
    'checkpoint': checkpoint,
    'licence': licence,
    'file': file,
    'sizes': sizes,
  }
  return {
    'parts': {
      'text': Part(
        network=f'ports.seamless:TEXT{version}',
        reader='jaxrep.tokenizers:Seamless',
        codes=codes,
        tokenizer=tokenizer,
        **shared,
      ),
      'speech': Part(
        network=f'ports.seamless:SPEECH{version}',
        reader='jaxrep.audio.frontends:SEAMLESS',
        codes='seamless_speech',
        **shared,
      ),
    },
    'counterparts': 'ports.seamless:counterparts',
    'adaptor': ('speech/pre_adaptor', 'speech/adaptor'),
  }


NLLB = Part(
  network='ports.nllb:TEXT',
  reader='jaxrep.tokenizers:Nllb',
  checkpoint='facebook/nllb-200-distilled-600M',
  licence=NON_COMMERCIAL,
  codes='nllb',
)
W2V_BERT = Part(
  network='ports.w2vbert:SPEECH',
  reader='jaxrep.audio.frontends:SEAMLESS',
  checkpoint='facebook/w2v-bert-2.0',
  licence='MIT',
)
BEATS = {
  'checkpoint': 'WeiChihChen/BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2',
  'licence': 'MIT',
  'file': 'BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt',
  'embedded': 'cfg',
  # What is known of the file before it is downloaded; it has to say the same.
  'sizes': {
    'encoder_layers': 12,
    'encoder_embed_dim': 768,
    'encoder_ffn_embed_dim': 3072,
    'encoder_attention_heads': 12,
    'activation_fn': 'gelu',
    'layer_norm_first': False,
    'deep_norm': True,
    'conv_bias': False,
    'conv_pos': 128,
    'conv_pos_groups': 16,
    'relative_position_embedding': True,
    'num_buckets': 320,
    'max_distance': 800,
    'gru_rel_pos': True,
    'input_patch_size': 16,
    'embed_dim': 512,
  },
}
LLAMA_2, LLAMA_1 = 'Llama 2 Community License', 'LLaMA-1-NC'
TEMPLATE = 'USER: {}\nASSISTANT:'


def _whisper(size: str) -> Row:
  part = Part(
    network='ports.whisper:SPEECH',
    reader='jaxrep.audio.frontends:whisper',
    checkpoint=f'openai/whisper-{size}',
    licence='Apache-2.0' if size != 'large-v3' else 'MIT',
  )
  title = size.replace('-', ' ')
  return Row(title=f'Whisper {title}, encoder', parts={'speech': part})


def _vicuna(checkpoint: str, licence: str) -> Row:
  part = Part(
    network='ports.llama:TEXT',
    reader='jaxrep.tokenizers:Llama',
    checkpoint=f'lmsys/{checkpoint}',
    licence=licence,
    template=TEMPLATE,
  )
  title = checkpoint.replace('-', ' ').capitalize()
  return Row(title=f'{title}, decoder', parts={'text': part})


def _salmonn(
  title: str, checkpoint: str, file: str, vicuna: str, licence: str
) -> Row:
  llm = Files(
    checkpoint=f'lmsys/{vicuna}', licence=licence, pattern=r'(vicuna|llama).*'
  )
  own = Files(
    checkpoint=f'tsinghua-ee/{checkpoint}',
    licence='Apache-2.0',
    file=file,
    sizes={},
    pattern=r'salmonn.*\.pth',
  )
  heard = {
    'whisper': Files(
      checkpoint='openai/whisper-large-v2',
      licence='Apache-2.0',
      pattern='whisper.*',
    ),
    'beats': Files(**BEATS, pattern=r'beats.*\.pt'),
  }
  return Row(
    title=title,
    parts={
      'text': Part(
        network='ports.salmonn:TEXT',
        reader='jaxrep.tokenizers:Llama',
        components={'llm': llm, 'connector': own},
        template=TEMPLATE,
      ),
      'speech': Part(
        network='ports.salmonn:SPEECH',
        reader='jaxrep.audio.frontends:salmonn',
        components={**heard, 'llm': llm, 'connector': own},
        template=TEMPLATE,
      ),
    },
    counterparts='ports.salmonn:counterparts',
    adaptor=('speech/fused', 'speech/audio_tokens'),
  )


RESOURCES = Resources(
  str(pathlib.Path(__file__).parent / 'data/bundled/models/resources.tsv'),
  "Resource classes are shares of the bundled models' training data: of a "
  'high-resource language they read four times, of a medium one twice as much '
  'as of a low one.',
)


def _tiny(name: str, title: str, note: str, **more: Any) -> Row:
  """A bundled model: all have one architecture, for the bundled corpus."""
  return Row(
    title=title,
    languages=('eng', 'rus', 'hin', 'arb', 'cmn', 'swh', 'ind', 'tur'),
    note=note,
    **more,
    **_seamless(
      f'bundled:models/{name}',
      '',
      licence='Apache-2.0',
      tokenizer='bundled:tokenizer',
    ),
  )


def _trained(name: str, title: str, note: str) -> Row:
  return _tiny(
    *(name, title, note),
    resources=RESOURCES,
    demonstration='Tiny models, trained here for demonstration on synthetic '
    'speech',
  )


MEDIUM = {  # what differs from the large one
  'vocab_size': 256206,
  'encoder_layers': 12,
  'encoder_ffn_dim': 4096,
  'speech_encoder_layers': 12,
}

MODELS: dict[str, Row] = {
  'tiny-aligned': _trained(
    'tiny-aligned',
    'Tiny aligned',
    'Trained to pull text and speech of the same sentence together, in all '
    'languages, by a contrastive objective.',
  ),
  'tiny-translation': _trained(
    'tiny-translation',
    'Tiny translation',
    'The encoder of a model that was trained to translate from either '
    'modality; its decoder is not kept.',
  ),
  'tiny-unaligned': _trained(
    'tiny-unaligned',
    'Tiny unaligned',
    'Text and speech were trained apart, each by an objective of its own, so '
    'that nothing pulled them together.',
  ),
  'tiny-untrained': _tiny(
    'tiny-untrained',
    'Tiny random',
    'What it shows comes from the inputs and the architecture, not from '
    'learning.',
    seed=0,
    control=controls.UNTRAINED,
  ),
  **controls.ROWS,
  'seamless-m4t-v2-large': Row(
    title='SeamlessM4T v2 large',
    **_seamless('facebook/seamless-m4t-v2-large', ''),
  ),
  'seamless-m4t-v1-large': Row(
    title='SeamlessM4T v1 large',
    **_seamless(
      'facebook/hf-seamless-m4t-large',
      '_V1',
      file='multitask_unity_large.pt',
      sizes={},
      tokenizer='facebook/hf-seamless-m4t-large',
    ),
  ),
  'seamless-m4t-v1-medium': Row(
    title='SeamlessM4T v1 medium',
    **_seamless(
      'facebook/hf-seamless-m4t-medium',
      '_V1',
      file='multitask_unity_medium.pt',
      sizes=MEDIUM,
      codes='seamless_medium_text',
      tokenizer='facebook/hf-seamless-m4t-medium',
    ),
  ),
  'sonar': Row(
    title='SONAR',
    parts={
      'text': Part(
        network='ports.sonar:TEXT',
        reader='jaxrep.tokenizers:Nllb',
        checkpoint='facebook/SONAR',
        licence=NON_COMMERCIAL,
        file='sonar_text_encoder.pt',
        sizes={},
        codes='nllb',
        tokenizer='facebook/SONAR',
      ),
      'speech': Part(
        network='ports.sonar:SPEECH',
        reader='jaxrep.audio.frontends:SONAR',
        checkpoint='facebook/SONAR',
        licence='MIT, CC-BY-NC-4.0 or unlisted, by language',
        by_language='jaxrep.models:sonar_speech',
        codes='sonar_speech',
      ),
    },
    counterparts='ports.sonar:counterparts',
    adaptor=('speech/norm', 'speech/sentence'),
  ),
  'salmonn-7b': _salmonn(
    'SALMONN 7B', 'SALMONN-7B', 'salmonn_7b_v0.pth', 'vicuna-7b-v1.5', LLAMA_2
  ),
  'salmonn-13b': _salmonn(
    'SALMONN 13B', 'SALMONN', 'salmonn_v1.pth', 'vicuna-13b-v1.1', LLAMA_1
  ),
  'vicuna-7b-v1.5': _vicuna('vicuna-7b-v1.5', LLAMA_2),
  'vicuna-13b-v1.1': _vicuna('vicuna-13b-v1.1', LLAMA_1),
  **{
    f'whisper-{size}': _whisper(size)
    for size in ('tiny', 'base', 'small', 'medium', 'large-v2', 'large-v3')
  },
  'beats': Row(
    title='BEATs, iteration 3+, fine-tuned on AudioSet',
    parts={
      'speech': Part(
        network='ports.beats:SPEECH',
        reader='jaxrep.audio.frontends:BEATS',
        **BEATS,
      )
    },
  ),
  'nllb-200-600m': Row(
    title='NLLB-200 distilled 600M, encoder', parts={'text': NLLB}
  ),
  'w2v-bert-2.0': Row(title='w2v-BERT 2.0', parts={'speech': W2V_BERT}),
  'w2v-bert-2.0+nllb-200-600m': Row(
    title='w2v-BERT 2.0 and NLLB-200 600M',
    parts={'text': NLLB, 'speech': W2V_BERT},
    counterparts='ports.w2vbert:counterparts',
    note='An unaligned pair: each was trained without the other, so what they '
    'share comes from the sentences and from training in general.',
  ),
}


def row_of(name: str) -> Row:
  """The row of a model, or of a variant of it as 'model@variant'.

  Raises:
    InputError: Neither is known, or the model has no such variant.
  """
  return controls.of(name, lookup(MODELS, name.partition('@')[0], 'model'))


def language_code(row: Row, modality: Modality, iso: str) -> str:
  """What the model calls a language; empty where it does not cover it."""
  if row.languages:
    return iso if iso in row.languages else ''
  codes = row.parts[modality].codes
  if codes == 'nllb':
    return languages.nllb(iso)
  if not codes:
    return iso
  known = languages.LANGUAGES.get(iso)
  return getattr(known, codes) if known else languages.beyond(iso, codes)


def shared_resources(names: Sequence[str]) -> Resources | None:
  """What all these models were trained on; None where they differ.

  Of random weights nothing is asked: they were trained on nothing.
  """
  rows = [row_of(name) for name in names]
  found = {row.resources for row in rows if row.seed is None}
  return found.pop() if len(found) == 1 else None
