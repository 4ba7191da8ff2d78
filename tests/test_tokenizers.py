"""Token ids against the references' own tokenizers."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import sentencepiece
import transformers

from jaxrep import languages, tokenizers
from jaxrep.inputs import TextInputs
from jaxrep.sources import open_source
from jaxrep.types import InputError
from tests import checkpoint

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'sonar_text'
HUB = {'model_type': 'm2m_100'}
RENUMBERED = {0: 1, 1: 3, 2: 0, 3: 2}  # fairseq2's specials → transformers'


@pytest.fixture(scope='module')
def stored():
  return json.loads((GOLDEN / 'tokens.json').read_text())


def nllb(config=None, folder=GOLDEN):
  return tokenizers.Nllb(open_source(str(folder)), config or {})


def test_all_sentences_as_fairseq2_numbers_them(stored):
  ours = nllb()
  assert len(stored['sentences']) == 20
  for one in stored['sentences']:
    assert ours.encode([one['text']], one['lang']) == [one['ids']], one


def test_all_sentences_in_the_hubs_numbering(stored):
  ours = nllb(HUB)
  for one in stored['sentences']:
    expected = [RENUMBERED.get(i, i) for i in one['ids']]
    assert ours.encode([one['text']], one['lang']) == [expected], one


def test_the_hubs_own_tokenizer_gives_the_same(stored, tmp_path):
  """But for spaces at the end and specials that are written out in a text.

  There transformers' is not what the model was trained with: SONAR's reference
  gives what the sentencepiece model alone does. Its folder names no languages,
  so that their tokens are compared in the next test.
  """
  file = tmp_path / 'sentencepiece.bpe.model'
  shutil.copy(GOLDEN / 'sentencepiece.model', file)
  theirs = transformers.NllbTokenizer.from_pretrained(tmp_path)
  ours, differ = nllb(HUB), []
  for one in stored['sentences']:
    found = ours.encode([one['text']], one['lang'])[0]
    if found[1:] != theirs(one['text'])['input_ids'][1:]:
      differ.append(one['text'])
  assert len(differ) == 3
  for text in differ:
    assert text.endswith('  ') or '<unk>' in text


def test_languages_stand_behind_the_pieces():
  known = transformers.models.nllb.tokenization_nllb.FAIRSEQ_LANGUAGE_CODES
  assert tuple(known) == languages.NLLB_CODES
  assert len(known) == 202 and known.index('eng_Latn') == 46
  # 256,000 pieces: <pad>, <unk>, <s>, </s> take the ids 0 to 3, the model's own
  # <unk>, <s>, </s> none.
  assert 256_000 + 1 + known.index('eng_Latn') == 256_047


def test_a_folder_without_a_list_has_nllbs_languages(tmp_path):
  shutil.copy(GOLDEN / 'sentencepiece.model', tmp_path)
  ours = nllb(folder=tmp_path)
  for code in ('ace_Arab', 'eng_Latn', 'zul_Latn'):
    (ids,) = ours.encode([''], code)
    assert ids == [401 + languages.NLLB_CODES.index(code), 3]


def test_long_texts_are_cut_at_the_end(stored):
  inputs = TextInputs(nllb(), limit=40)
  long = stored['sentences'][19]
  assert len(long['ids']) == 82
  (whole,) = inputs.whole([long['text']], long['lang'])
  ids = whole[: inputs.limit]
  np.testing.assert_array_equal(ids, long['ids'][:40])
  assert len(inputs.whole([long['text']], long['lang'])[0]) == 82


def test_what_cannot_be_read_is_named(tmp_path):
  with pytest.raises(InputError, match=r"sonar_text lacks 'zul_Latn'"):
    nllb().encode(['x'], 'zul_Latn')
  with pytest.raises(InputError, match='no tokenizer; looked for sentencep'):
    nllb(folder=tmp_path).encode(['x'], 'eng_Latn')
  (tmp_path / 'sentencepiece.model').write_bytes(b'\x0a\xff no model')
  with pytest.raises(InputError, match='no sentencepiece model'):
    nllb(folder=tmp_path).encode(['x'], 'eng_Latn')
  shutil.copy(GOLDEN / 'sentencepiece.model', tmp_path)
  (tmp_path / 'tokens.json').write_text('[3]')
  with pytest.raises(InputError, match=r'tokens\.json: lists no `langs`'):
    nllb(folder=tmp_path).encode(['x'], 'eng_Latn')


@pytest.mark.parametrize('name', ['tokenizer.model', 'sentencepiece.bpe.model'])
def test_seamless_reads_both_names_of_its_file(tmp_path, name):
  """v2's repository has one name, v1's the other, neither a tokenizer.json."""
  checkpoint.save_tokenizer(tmp_path)
  (tmp_path / 'tokenizer.model').rename(tmp_path / name)
  ours = tokenizers.Seamless(open_source(str(tmp_path)), {})
  theirs = transformers.SeamlessM4TTokenizer.from_pretrained(tmp_path)
  pieces = sentencepiece.SentencePieceProcessor(str(tmp_path / name))
  texts = ['the old market', '']
  for code in checkpoint.LANGUAGES:
    theirs.src_lang = code
    found = ours.encode(texts, code)
    assert found == theirs(texts)['input_ids']
    assert found[0][0] == theirs.convert_tokens_to_ids(f'__{code}__')
    assert found[0][1:-1] == [piece + 1 for piece in pieces.encode(texts[0])]
    assert found[1] == [found[0][0], 3]
  with pytest.raises(InputError, match="lacks 'deu'"):
    ours.encode(texts, 'deu')


def test_malay_is_found_under_the_hubs_name(tmp_path):
  """The list of 98 languages has `zlm` where the model's own has `zsm`."""
  checkpoint.save_tokenizer(tmp_path)
  for file in tmp_path.glob('*.json'):
    file.write_text(file.read_text().replace('__swh__', '__zlm__'))
  ours = tokenizers.Seamless(open_source(str(tmp_path)), {})
  assert ours.encode(['pasar lama'], 'zsm')[0][0] == checkpoint.PIECES + 3


