import json
import time

import numpy as np
import pytest
import soundfile

from jaxrep import data
from jaxrep.data import manifest, waveform
from jaxrep.types import CorpusOptions, Example, InputError

HEADER = ('id', 'language', 'text', 'audio', 'speaker', 'split')
ROWS = (
  ('1', 'eng', 'one', 'e1a.wav', 'ann', 'test'),
  ('1', 'eng', 'one', 'e1b.wav', 'bob', 'test'),
  ('2', 'eng', 'two', 'e2.wav', 'ann', 'test'),
  ('1', 'fra', 'un', 'f1.wav', 'zoé', 'test'),
  ('2', 'fra', 'deux', '', '', 'test'),
  ('9', 'eng', 'nine', '', '', 'test'),
)


def _tsv(folder, rows=ROWS, header=HEADER):
  path = folder / 'manifest.tsv'
  lines = ['\t'.join(row) for row in (header, *rows)]
  path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
  return str(path)


def _jsonl(folder, objects):
  path = folder / 'manifest.jsonl'
  lines = (
    one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)
    for one in objects
  )
  path.write_text('\n'.join(lines), encoding='utf-8')
  return str(path)


def _open(source, **options):
  return data.open_corpus('manifest', CorpusOptions(source=source, **options))


@pytest.fixture
def folder(tmp_path):
  """A folder with the recordings of ROWS, 0.1 s at 16 kHz; f1 at 8 kHz."""
  wave = np.linspace(-0.5, 0.5, 1600, dtype='float32')
  for row in ROWS:
    if row[3]:
      rate = 8000 if row[3] == 'f1.wav' else 16_000
      soundfile.write(tmp_path / row[3], wave, rate, subtype='FLOAT')
  return tmp_path


def test_a_tsv_lists_text_and_speech(folder):
  corpus = _open(_tsv(folder))
  assert corpus.languages == ('eng', 'fra')
  assert corpus.examples('eng', 'text') == [
    Example('1', 'eng', 'one', 'test'),
    Example('2', 'eng', 'two', 'test'),
    Example('9', 'eng', 'nine', 'test'),
  ]
  assert corpus.examples('fra', 'speech') == [
    Example(
      id='1',
      language='fra',
      text='un',
      split='test',
      speaker='zoé',
      audio=str(folder / 'f1.wav'),
      samples=3200,
      checksum=waveform.checksum(folder / 'f1.wav'),
    )
  ]
  assert [e.id for e in corpus.examples('fra', 'text')] == ['1', '2']
  assert (corpus.name, corpus.synthetic) == ('manifest', False)
  assert corpus.dropped == []


def test_waveforms_have_the_listed_length(folder):
  corpus = _open(_tsv(folder), recordings='all')
  for language in corpus.languages:
    for example in corpus.examples(language, 'speech'):
      read = corpus.waveform(example)
      np.testing.assert_array_equal(read, waveform.read(example.audio))
      assert len(read) == example.samples


def test_jsonl_says_the_same_as_tsv(folder):
  objects = [
    {name: cell for name, cell in zip(HEADER, row, strict=True) if cell}
    for row in ROWS
  ]
  objects[0] |= {'id': 1, 'extra': [3], 'language': 'en_us'}
  objects[4] |= {'audio': None}
  ours, theirs = _open(_jsonl(folder, [*objects, ''])), _open(_tsv(folder))
  assert ours.languages == theirs.languages
  for language in ours.languages:
    for modality in ('text', 'speech'):
      assert ours.examples(language, modality) == theirs.examples(
        language, modality
      )


def test_json_of_other_programs_and_a_home_are_understood(folder, monkeypatch):
  """A column with empty cells is of floats to pandas."""
  monkeypatch.setenv('HOME', str(folder))
  fields = {'id': 7.0, 'language': 'eng', 'text': 'one', 'samples': 16000.0}
  (folder / 'mine.jsonl').write_text(json.dumps(fields))
  (example,) = _open('~/mine.jsonl').examples('eng', 'text')
  assert (example.id, example.text) == ('7', 'one')


def test_a_transcript_may_hold_any_line_separator_but_newline(folder):
  text = 'a\u2028b\x85c "d'
  path = _tsv(folder, [('1', 'eng', text, '', '', '')])
  assert _open(path).examples('eng', 'text')[0].text == text


def test_languages_are_chosen_ordered_and_may_be_outside_fleurs(folder):
  path = _tsv(folder, [*ROWS, ('1', 'tok', 'wan', '', '', 'test')])
  corpus = _open(path, languages=('tok', 'eng_Latn'))
  assert corpus.languages == ('tok', 'eng')
  assert corpus.examples('tok', 'text')[0].text == 'wan'
  with pytest.raises(InputError, match=r"has no language 'fra'; .*: tok, eng"):
    corpus.examples('fra', 'text')
  with pytest.raises(InputError, match=r'no rows in deu; .*: eng, fra, tok'):
    _open(path, languages=('de_de', 'fra'))


