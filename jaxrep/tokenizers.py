"""Texts → token ids, by the rules of each family of text encoders."""

import functools
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import sentencepiece

from jaxrep import languages
from jaxrep.sources import Source
from jaxrep.types import InputError

Ids = list[list[int]]
# The hub's tokenizers of 98 languages call Standard Malay by the code of
# colloquial Malay; the token that the model was trained with is the same.
_ALSO = {'zsm': 'zlm'}
# What transformers and json raise of a file that is not what it should be.
_DAMAGED = (OSError, ValueError, TypeError, AttributeError, RecursionError)


class Seamless:
  """SeamlessM4T's, as transformers makes it from the hub's files.

  Texts are normalised by its sentencepiece model first, for which transformers
  from 5 on has NFKC alone: marks without width, as Persian and Telugu have
  within words, would be unknown pieces.
  """

  frame = 0
  PIECES = ('tokenizer.model', 'sentencepiece.bpe.model')
  FILES = (
    *('tokenizer_config.json', 'special_tokens_map.json', 'tokenizer.json'),
    *('added_tokens.json', *PIECES),
  )

  def __init__(self, source: Source, config: Mapping[str, Any]):
    self._source = source

  @functools.cached_property
  def _tokenizer(self) -> Any:
    import transformers

    transformers.logging.set_verbosity_error()
    found = [path for name in self.FILES if (path := self._source.file(name))]
    if not found:
      raise InputError(f'{self._source.name} holds no tokenizer.')
    try:
      return transformers.SeamlessM4TTokenizer.from_pretrained(found[0].parent)
    except _DAMAGED as error:
      raise InputError(
        f'No tokenizer could be read from {self._source.name} ({error}).'
      ) from error

  @functools.cached_property
  def _normalise(self) -> Callable[[str], str]:
    for name in self.PIECES:
      if path := self._source.file(name):
        try:
          made = sentencepiece.SentencePieceNormalizer(
            model_file=str(path),
            add_dummy_prefix=False,
            escape_whitespaces=False,
            remove_extra_whitespaces=False,
          )
        except (OSError, RuntimeError) as error:
          raise InputError(f'{path} is no sentencepiece model.') from error
        return made.normalize
    return str

  def encode(self, texts: Sequence[str], code: str) -> Ids:
    """Token ids, with the language's token in front and `</s>` behind."""
    known = self._tokenizer.get_vocab()
    codes = (code, _ALSO.get(code, code))
    there = [one for one in codes if f'__{one}__' in known]
    if not there:
      raise InputError(f'The tokenizer of {self._source.name} lacks {code!r}.')
    self._tokenizer.src_lang = there[0]
    plain = [self._normalise(text) for text in texts]
    return self._tokenizer(plain)['input_ids']


class Numbering(NamedTuple):
  """Where the specials of a sentencepiece model stand among the token ids.

  Its other pieces follow one id later than their own number.
  """

  unknown: int
  end: int


FAIRSEQ2 = Numbering(unknown=1, end=3)
TRANSFORMERS = Numbering(unknown=3, end=2)


class Nllb:
  """NLLB-200's and SONAR's: the pieces' numbers + 1, the languages behind them.

  fairseq2 counts pad, unk, bos, eos from 0, transformers bos, pad, eos, unk. A
  checkpoint whose config.json is of transformers has transformers' numbering.
  Nothing is done to a text but by the sentencepiece model itself, and a special
  token that is written out in it stays text. The languages are the 202 of
  NLLB-200, or those that a tokens.json beside the checkpoint lists in `langs`.
  """

  frame = 0
  FILES = (
    *('sentencepiece.source.256000.model', 'sentencepiece.bpe.model'),
    *('sentencepiece.model', 'tokenizer.model'),
  )

  def __init__(self, source: Source, config: Mapping[str, Any]):
    self._source = source
    hub = config.get('model_type') == 'm2m_100'
    self._numbering = TRANSFORMERS if hub else FAIRSEQ2

  @functools.cached_property
  def _pieces(self) -> sentencepiece.SentencePieceProcessor:
    return _sentencepiece(self._source, self.FILES)

  @functools.cached_property
  def _languages(self) -> dict[str, int]:
    """Language → token id."""
    listed = self._source.file('tokens.json')
    codes = languages.NLLB_CODES
    if listed:
      try:
        codes = tuple(map(str, json.loads(listed.read_text())['langs']))
      except (*_DAMAGED, KeyError) as error:
        raise InputError(f'{listed}: lists no `langs` ({error}).') from error
    first = self._pieces.get_piece_size() + 1
    return {code: first + i for i, code in enumerate(codes)}

  def encode(self, texts: Sequence[str], code: str) -> Ids:
    """Token ids, with the language's token in front and `</s>` behind."""
    if code not in self._languages:
      raise InputError(f'The tokenizer of {self._source.name} lacks {code!r}.')
    unknown, end = self._numbering
    own = self._pieces.unk_id()
    return [
      [
        self._languages[code],
        *(unknown if piece == own else piece + 1 for piece in pieces),
        end,
      ]
      for pieces in self._pieces.encode(list(texts))
    ]