LLAMA = GOLDEN.parent / 'salmonn'


def llama(prompt=''):
  found = tokenizers.Llama(open_source(str(LLAMA / 'llama')))
  return found.around(prompt, 'USER: {}\nASSISTANT:')


def test_llama_gives_the_references_ids():
  """Odd strings, specials written out among them, and the prompt's pieces."""
  stored = json.loads((LLAMA / 'config.json').read_text())
  cases = stored['tokenizer_cases']
  assert len(cases) == 16
  for case in cases:
    assert llama().pieces(case['text']) == case['ids'], case['text']
    assert llama().encode([case['text']], 'eng') == [[1, *case['ids']]]


def test_llama_puts_a_prompt_around_every_item():
  stored = json.loads((LLAMA / 'config.json').read_text())
  for said in stored['utterances']:
    for prompt in (said['instruction'], said['prompt']):
      ours = llama(prompt)
      before, after = said['ids_before'], said['ids_after']
      inner = [ours.pieces(text) for text in ('a', 'two')]
      assert ours.encode(['a', 'two'], 'eng') == [
        [1, *before, *ids, *after] for ids in inner
      ]
      assert ours.frame == 1 + len(before) + len(after)
  assert llama().frame == 1


def test_damage_that_only_a_parser_sees_is_named(tmp_path):
  checkpoint.save_tokenizer(tmp_path)
  (tmp_path / 'tokens.json').write_text('[' * 100_000)
  with pytest.raises(InputError, match=r'tokens\.json: lists no `langs`'):
    nllb(folder=tmp_path).encode(['a'], 'eng_Latn')
  for name, text in (
    ('added_tokens.json', '{"__eng__": "x", "__fra__": 152}'),
    ('special_tokens_map.json', '{"bos_token": 1}'),
    ('tokenizer_config.json', '[' * 100_000),
  ):
    path = tmp_path / name
    whole = path.read_text()
    path.write_text(text)
    seamless = tokenizers.Seamless(open_source(str(tmp_path)), {})
    with pytest.raises(InputError, match=f'from {tmp_path}'):
      seamless.encode(['a'], 'eng')
    path.write_text(whole)


@pytest.mark.parametrize('rule', ['nfkc', 'nmt_nfkc'])
def test_seamless_normalises_as_its_pieces_do(tmp_path, rule):
  """Marks without width, another writing of a letter, spaces of all kinds."""
  checkpoint.save_tokenizer(tmp_path, rule)
  pieces = sentencepiece.SentencePieceProcessor(
    str(tmp_path / 'tokenizer.model')
  )
  ours = tokenizers.Seamless(open_source(str(tmp_path)), {})
  for text in (
    *('the\u200cold', '\u200fthe old', 'the\u200bold', '\ufeffthe old'),
    *('the\u2028old', 'the\u3000old  market ', 'rivi\u0065\u0300re', 'ﬁ ａ'),
  ):
    expected = [piece + 1 for piece in pieces.encode(text)]
    assert ours.encode([text], 'eng')[0][1:-1] == expected, repr(text)