def test_splits_are_taken_in_order_of_preference(folder):
  path = _tsv(
    folder,
    [
      ('1', 'eng', 'one', 'e1a.wav', '', 'train'),
      ('2', 'eng', 'two', 'e2.wav', '', 'dev'),
      ('1', 'eng', 'one', 'e1b.wav', '', 'test'),
      ('3', 'eng', 'three', 'f1.wav', '', ''),
    ],
  )
  first = _open(path, splits=('test', 'train')).examples('eng', 'speech')
  assert [(e.id, e.split, e.audio[-7:]) for e in first] == [
    ('1', 'test', 'e1b.wav'),
    ('3', '', '/f1.wav'),
  ]
  every = _open(path, splits=('test', 'train'), recordings='all')
  assert [
    (e.id, e.split, e.recording) for e in every.examples('eng', 'speech')
  ] == [('1', 'test', 0), ('1', 'train', 1), ('3', '', 0)]
  with pytest.raises(InputError, match=r'eng for --splits=test; it has: dev'):
    _open(_tsv(folder, [('2', 'eng', 'two', 'e2.wav', '', 'dev')]))


def test_rows_may_lack_text_or_audio(folder):
  path = _tsv(
    folder,
    [
      ('1', 'eng', '', 'e1a.wav', '', ''),
      ('1', 'fra', 'un', '', '', ''),
      ('1', 'swh', 'moja', '', '', ''),
      ('1', 'swh', '', 'f1.wav', '', ''),
    ],
  )
  corpus = _open(path)
  sizes = {
    (language, modality): len(corpus.examples(language, modality))
    for language in corpus.languages
    for modality in ('text', 'speech')
  }
  assert sizes == {
    ('eng', 'text'): 0,
    ('eng', 'speech'): 1,
    ('fra', 'text'): 1,
    ('fra', 'speech'): 0,
    ('swh', 'text'): 1,
    ('swh', 'speech'): 1,
  }
  assert corpus.examples('swh', 'speech')[0].text == 'moja'


BAD = {
  'missing audio': (
    ('3', 'eng', 'three', 'none.wav', '', ''),
    'speech',
    'there is no such audio file',
  ),
  'corrupt audio': (
    ('3', 'eng', 'three', 'noise.wav', '', ''),
    'speech',
    'is not an audio file',
  ),
  'empty text': (('3', 'eng', ' ', 'f1.wav', '', ''), 'text', 'has no text'),
  'nothing': (
    ('3', 'eng', '', '', '', ''),
    'speech',
    'has neither text nor audio',
  ),
  'other text': (
    ('2', 'eng', 'zwei', 'f1.wav', '', ''),
    'text',
    'gives this id another text',
  ),
  'other text, spoken': (
    ('2', 'eng', 'zwei', 'f1.wav', '', ''),
    'speech',
    'gives this id another text',
  ),
  'repeated text': (
    ('9', 'eng', 'nine', '', '', 'test'),
    'text',
    'repeats an earlier row',
  ),
  'repeated recording': (
    ('2', 'eng', 'two', './e2.wav', '', ''),
    'speech',
    'repeats an earlier row',
  ),
}


@pytest.mark.parametrize('case', BAD)
@pytest.mark.parametrize('recordings', ['first', 'all'])
def test_a_bad_example_is_an_error_or_is_dropped(folder, case, recordings):
  row, modality, reason = BAD[case]
  (folder / 'noise.wav').write_bytes(b'noise' * 99)
  path = _tsv(folder, [*ROWS, row])
  with pytest.raises(InputError) as error:
    _open(path, recordings=recordings).examples('eng', modality)
  for part in (f'{path}:8: eng {row[0]}: ', reason, '--on_bad_input=skip'):
    assert part in str(error.value)

  clean = _open(_tsv(folder), recordings=recordings).examples('eng', modality)
  corpus = _open(
    _tsv(folder, [*ROWS, row]), recordings=recordings, on_bad_input='skip'
  )
  for _ in range(2):
    assert corpus.examples('eng', modality) == clean
    assert [(d.language, d.modality, d.id) for d in corpus.dropped] == [
      ('eng', modality, row[0])
    ]
  (dropped,) = corpus.dropped
  assert reason in dropped.reason
  # The reason is the same for all, and tells nothing of anybody's folders.
  assert str(folder) not in dropped.reason
  said = str(folder / row[3]) if modality == 'speech' and row[3] else ''
  assert dropped.audio == said


def test_a_sentence_of_two_splits_is_no_repeat(folder):
  path = _tsv(folder, [*ROWS, ('9', 'eng', 'nine', '', '', 'train')])
  corpus = _open(path, splits=('test', 'train'))
  assert [e.id for e in corpus.examples('eng', 'text')] == ['1', '2', '9']


def test_the_first_usable_recording_is_taken(folder):
  (folder / 'e1a.wav').unlink()
  corpus = _open(_tsv(folder), on_bad_input='skip')
  example = corpus.examples('eng', 'speech')[0]
  assert (example.audio[-7:], example.recording) == ('e1b.wav', 0)
  assert len(corpus.dropped) == 1


