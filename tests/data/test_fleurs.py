"""Which examples FLEURS lists, from raw trees with every fault known of it."""

import numpy as np
import pytest

from jaxrep.data import fleurs
from jaxrep.types import CorpusOptions, InputError
from tests.data import fleurs_tree
from tests.data.fleurs_tree import recording, row, tone, wav

ARCHIVE = 'data/en_us/audio/test.tar.gz'


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
  """Where prepared records go."""
  monkeypatch.setenv('JAXREP_DATA', str(tmp_path / 'place'))
  return tmp_path / 'place'


@pytest.fixture
def tree(tmp_path):
  return tmp_path / 'tree'


def corpus(tree, **options):
  options = {'languages': ('eng',), **options}
  return fleurs.open_corpus(CorpusOptions(source=str(tree), **options))


def files(examples):
  return [example.audio for example in examples]


# The recordings.


@pytest.mark.parametrize('subtype', ['FLOAT', 'PCM_16'])
def test_float_and_16_bit_recordings_are_exact(tree, subtype):
  audio = recording('a', subtype=subtype)
  fleurs_tree.write_split(tree, 'en_us', 'test', [row('1', audio=audio)])
  opened = corpus(tree)
  (example,) = opened.examples('eng', 'speech')
  waveform = opened.waveform(example)
  assert waveform.dtype == np.float32
  np.testing.assert_array_equal(waveform, tone('a', 0.5))
  waveform *= 2  # it is the caller's own


def test_another_rate_becomes_16_khz(tree):
  time = np.arange(48_000) / 48_000
  audio = wav(np.sin(2 * np.pi * 440 * time).astype(np.float32), rate=48_000)
  fleurs_tree.write_split(tree, 'en_us', 'test', [row('1', audio=audio)])
  opened = corpus(tree)
  (example,) = opened.examples('eng', 'speech')
  waveform = opened.waveform(example)
  assert example.samples == len(waveform) == 16_000
  expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
  # Away from the ends, where a resampler has no neighbours.
  assert np.abs(waveform - expected)[400:-400].max() < 1e-3


def test_the_audio_is_trusted_over_the_table(tree):
  fleurs_tree.write_split(tree, 'en_us', 'test', [row('1', samples=123456)])
  (example,) = corpus(tree).examples('eng', 'speech')
  assert example.samples == 8000


def test_waveforms_belong_to_their_examples_whatever_the_archives_order(tree):
  fleurs_tree.write_tree(tree, ('en_us', 'sw_ke'), sentences=5)
  opened = corpus(tree, languages=('swh', 'eng'), recordings='all')
  assert opened.languages == ('swh', 'eng')
  for language, name in (('eng', 'en_us'), ('swh', 'sw_ke')):
    examples = opened.examples(language, 'speech')
    assert len(examples) == 9
    for example in examples:
      file = example.audio.rpartition('/')[2]
      expected = tone(f'{name} {file}', 0.5 * (1 + int(example.id) / 10))
      np.testing.assert_array_equal(opened.waveform(example), expected)
      assert example.samples == len(expected)


# Several recordings of a sentence.


def test_recordings_come_by_split_preference_then_table_order(tree):
  train = [row('2', 'c.wav'), row('1', 'b.wav'), row('2', 'd.wav')]
  test = [row('2', 'z.wav'), row('2', 'a.wav'), row('3', 'e.wav')]
  fleurs_tree.write_split(tree, 'en_us', 'train', train)
  fleurs_tree.write_split(tree, 'en_us', 'test', test)

  def listed(splits, recordings):
    examples = corpus(tree, splits=splits, recordings=recordings).examples(
      'eng', 'speech'
    )
    return [
      (x.id, x.recording, x.audio.removeprefix('en_us/')) for x in examples
    ]

  assert listed(('test', 'train'), 'all') == [
    ('2', 0, 'test/z.wav'),
    ('2', 1, 'test/a.wav'),
    ('3', 0, 'test/e.wav'),
    ('2', 2, 'train/c.wav'),
    ('1', 0, 'train/b.wav'),
    ('2', 3, 'train/d.wav'),
  ]
  assert listed(('train', 'test'), 'first') == [
    ('2', 0, 'train/c.wav'),
    ('1', 0, 'train/b.wav'),
    ('3', 0, 'test/e.wav'),
  ]
  texts = corpus(tree, splits=('train', 'test')).examples('eng', 'text')
  assert [(x.id, x.split) for x in texts] == [
    ('2', 'train'),
    ('1', 'train'),
    ('3', 'test'),
  ]


