"""Makes the bundled corpus: sentences, speech and tokenizer.

  python -m jaxrep.jobs.bundle

writes test.tsv, manifest.tsv, audio/ and tokenizer/ of `jaxrep/data/bundled`
from its lexicon and patterns, in five minutes on one core. It needs espeak-ng
1.51 (Debian 12: apt-get install espeak-ng). The same versions of espeak-ng
and libsndfile give the same bytes.
"""

import io
import json
import pathlib
import random
import shutil
import sys
import zlib
from collections.abc import Iterator

import numpy as np
import sentencepiece
import soundfile
from jaxtyping import Float32

from jaxrep.data import sentences
from jaxrep.data.sentences import Combination, Grammar
from jaxrep.data.synthesis import Voice, synthesise
from jaxrep.types import SAMPLE_RATE

SEED = 0
WORDS = range(4, 21)
PIECES = 4000
TOKENIZER_SENTENCES = 4000
# Some 1.9 kB a second.
OPUS = {'format': 'OGG', 'subtype': 'OPUS', 'compression_level': 0.97}

# The same two in all languages, so that a speaker does not tell a language.
VOICES = (Voice('m3', 180, 40), Voice('f2', 195, 60))


def bundle(folder: pathlib.Path = sentences.BUNDLED) -> None:
  """Writes everything that is derived from the lexicon and the patterns."""
  grammar = sentences.load_grammar(folder)
  chosen = {
    f's{number:03}': combination
    for number, combination in enumerate(choose_test(grammar), 1)
  }
  _write_lines(folder / 'test.tsv', _test_rows(grammar, chosen))
  shutil.rmtree(folder / 'audio', ignore_errors=True)
  _write_lines(folder / 'manifest.tsv', _manifest_rows(grammar, chosen, folder))
  train_tokenizer(grammar, folder / 'tokenizer')


def choose_test(grammar: Grammar) -> list[Combination]:
  """Two sentences a pattern that share no concept, each of 4–20 words.

  The first of every pattern come before the second of any.
  """
  generator = random.Random(SEED)
  firsts, seconds = [], []
  for name in grammar.patterns:
    deck = sentences.pattern_combinations(grammar, name)
    generator.shuffle(deck)
    fitting = (item for item in deck if _fits(grammar, item))
    firsts.append(next(fitting))
    taken = set(firsts[-1].concepts)
    seconds.append(next(i for i in fitting if taken.isdisjoint(i.concepts)))
  return firsts + seconds


def encode(samples: Float32[np.ndarray, ' sample'], serial: int) -> bytes:
  """An Ogg/Opus file; `serial` numbers its stream, at random otherwise."""
  file = io.BytesIO()
  soundfile.write(file, samples, SAMPLE_RATE, **OPUS)
  return _numbered(file.getvalue(), serial)