@pytest.mark.parametrize(
  ('suffix', 'content', 'message'),
  [
    ('.tsv', 'id\ttext\n1\tone\n', ':1: .*columns id, language and text or'),
    ('.tsv', 'id\tlanguage\n1\teng\n', ':1: .*columns id, language and text'),
    ('.tsv', 'id\tid\tlanguage\ttext\n', ':1: .*names a column twice'),
    ('.tsv', 'id\tlanguage\ttext\n1\teng\n', ':2: has 2 columns where .* 3'),
    ('.tsv', 'id\tlanguage\ttext\n\teng\tone\n', ':2: has no id'),
    ('.tsv', 'id\tlanguage\ttext\n1\t\tone\n', ':2: has no language'),
    ('.tsv', 'id\tlanguage\ttext\n\n1\ten\tone\n', ':3: Unknown language'),
    (
      '.tsv',
      'id\tlanguage\ttext\tsamples\n1\teng\tone\t1.5\n',
      ':2: samples must be a whole number',
    ),
    ('.jsonl', '{"id": 1, "language": "eng", "text"\n', ':1: is not JSON'),
    ('.jsonl', '{"id": 1, "language": "eng"}\n[1]', ':2: is not a JSON object'),
    ('.jsonl', '{"id": 1.5, "language": "eng"}', ':1: id must be a string'),
    ('.jsonl', '{"language": "eng"}', ':1: has no id'),
    ('.tsv', '\n', 'the manifest is empty'),
    ('.csv', 'id,language,text\n', 'a manifest ends in .jsonl or .tsv'),
    (
      '.tsv',
      b'id\tlanguage\ttext\n1\teng\t\xff\n',
      "cannot be read .*'utf-8' codec",
    ),
  ],
)
@pytest.mark.parametrize('on_bad_input', ['error', 'skip'])
def test_a_manifest_that_cannot_be_parsed_names_the_line(
  tmp_path, suffix, content, message, on_bad_input
):
  path = tmp_path / f'mine{suffix}'
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  with pytest.raises(InputError, match=f'mine{suffix}:? ?{message}'):
    _open(str(path), on_bad_input=on_bad_input)


def test_missing_manifests_and_unknown_corpora_are_named(tmp_path):
  with pytest.raises(InputError, match=r'--corpus_source='):
    _open('')
  with pytest.raises(InputError, match=r'none\.tsv: cannot be read'):
    _open(str(tmp_path / 'none.tsv'))
  with pytest.raises(InputError, match=r"Unknown corpus 'fleur'.*fleurs"):
    data.open_corpus('fleur', CorpusOptions())


def test_the_column_samples_spares_the_look_but_not_the_check(folder):
  header = (*HEADER, 'samples')
  path = _tsv(
    folder,
    [
      ('1', 'eng', 'one', 'e1a.wav', '', '', '1600'),
      ('2', 'eng', 'two', 'e2.wav', '', '', '1599'),
      ('3', 'eng', 'three', 'none.wav', '', '', '1600'),
    ],
    header,
  )
  corpus = _open(path, on_bad_input='skip')
  right, wrong = corpus.examples('eng', 'speech')
  assert len(corpus.waveform(right)) == 1600
  assert wrong.samples == 1599
  with pytest.raises(InputError, match=r'e2\.wav: has 1600 samples.* 1599'):
    corpus.waveform(wrong)
  assert [d.id for d in corpus.dropped] == ['3']


def test_two_thousand_rows_are_listed_within_two_seconds(tmp_path):
  wave = np.zeros(16_000, 'float32')
  soundfile.write(tmp_path / '0.ogg', wave, 16_000, subtype='OPUS')
  encoded = (tmp_path / '0.ogg').read_bytes()
  rows = []
  for index in range(2000):
    (tmp_path / f'{index}.ogg').write_bytes(encoded)
    rows.append((str(index), 'eng', f'text {index}', f'{index}.ogg', '', ''))
  path = _tsv(tmp_path, rows)
  start = time.process_time()
  corpus = _open(path)
  assert len(corpus.examples('eng', 'text')) == 2000
  assert len(corpus.examples('eng', 'speech')) == 2000
  assert time.process_time() - start < 2


def test_the_bundled_corpus_is_parallel_and_says_it_is_synthetic():
  corpus = data.open_corpus('bundled', CorpusOptions(recordings='all'))
  assert (corpus.name, corpus.synthetic) == ('bundled', True)
  assert 'espeak-ng' in corpus.note
  assert len(corpus.languages) >= 8
  for language in corpus.languages:
    ids = [example.id for example in corpus.examples(language, 'text')]
    assert len(ids) >= 120
    spoken = corpus.examples(language, 'speech')
    assert sorted(e.id for e in spoken) == sorted(2 * ids)
    assert len({e.speaker for e in spoken}) == 2
    corpus.waveform(spoken[0])
  assert not corpus.dropped
  with pytest.raises(InputError, match='takes no --corpus_source'):
    manifest.open_bundled(CorpusOptions(source='mine.tsv'))