def test_a_row_with_another_text_is_left_out_and_counted(tree):
  test = [row('1', 'a.wav'), row('1', 'b.wav', text='Something else.')]
  train = [
    row('1', 'c.wav', text='Sentence  1. '),
    row('1', 'd.wav', text='No'),
  ]
  fleurs_tree.write_split(tree, 'en_us', 'test', test)
  fleurs_tree.write_split(tree, 'en_us', 'train', train)
  opened = corpus(tree, splits=('test', 'train'), recordings='all')
  spoken = opened.examples('eng', 'speech')
  assert files(spoken) == ['en_us/test/a.wav', 'en_us/train/c.wav']
  assert [(one.id, one.modality) for one in opened.dropped] == [
    ('1', 'speech')
  ] * 2
  assert files(opened.dropped) == ['en_us/test/b.wav', 'en_us/train/d.wav']
  assert len({one.reason for one in opened.dropped}) == 1
  (written,) = opened.examples('eng', 'text')
  assert written.text == 'Sentence 1.'
  opened.examples('eng', 'speech')
  assert len(opened.dropped) == 4  # listing again adds nothing


# Bad examples.

SILENCE = wav(np.full(8000, 1e-4, np.float32))
NOT_FINITE = wav(np.full(8000, np.nan, np.float32))
BAD = {
  'absent': (row('1'), 'not in test.tar.gz'),
  'silent': (row('1', audio=SILENCE), 'silent'),
  'not finite': (row('1', audio=NOT_FINITE), 'NaN'),
  'cut short': (row('1', audio=recording('1.wav')[:9000]), 'cut short'),
  'no wav': (row('1', audio=b'RIFF, or so it says'), 'audio'),
  'empty': (row('1', audio=wav(np.empty(0, np.float32))), 'no samples'),
  # Resampled, nothing is left of it.
  'one sample': (row('1', audio=wav(np.ones(1), rate=48_000)), 'silent'),
  'no text': (row('1', text=''), 'empty transcript'),
}


def write_bad(tree, kind):
  bad, _ = BAD[kind]
  rows = [row('0'), bad, row('2', audio=SILENCE), row('3')]
  fleurs_tree.write_table(tree, 'en_us', 'test', rows)
  audio = {one.file: one.audio for one in rows}
  if kind == 'absent':
    del audio['1.wav']
  fleurs_tree.write_archive(tree, 'en_us', 'test', audio)


@pytest.mark.parametrize('kind', BAD)
def test_a_bad_recording_is_an_error_that_names_it(tree, kind):
  write_bad(tree, kind)
  with pytest.raises(InputError, match='--on_bad_input=skip') as error:
    corpus(tree).examples('eng', 'speech')
  assert '2 of the eng speech examples' in str(error.value)
  assert 'en_us/test/1.wav' in str(error.value)
  assert BAD[kind][1] in str(error.value)


@pytest.mark.parametrize('kind', BAD)
def test_a_bad_recording_can_be_skipped(tree, kind):
  write_bad(tree, kind)
  opened = corpus(tree, on_bad_input='skip')
  assert [x.id for x in opened.examples('eng', 'speech')] == ['0', '3']
  assert [(x.language, x.modality, x.id) for x in opened.dropped] == [
    ('eng', 'speech', '1'),
    ('eng', 'speech', '2'),
  ]
  assert BAD[kind][1] in opened.dropped[0].reason
  assert files(opened.dropped) == ['en_us/test/1.wav', 'en_us/test/2.wav']
  assert not any('.wav' in one.reason for one in opened.dropped)
  text_ids = [x.id for x in opened.examples('eng', 'text')]
  assert text_ids == (['0', '2', '3'] if kind == 'no text' else list('0123'))