class Llama:
  """LLaMA's and Vicuna's, as the slow tokenizer of transformers 4.28.

  sentencepiece's own pieces, but that `<s>`, `</s>` and `<unk>` written out in
  a text are these tokens. A sequence is `<s>`, the prompt's first piece, the
  item, and the prompt's second piece; each piece is tokenised by itself, so
  that each begins as a text of its own.
  """

  FILES = ('tokenizer.model',)
  SPECIALS: Mapping[str, int] = {'<unk>': 0, '<s>': 1, '</s>': 2}
  SLOT = '<SpeechHere>'

  def __init__(self, source: Source):
    self._source = source
    self.before: tuple[int, ...] = ()
    self.after: tuple[int, ...] = ()

  def around(self, prompt: str, template: str) -> 'Llama':
    """The same with a prompt around each item; '' for none.

    Args:
      prompt: An instruction, or a whole prompt with <SpeechHere> where the
        item stands.
      template: What an instruction goes into, at its braces.
    """
    found = Llama(self._source)
    if prompt:
      if self.SLOT not in prompt:
        asked = f'<Speech>{self.SLOT}</Speech> {prompt.strip()}'
        prompt = template.replace('{}', asked)
      sides = prompt.split(self.SLOT)
      if len(sides) != 2:
        raise InputError(f'--prompt: {self.SLOT} stands there more than once.')
      found.before, found.after = (tuple(self.pieces(s)) for s in sides)
    return found

  @property
  def frame(self) -> int:
    """How many tokens a sequence has besides the item's."""
    return 1 + len(self.before) + len(self.after)

  @functools.cached_property
  def _model(self) -> sentencepiece.SentencePieceProcessor:
    return _sentencepiece(self._source, self.FILES)

  def pieces(self, text: str) -> list[int]:
    """The tokens of one piece."""
    found: list[int] = []
    for part in re.split('(<unk>|</?s>)', text):
      if part in self.SPECIALS:
        found.append(self.SPECIALS[part])
      elif part:
        found += self._model.encode(part)
    return found

  def encode(self, texts: Sequence[str], code: str) -> Ids:
    """Token ids of whole sequences; the language makes no difference."""
    return [
      [self.SPECIALS['<s>'], *self.before, *self.pieces(text), *self.after]
      for text in texts
    ]


class Ngrams:
  """Character n-grams as numbers of buckets; what a control counts.

  Of each order in turn, a text's n-grams from left to right: letters are in
  lower case, spaces count, and an n-gram's bucket is the CRC-32 of its UTF-8,
  so that languages share the buckets of what they write alike. Of order 1 there
  are as many as the text has characters.
  """

  frame = 0
  FILES = ()

  def __init__(self, source: Source, config: Mapping[str, Any]):
    self._orders = tuple(config['orders'])
    self._buckets = config['buckets']

  def encode(self, texts: Sequence[str], code: str) -> Ids:
    """Buckets of all n-grams; the language makes no difference."""
    return [
      [
        self._bucket(text[i : i + order])
        for order in self._orders
        for i in range(len(text) - order + 1)
      ]
      for text in texts
    ]

  def _bucket(self, ngram: str) -> int:
    return zlib.crc32(ngram.lower().encode()) % self._buckets


def _sentencepiece(
  source: Source, names: tuple[str, ...]
) -> sentencepiece.SentencePieceProcessor:
  found = [path for name in names if (path := source.file(name))]
  if not found:
    raise InputError(
      f'{source.name} holds no tokenizer; looked for {", ".join(names)}.'
    )
  try:
    return sentencepiece.SentencePieceProcessor(model_file=str(found[0]))
  except (OSError, RuntimeError) as error:
    raise InputError(f'{found[0]} is no sentencepiece model.') from error
