"""The corpus that comes with the package, and the script that makes it."""

import itertools
import re
import shutil
import subprocess
import unicodedata

import numpy as np
import pytest
import sentencepiece
import transformers

from jaxrep.data import open_corpus, sentences, waveform
from jaxrep.jobs import bundle
from jaxrep.types import SAMPLE_RATE, CorpusOptions

FOLDER = sentences.BUNDLED
LANGUAGES = sentences.LANGUAGES
SCRIPTS = {
  'eng': 'LATIN',
  'rus': 'CYRILLIC',
  'hin': 'DEVANAGARI',
  'arb': 'ARABIC',
  'cmn': 'CJK',
  'swh': 'LATIN',
  'ind': 'LATIN',
  'tur': 'LATIN',
}
FIELD = re.compile(r'\{(\w+)\.?(\w*)@?(\w*)\}')
COLUMNS = ('id', 'language', 'text', 'audio', 'speaker', 'split', 'samples')


@pytest.fixture(scope='module')
def grammar():
  return sentences.load_grammar()


@pytest.fixture(scope='module')
def test_set(grammar):
  return sentences.test_combinations(grammar)


@pytest.fixture(scope='module')
def everything(grammar):
  return [
    combination
    for name in grammar.patterns
    for combination in sentences.pattern_combinations(grammar, name)
  ]


@pytest.fixture(scope='module')
def manifest():
  lines = (FOLDER / 'manifest.tsv').read_text('utf-8').splitlines()
  assert tuple(lines[0].split('\t')) == COLUMNS
  return [
    dict(zip(COLUMNS, line.split('\t'), strict=True)) for line in lines[1:]
  ]


@pytest.fixture(scope='module')
def texts(manifest):
  found = {language: {} for language in LANGUAGES}
  for row in manifest:
    found[row['language']].setdefault(row['id'], row['text'])
  return found


@pytest.fixture(
  scope='module',
  params=[4, pytest.param(1, marks=pytest.mark.slow)],
  ids=['every fourth sentence', 'all sentences'],
)
def recordings(manifest, request):
  """Text and waveform, by language and voice, in the order of the ids."""
  found = {}
  for row in manifest:
    if int(row['id'][1:]) % request.param:
      continue
    samples = waveform.read(FOLDER / row['audio'])
    assert len(samples) == int(row['samples']), row['audio']
    key = row['language'], row['speaker']
    found.setdefault(key, []).append((row['text'], samples))
  return found


@pytest.fixture(scope='module')
def tokenizer():
  return transformers.AutoTokenizer.from_pretrained(FOLDER / 'tokenizer')


def test_every_lexicon_has_the_same_concepts(grammar):
  concepts = {
    language: {
      kind: list(rows) for kind, rows in lexicon.items() if kind != 'words'
    }
    for language, lexicon in grammar.lexicon.items()
  }
  assert all(concepts[code] == concepts['eng'] for code in LANGUAGES)


@pytest.mark.parametrize('language', LANGUAGES)
def test_every_form_that_a_template_may_ask_for_exists(grammar, language):
  lexicon = grammar.lexicon[language]
  for name, pattern in grammar.patterns.items():
    filled = {
      slot: [lexicon[spec.type][concept] for concept in spec.concepts]
      for slot, spec in pattern.slots.items()
    }
    for word, form, other in FIELD.findall(pattern.templates[language]):
      for forms in filled.get(word) or [lexicon['words'][word]]:
        classes = {agreeing['class'] for agreeing in filled.get(other, ())}
        for key in {'_'.join(filter(None, (form, c))) for c in classes or ['']}:
          assert not key or forms[key], (name, word)


@pytest.mark.parametrize('language', LANGUAGES)
def test_different_combinations_give_different_sentences(grammar, language):
  order = sentences.combinations(grammar, 0)
  made = [
    sentences.render(grammar, combination, language)
    for combination in itertools.islice(order, 4000)
  ]
  assert len(set(made)) == len(made)
  text = ''.join(made)
  assert not set(text) & set('{}|\t\n')
  assert '  ' not in text


def test_there_is_text_for_training(everything):
  assert len(everything) == 69_523


def test_two_slots_of_a_type_hold_different_concepts(grammar):
  made = sentences.pattern_combinations(grammar, 'no_answer')
  persons = len(grammar.lexicon['eng']['person'])
  assert len(made) == persons * (persons - 1)


def test_combinations_give_each_once_but_those_excluded(
  grammar, test_set, everything
):
  made = list(sentences.combinations(grammar, 1, test_set.values()))
  assert len(set(made)) == len(made)
  assert set(made) == set(everything) - set(test_set.values())


def test_combinations_follow_the_seed_and_spread_over_patterns(grammar):
  def first(seed):
    return list(itertools.islice(sentences.combinations(grammar, seed), 640))

  assert first(1) == first(1) != first(2)
  assert len({combination.pattern for combination in first(1)}) == 64