def test_the_first_usable_recording_is_taken(tree):
  rows = [row('1', 'a.wav', audio=SILENCE), row('1', 'b.wav')]
  fleurs_tree.write_split(tree, 'en_us', 'test', rows)
  with pytest.raises(InputError, match=r'a\.wav'):
    corpus(tree).examples('eng', 'speech')
  opened = corpus(tree, on_bad_input='skip')
  assert files(opened.examples('eng', 'speech')) == ['en_us/test/b.wav']
  assert opened.examples('eng', 'speech')[0].recording == 0


def test_a_bad_recording_behind_the_first_usable_one_is_not_looked_at(tree):
  rows = [row('1', 'a.wav'), row('1', 'b.wav', audio=SILENCE)]
  fleurs_tree.write_split(tree, 'en_us', 'test', rows)
  assert len(corpus(tree).examples('eng', 'speech')) == 1
  with pytest.raises(InputError, match=r'b\.wav'):
    corpus(tree, recordings='all').examples('eng', 'speech')


def test_a_split_without_one_usable_recording(tree):
  fleurs_tree.write_split(tree, 'en_us', 'test', [row('1', audio=SILENCE)])
  opened = corpus(tree, on_bad_input='skip')
  assert opened.examples('eng', 'speech') == []
  assert len(opened.dropped) == 1


# What is asked for.


def test_unknown_names_list_what_there_is(tree):
  fleurs_tree.write_tree(tree, ('en_us', 'sw_ke'))
  with pytest.raises(InputError, match=r"'validation'.*train, dev, test"):
    corpus(tree, splits=('validation',))
  with pytest.raises(InputError, match='Unknown language'):
    corpus(tree, languages=('qqq',))
  with pytest.raises(InputError, match=r'data/fr_fr.*eng, swh'):
    corpus(tree, languages=('eng', 'fra'))
  with pytest.raises(InputError, match=r'dev\.tsv is missing'):
    corpus(tree, splits=('dev',)).examples('eng', 'text')
  with pytest.raises(InputError, match=r'swh is not among .* eng'):
    corpus(tree).examples('swh', 'text')


def test_no_languages_means_all_that_are_there(tree, tmp_path):
  fleurs_tree.write_tree(tree, ('sw_ke', 'en_us'))
  assert corpus(tree, languages=()).languages == ('eng', 'swh')
  assert len(corpus(tmp_path / 'new', languages=()).languages) == 102


def test_records_may_be_kept_beside_anything(tree, place):
  """Only what is named is taken for a raw tree."""
  (place / 'data').mkdir(parents=True)
  options = CorpusOptions(languages=('eng',))
  assert fleurs.open_corpus(options).languages == ('eng',)


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    ('{tree}/data', "raw tree has them in its folder 'data'"),
    ('gs://bucket/fleurs', 'a folder of this machine'),
  ],
)
def test_what_is_no_raw_tree_is_not_filled(tree, source, message):
  fleurs_tree.write_tree(tree, ['en_us'])
  with pytest.raises(InputError, match=message):
    corpus(source.format(tree=tree))


def test_a_table_saved_by_another_program_is_read_as_it_was(tree):
  """With a mark in front, and a line end of old within a text."""
  fleurs_tree.write_tree(tree, ['en_us'])
  path = tree / 'data' / 'en_us' / 'test.tsv'
  before = corpus(tree).examples('eng', 'text')
  path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
  assert corpus(tree).examples('eng', 'text') == before
  cells = path.read_text('utf-8-sig').split('\t')
  cells[2] = 'one\rtwo'
  path.write_bytes('\t'.join(cells).encode())
  assert corpus(tree).examples('eng', 'text')[0].text == 'one\rtwo'


def test_text_alone_needs_no_archive(tree):
  fleurs_tree.write_tree(tree, ['en_us'])
  (tree / ARCHIVE).unlink()
  assert len(corpus(tree).examples('eng', 'text')) == 4


def test_a_table_that_is_not_utf_8_is_named(tree):
  path = fleurs_tree.write_table(tree, 'en_us', 'test', [row('1')])
  path.write_bytes(path.read_text().encode('utf-16'))
  with pytest.raises(InputError, match=r'test\.tsv is not UTF-8'):
    corpus(tree).examples('eng', 'text')


def test_splits_that_are_empty_are_refused(tree):
  with pytest.raises(InputError, match=r'--splits is empty.*train, dev, test'):
    corpus(tree, splits=())
