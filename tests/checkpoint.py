"""A small SeamlessM4T checkpoint with its tokenizer, in the hub's layout."""

import io
import json

import sentencepiece

from tests.ports import reference

LANGUAGES = ('eng', 'fra', 'swh')
SENTENCES = {
  'eng': 'the small river carries {} boats to the old market every morning',
  'fra': 'la petite rivière porte {} bateaux au vieux marché chaque matin',
  'swh': 'mto mdogo hubeba mashua {} hadi soko la zamani kila asubuhi',
}
PIECES = 150


def sentences(language: str, count: int) -> list[str]:
  """Different sentences of different length."""
  pattern = SENTENCES[language].split()
  rows = []
  for i in range(count):
    words = pattern[: 4 + i % (len(pattern) - 3)] + pattern[: i // 8]
    rows.append(' '.join(words).replace('{}', str(i)) + f' {i}')
  return rows


def save(folder, version='v2', **sizes):
  """Writes config, two shards and tokenizer; returns the folder."""
  vocabulary = PIECES + 1 + len(LANGUAGES)
  made = reference.config(version, vocab_size=vocabulary, **sizes)
  reference.save(folder, made, *reference.encoders(made))
  save_tokenizer(folder)
  return folder


def save_v1(folder):
  return save(folder, 'v1')


def save_tokenizer(folder, rule='nmt_nfkc'):
  text = [line for name in LANGUAGES for line in sentences(name, 60)]
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(text),
    model_writer=model,
    vocab_size=PIECES,
    model_type='bpe',
    normalization_rule_name=rule,
    unk_id=0,
    bos_id=1,
    eos_id=2,
    pad_id=-1,
    minloglevel=2,
  )
  (folder / 'tokenizer.model').write_bytes(model.getvalue())
  tokens = [f'__{language}__' for language in LANGUAGES]
  special = {
    'bos_token': '<s>',
    'eos_token': '</s>',
    'pad_token': '<pad>',
    'unk_token': '<unk>',
    'additional_special_tokens': tokens,
  }
  added = {token: PIECES + 1 + i for i, token in enumerate(tokens)}
  for name, content in (
    ('special_tokens_map.json', special),
    ('added_tokens.json', added),
    (
      'tokenizer_config.json',
      {
        **special,
        'tokenizer_class': 'SeamlessM4TTokenizer',
        'src_lang': 'eng',
        'tgt_lang': 'fra',
      },
    ),
  ):
    (folder / name).write_text(json.dumps(content))