def test_an_agreeing_word_follows_the_class_of_its_slot(grammar):
  made = [
    sentences.render(
      grammar, sentences.Combination('goes_by', (who, *rest)), 'hin'
    )
    for who in ('sister', 'brother', 'father')
    for rest in [('market', 'bus', 'every_day')]
  ]
  assert made == [
    'मेरी बहन हर दिन बस से बाज़ार जाती है।',
    'मेरा भाई हर दिन बस से बाज़ार जाता है।',
    'मेरे पिताजी हर दिन बस से बाज़ार जाते हैं।',
  ]


def test_a_sentence_begins_with_the_capital_of_its_language(grammar):
  made = sentences.Combination('closed_on', ('bank', 'market', 'monday'))
  assert sentences.render(grammar, made, 'eng').startswith('The bank')
  assert sentences.render(grammar, made, 'rus').startswith('По понедельникам')
  lexicon = {'beast': {'cow': {'nom': 'inek'}}, 'words': {}}
  slots = {'what': sentences.Slot('beast', ('cow',))}
  pattern = sentences.Pattern(slots, {'tur': '{what} uyuyor.'})
  tiny = sentences.Grammar({'asleep': pattern}, {'tur': lexicon})
  made = sentences.Combination('asleep', ('cow',))
  assert sentences.render(tiny, made, 'tur') == 'İnek uyuyor.'


def test_arabic_drops_its_vowel_signs_in_writing_only(grammar):
  made = sentences.Combination('when_back', ('mother', 'market'))
  written = sentences.render(grammar, made, 'arb')
  assert written == 'متى ستعود أمي من السوق؟'
  assert len(sentences.vocalised(grammar, made, 'arb')) > len(written)


def test_the_test_set_is_two_sentences_of_each_pattern(grammar, test_set):
  assert list(test_set) == [f's{n:03}' for n in range(1, 129)]
  patterns = [combination.pattern for combination in test_set.values()]
  assert patterns == 2 * list(grammar.patterns)
  assert bundle.choose_test(grammar) == list(test_set.values())


def test_the_manifest_lists_each_sentence_in_each_language_and_voice(manifest):
  keys = [(row['id'], row['language'], row['speaker']) for row in manifest]
  ids = [f's{n:03}' for n in range(1, 129)]
  assert len(set(keys)) == len(keys)
  assert set(keys) == set(itertools.product(ids, LANGUAGES, ('m3', 'f2')))
  assert {row['split'] for row in manifest} == {'test'}


def test_the_manifest_holds_what_the_grammar_renders(
  grammar, test_set, manifest
):
  for row in manifest:
    made = sentences.render(grammar, test_set[row['id']], row['language'])
    assert row['text'] == made


@pytest.mark.parametrize('language', LANGUAGES)
def test_texts_are_distinct_normalised_and_in_their_script(texts, language):
  made = list(texts[language].values())
  assert len(set(made)) == 128
  for text in made:
    assert unicodedata.is_normalized('NFC', text)
    letters = [c for c in text if c.isalpha()]
    names = {unicodedata.name(letter).split()[0] for letter in letters}
    assert names == {SCRIPTS[language]}, text


@pytest.mark.parametrize('language', [c for c in LANGUAGES if c != 'cmn'])
def test_sentences_have_4_to_20_words(texts, language):
  lengths = [len(text.split()) for text in texts[language].values()]
  assert min(lengths) >= 4
  assert max(lengths) <= 20
  assert len(set(lengths)) >= 8


def test_chinese_sentences_have_6_to_34_characters(texts):
  lengths = [sum(c.isalpha() for c in text) for text in texts['cmn'].values()]
  assert min(lengths) >= 6
  assert max(lengths) <= 34


def test_the_corpus_takes_at_most_15_megabytes():
  names = ('audio', 'lexicon', 'patterns', 'tokenizer')
  files = [path for name in names for path in (FOLDER / name).rglob('*')]
  files += FOLDER.glob('*.*')
  assert sum(path.stat().st_size for path in files if path.is_file()) <= 15e6


def test_no_recording_lies_beside_the_listed_ones(manifest):
  listed = {FOLDER / row['audio'] for row in manifest}
  assert set((FOLDER / 'audio').rglob('*.opus')) == listed


def test_recordings_decode_to_speech_of_plausible_length(recordings):
  for (language, _), spoken in recordings.items():
    pace = []
    for text, samples in spoken:
      assert 1 < len(samples) / SAMPLE_RATE < 8, text
      assert 0.02 < np.sqrt(np.mean(samples**2)) < 0.5, text
      pace.append(len(samples) / len(text))
    # Within a language, time follows the length of the text.
    assert max(pace) < 2.5 * min(pace), language


def test_little_silence_surrounds_the_speech(recordings):
  for spoken in recordings.values():
    for _, samples in spoken:
      loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
      assert loud[0] < 0.1 * SAMPLE_RATE
      assert len(samples) - loud[-1] < 0.25 * SAMPLE_RATE