def train_tokenizer(grammar: Grammar, folder: pathlib.Path) -> None:
  """A sentencepiece BPE model in the layout of SeamlessM4T's tokenizer."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=tokenizer_text(grammar),
    model_writer=model,
    model_type='bpe',
    vocab_size=PIECES,
    character_coverage=1.0,
    normalization_rule_name='nfkc',
    unk_id=0,
    bos_id=1,
    eos_id=2,
    pad_id=-1,
    num_threads=1,
    minloglevel=1,
  )
  folder.mkdir(exist_ok=True)
  (folder / 'tokenizer.model').write_bytes(model.getvalue())
  for name, content in _tokenizer_json().items():
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / name).write_text(text + '\n', 'utf-8')


def _fits(grammar: Grammar, combination: Combination) -> bool:
  return all(
    len(sentences.render(grammar, combination, language).split()) in WORDS
    for language in sentences.LANGUAGES
    if language != 'cmn'  # has no spaces between words
  )


def _test_rows(
  grammar: Grammar, chosen: dict[str, Combination]
) -> Iterator[tuple[str, ...]]:
  yield 'id', 'pattern', 'concepts'
  for sentence, combination in chosen.items():
    slots = grammar.patterns[combination.pattern].slots
    pairs = zip(slots, combination.concepts, strict=True)
    yield sentence, combination.pattern, ' '.join(map('='.join, pairs))


def _manifest_rows(
  grammar: Grammar, chosen: dict[str, Combination], folder: pathlib.Path
) -> Iterator[tuple[str, ...]]:
  """Speaks every sentence into `folder` and lists it."""
  yield 'id', 'language', 'text', 'audio', 'speaker', 'split', 'samples'
  for language in sentences.LANGUAGES:
    for sentence, combination in chosen.items():
      text = sentences.render(grammar, combination, language)
      spoken = sentences.vocalised(grammar, combination, language)
      for voice in VOICES:
        audio = f'audio/{language}/{voice.variant}/{sentence}.opus'
        samples = synthesise(spoken, language, voice)
        path = folder / audio
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(samples, zlib.crc32(audio.encode())))
        length = str(soundfile.info(path).frames)
        yield sentence, language, text, audio, voice.variant, 'test', length


def _write_lines(path: pathlib.Path, rows: Iterator[tuple[str, ...]]) -> None:
  lines = ['\t'.join(row) + '\n' for row in rows]
  path.write_text(''.join(lines), 'utf-8', newline='\n')


def _numbered(ogg: bytes, serial: int) -> bytes:
  """The same Ogg stream under another serial number (RFC 3533, section 6)."""
  pages = []
  while ogg:
    segments = ogg[26]
    size = 27 + segments + sum(ogg[27 : 27 + segments])
    page = bytearray(ogg[:size])
    page[14:18] = serial.to_bytes(4, 'little')
    page[22:26] = bytes(4)
    page[22:26] = _ogg_crc(page).to_bytes(4, 'little')
    pages.append(bytes(page))
    ogg = ogg[size:]
  return b''.join(pages)


def _crc_row(byte: int) -> int:
  value = byte << 24
  for _ in range(8):
    value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
  return value & 0xFFFFFFFF


_CRC_TABLE = [_crc_row(byte) for byte in range(256)]


def _ogg_crc(page: bytearray) -> int:
  crc = 0
  for byte in page:
    crc = (crc << 8) & 0xFFFFFFFF ^ _CRC_TABLE[crc >> 24 ^ byte]
  return crc


def tokenizer_text(grammar: Grammar) -> Iterator[str]:
  """Text of no test sentence, in all languages."""
  held_out = sentences.test_combinations(grammar).values()
  order = sentences.combinations(grammar, SEED, held_out)
  for _, combination in zip(range(TOKENIZER_SENTENCES), order, strict=False):
    for language in sentences.LANGUAGES:
      yield sentences.render(grammar, combination, language)


def _tokenizer_json() -> dict[str, dict]:
  """The hub's files beside the model, by name.

  Ids are those of sentencepiece + 1, since `<pad>` comes first; the
  languages stand behind the last piece.
  """
  codes = [f'__{language}__' for language in sentences.LANGUAGES]
  names = {
    'bos_token': '<s>',
    'cls_token': '<s>',
    'eos_token': '</s>',
    'pad_token': '<pad>',
    'sep_token': '</s>',
    'unk_token': '<unk>',
    'additional_special_tokens': codes,
  }
  added = {'<pad>': 0, '<unk>': 1, '<s>': 2, '</s>': 3}
  languages = {code: PIECES + 1 + i for i, code in enumerate(codes)}
  decoder = {
    str(index): {
      'content': token,
      'lstrip': False,
      'normalized': False,
      'rstrip': False,
      'single_word': False,
      'special': True,
    }
    for token, index in {**added, **languages}.items()
  }
  config = {
    'added_tokens_decoder': decoder,
    **names,
    'src_lang': 'eng',
    'tgt_lang': 'rus',
    'tokenizer_class': 'SeamlessM4TTokenizer',
  }
  return {
    'added_tokens.json': languages,
    'special_tokens_map.json': names,
    'tokenizer_config.json': config,
  }


if __name__ == '__main__':
  if sys.argv[1:]:
    sys.exit('usage: python -m jaxrep.jobs.bundle')
  bundle()