@pytest.mark.parametrize('language', LANGUAGES)
def test_the_second_voice_is_higher(language):
  folder = FOLDER / 'audio' / language
  low, high = (
    np.median(
      [
        _pitch(waveform.read(folder / f'{voice}/s{n:03}.opus'))
        for n in range(1, 17)
      ]
    )
    for voice in ('m3', 'f2')
  )
  assert 60 < low < 160
  assert high > 1.3 * low


@pytest.mark.parametrize('language', ['eng', 'arb', 'cmn'])
def test_a_recording_is_what_espeak_ng_1_51_makes(grammar, test_set, language):
  if not _espeak_ng_is_1_51():
    pytest.skip('espeak-ng 1.51, which made the recordings, is not installed')
  text = sentences.vocalised(grammar, test_set['s042'], language)
  for voice in bundle.VOICES:
    path = FOLDER / f'audio/{language}/{voice.variant}/s042.opus'
    stored = waveform.read(path)
    made = bundle.synthesise(text, language, voice)
    assert len(made) == len(stored)
    assert np.corrcoef(made, stored)[0, 1] > 0.9


def test_encoding_keeps_the_length_and_gives_the_same_bytes_again():
  samples = np.random.default_rng(0).normal(0, 0.1, 12_345).astype('float32')
  file = bundle.encode(samples, 7)
  assert file == bundle.encode(samples, 7)
  assert file[14:18] == bytes([7, 0, 0, 0])
  assert len(waveform.read(file)) == 12_345


def test_the_corpus_opens_by_name():
  corpus = open_corpus('bundled', CorpusOptions(recordings='all'))
  assert corpus.languages == LANGUAGES
  assert corpus.synthetic
  for language in LANGUAGES:
    assert len(corpus.examples(language, 'text')) == 128
    speech = corpus.examples(language, 'speech')
    assert [example.speaker for example in speech] == ['m3', 'f2'] * 128
  assert not corpus.dropped


def test_the_tokenizer_has_the_layout_of_seamless(tokenizer):
  assert type(tokenizer).__name__ == 'SeamlessM4TTokenizer'
  specials = ['<pad>', '<unk>', '<s>', '</s>']
  assert tokenizer.convert_tokens_to_ids(specials) == [0, 1, 2, 3]
  codes = [f'__{language}__' for language in LANGUAGES]
  behind = list(range(bundle.PIECES + 1, bundle.PIECES + 9))
  assert tokenizer.convert_tokens_to_ids(codes) == behind
  assert len(tokenizer) == bundle.PIECES + 9


@pytest.mark.parametrize('language', LANGUAGES)
def test_the_tokenizer_knows_every_sentence(tokenizer, texts, language):
  pieces = sentencepiece.SentencePieceProcessor(
    model_file=str(FOLDER / 'tokenizer' / 'tokenizer.model')
  )
  tokenizer.src_lang = language
  code = tokenizer.convert_tokens_to_ids(f'__{language}__')
  for text in texts[language].values():
    ids = tokenizer(text)['input_ids']
    assert ids == [code, *(i + 1 for i in pieces.encode(text)), 3]
    assert 1 not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == (
      unicodedata.normalize('NFKC', text)
    )


def test_the_tokenizer_is_what_the_script_trains(grammar, tmp_path):
  bundle.train_tokenizer(grammar, tmp_path)
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {path.name for path in (FOLDER / 'tokenizer').iterdir()}
  for name in names:
    stored = (FOLDER / 'tokenizer' / name).read_bytes()
    assert (tmp_path / name).read_bytes() == stored, name
  assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 400_000


def test_the_tokenizer_is_trained_on_no_test_sentence(grammar, texts):
  seen = set(bundle.tokenizer_text(grammar))
  assert len(seen) == 8 * bundle.TOKENIZER_SENTENCES
  assert seen.isdisjoint(
    text for language in LANGUAGES for text in texts[language].values()
  )


def _espeak_ng_is_1_51():
  if not shutil.which('espeak-ng'):
    return False
  said = subprocess.run(['espeak-ng', '--version'], capture_output=True)
  return b' 1.51 ' in said.stdout


def _pitch(samples):
  """Fundamental frequency in Hz of the loudest second, by autocorrelation."""
  energy = np.cumsum(samples**2)
  start = np.argmax(energy[SAMPLE_RATE:] - energy[:-SAMPLE_RATE])
  loud = samples[start:][:SAMPLE_RATE]
  spectrum = np.abs(np.fft.rfft(loud, 2 * len(loud))) ** 2
  similarity = np.fft.irfft(spectrum)
  lags = np.arange(SAMPLE_RATE // 400, SAMPLE_RATE // 60)
  return SAMPLE_RATE / lags[np.argmax(similarity[lags])]
