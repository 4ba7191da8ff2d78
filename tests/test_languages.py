import collections
import dataclasses
import pathlib

import pytest

from jaxrep import languages, models
from jaxrep.languages import LANGUAGES, PAPER30
from jaxrep.types import InputError


def _count(field):
  return collections.Counter(
    getattr(language, field) for language in LANGUAGES.values()
  )


def test_the_table_covers_what_the_models_state():
  assert len(LANGUAGES) == 102
  speech = [one for one in LANGUAGES.values() if one.seamless_speech]
  text = [one for one in LANGUAGES.values() if one.seamless_text]
  assert (len(speech), len(text)) == (96, 90)
  tiers = {'T1': 36, 'T2': 54, 'T3': 6, 'T4': 6}
  assert _count('seamless_tier') == tiers
  assert _count('nllb_level') == {'high': 50, 'low': 52}


def test_sonar_has_57_speech_encoders():
  """One is English, 20 are under MIT, 36 are not for commercial use."""
  sonar = [one for one in LANGUAGES.values() if one.sonar_speech]
  assert len(sonar) == len({one.sonar_file for one in sonar}) == 57
  assert _count('sonar_licence') == {'MIT': 20, 'NC': 36, 'unlisted': 1, '': 45}
  for one in LANGUAGES.values():
    version = {'MIT': 'v3ap.', 'NC': 'v5ap.', 'unlisted': ''}
    code = one.sonar_speech
    if not code:
      assert (one.sonar_file, one.sonar_pooler) == ('', 0)
      continue
    assert one.sonar_file == f'spenc.{version[one.sonar_licence]}{code}.pt'
    assert one.sonar_pooler == (3 if one.iso == 'eng' else 6)
  assert not LANGUAGES['swe'].sonar_speech


def test_codes_of_nllb_beyond_the_table():
  assert languages.nllb('cmn') == 'zho_Hans'
  assert languages.nllb('ace_Latn') == languages.canonical('ace_Latn')
  assert languages.nllb('bak') == 'bak_Cyrl'
  assert languages.nllb('ace') == ''  # written in two scripts
  assert languages.nllb('xxa') == ''
  assert {one.nllb for one in LANGUAGES.values()} <= set(languages.NLLB_CODES)
  with pytest.raises(InputError, match='xyz_Latn'):
    languages.canonical('xyz_Latn')


@pytest.mark.parametrize(
  ('code', 'large', 'medium'),
  [
    ('eus', 'eus', 'eus'),
    ('eus_Latn', 'eus', 'eus'),
    ('zho_Hant', 'cmn_Hant', 'cmn_Hant'),
    ('sat', 'sat', 'sat'),
    ('sin', '', 'sin'),
    ('sin_Sinh', '', 'sin'),
    ('ace', '', ''),  # written in two scripts
    ('ace_Latn', '', ''),
    ('tok', '', ''),
  ],
)
def test_what_seamless_reads_beyond_the_table(code, large, medium):
  code = languages.canonical(code)
  for model, text in (('v2-large', large), ('v1-medium', medium)):
    row = models.row_of(f'seamless-m4t-{model}')
    assert models.language_code(row, 'text', code) == text
    assert models.language_code(row, 'speech', code) == ''


def test_the_table_sums_to_the_size_of_fleurs():
  for split, recordings in (('train', 271798), ('dev', 34452), ('test', 77810)):
    assert sum(getattr(o, split) for o in LANGUAGES.values()) == recordings
  # 102 figures rounded to 0.01, and their sum as published, to 0.1.
  assert sum(o.gib for o in LANGUAGES.values()) == pytest.approx(
    231.4, abs=102 * 0.005 + 0.05
  )


def test_which_languages_seamless_lacks():
  by_tier = collections.defaultdict(set)
  for language in LANGUAGES.values():
    by_tier[language.seamless_tier].add(language.iso)
  assert by_tier['T3'] == {'ast', 'kam', 'kea', 'ltz', 'oci', 'xho'}
  assert by_tier['T4'] == {'hau', 'lin', 'mri', 'nso', 'umb', 'wol'}
  for language in LANGUAGES.values():
    assert bool(language.seamless_speech) == (language.seamless_tier != 'T4')
    assert bool(language.seamless_text) == (
      language.seamless_tier in ('T1', 'T2')
    )


def test_codes_mean_one_language():
  for code, expected in {
    'eng': 'eng',
    'en_us': 'eng',
    'eng_Latn': 'eng',
    'cmn': 'cmn',
    'zho_Hans': 'cmn',
    'zho_Hant': 'yue',
    'yue_hant_hk': 'yue',
    'zlm': 'zsm',
    'ms_my': 'zsm',
  }.items():
    assert languages.find(code).iso == expected, code
  owners = collections.defaultdict(set)
  for language in LANGUAGES.values():
    for code in filter(None, language.codes):
      owners[code].add(language.iso)
      assert languages.find(code) is language
  assert all(len(isos) == 1 for isos in owners.values())
  malay, cantonese = LANGUAGES['zsm'], LANGUAGES['yue']
  assert (malay.seamless_speech, malay.seamless_text) == ('zlm', 'zsm')
  assert (cantonese.seamless_text, cantonese.nllb) == ('yue', 'zho_Hant')


def test_a_language_is_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    LANGUAGES['eng'].iso = 'enm'


@pytest.mark.parametrize(
  ('code', 'hint'),
  [
    ('en', 'eng '),
    ('zho', 'zho_Hans (Mandarin Chinese)'),
    ('en_uk', 'en_us (English)'),
    ('eng_latn', 'eng_Latn (English)'),
    ('German', 'deu (German)'),
  ],
)
def test_an_unknown_code_names_the_nearest(code, hint):
  with pytest.raises(InputError) as error:
    languages.find(code)
  assert repr(code) in str(error.value)
  assert f'Did you mean {hint}' in str(error.value)


@pytest.mark.parametrize('code', ['', 'q!'])
def test_a_code_near_to_nothing_gets_no_hint(code):
  with pytest.raises(InputError) as error:
    languages.find(code)
  assert 'Did you mean' not in str(error.value)


def test_canonical_passes_iso_codes_outside_the_table():
  assert languages.canonical('tok') == 'tok'
  assert languages.canonical('sw_ke') == 'swh'
  # FLEURS alone calls the text of its Cantonese so.
  assert languages.canonical('zho_Hant') == 'zho_Hant'
  assert languages.canonical('yue_Hant') == 'yue'
  assert languages.nllb('zho_Hant') == 'zho_Hant'
  for code in ('Tok', 'to', 'tok_Latn'):
    with pytest.raises(InputError, match='Unknown language'):
      languages.canonical(code)


def test_select_expands_presets_and_merges_repeats():
  assert [one.iso for one in languages.select('swh, en_us,eng,fra')] == [
    'swh',
    'eng',
    'fra',
  ]
  assert languages.select('all') == tuple(LANGUAGES.values())
  chosen = [one.iso for one in languages.select('isl,paper30,eng')]
  assert chosen == ['isl', *PAPER30]
  assert languages.select_codes('paper30,tok') == (*PAPER30, 'tok')
  with pytest.raises(InputError, match='tok'):
    languages.select('eng,tok')
  with pytest.raises(InputError, match='names no language'):
    languages.select(' , ')


def test_paper30_is_as_it_is_described():
  chosen = languages.select('paper30')
  assert len(chosen) == 30
  assert {o.seamless_tier for o in chosen} == {'T1', 'T2'}
  assert not {'ibo', 'xho'} & {o.iso for o in chosen}
  assert len({o.script for o in chosen}) == 18
  families = {o.family for o in chosen}
  assert len(families) == 13
  assert {'Uralic', 'Turkic', 'Austronesian', 'Atlantic-Congo'} <= families
  lacking = {o.iso for o in chosen if not o.sonar_speech}
  assert lacking == {'amh', 'khm', 'kat', 'hye', 'sna'}
  classes = languages.resource_classes()
  first = collections.Counter(classes[iso] for iso in PAPER30[:24])
  assert first == {'high': 14, 'medium': 2, 'low': 8}
  assert {classes[iso] for iso in PAPER30[24:]} == {'medium'}


def test_the_proxy_of_resource_class():
  classes = languages.resource_classes()
  assert collections.Counter(classes.values()) == {
    'high': 33,
    'medium': 20,
    'low': 49,
  }
  # NLLB high and T1; high and T2; low and T1; high and T3; low and T2.
  assert [classes[iso] for iso in ('eng', 'ell', 'tel', 'xho', 'tam')] == [
    'high',
    'medium',
    'medium',
    'medium',
    'low',
  ]


def test_a_resource_table_of_hours_or_classes(tmp_path):
  table = tmp_path / 'hours.tsv'
  table.write_text(
    '\ufeff# our counts\n\nen_us\t4066\nfra\t1000\nhin\t999.9\nswh\t100\n'
    'amh\t99\ntok\tmedium\r\n',
    encoding='utf-8',
  )
  assert languages.resource_classes(str(table)) == {
    'eng': 'high',
    'fra': 'high',
    'hin': 'medium',
    'swh': 'medium',
    'amh': 'low',
    'tok': 'medium',
  }


def test_hours_are_those_that_a_table_gives(tmp_path):
  table = tmp_path / 'hours.tsv'
  table.write_text('eng\t2000\nswh\tlow\nhin\t12.5\nfra\t0\n')
  assert languages.resource_hours(str(table)) == {'eng': 2000.0, 'hin': 12.5}
  assert languages.resource_hours('') == {}


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('fra 12', 'expected language<TAB>hours'),
    ('fra\t12\t13', 'expected language<TAB>hours'),
    ('fra\tmany', "'many' is neither hours nor"),
    ('fra\t-3', "'-3' is neither hours nor"),
    ('fra\tnan', "'nan' is neither hours nor"),
    ('fr\t12', "Unknown language 'fr'"),
    ('eng_Latn\t12', 'eng is there already'),
  ],
)
def test_a_bad_line_of_a_resource_table_is_named(tmp_path, line, message):
  table = tmp_path / 'hours.tsv'
  table.write_text(f'# hours\neng\t5\n{line}\n')
  with pytest.raises(InputError) as error:
    languages.resource_classes(str(table))
  assert f'{table}, line 3: ' in str(error.value)
  assert message in str(error.value)


def test_a_missing_resource_table_is_named(tmp_path):
  with pytest.raises(InputError, match=r'--resource_table=.*none\.tsv cannot'):
    languages.resource_classes(str(tmp_path / 'none.tsv'))


@pytest.mark.parametrize('preset', ['paper30', 'all'])
def test_preset_flagfiles_name_known_presets(preset):
  presets = pathlib.Path(languages.__file__).parent / 'jobs' / 'presets'
  lines = (presets / f'{preset}.flags').read_text('utf-8').splitlines()
  assert f'--languages={preset}' in lines
  assert all(line.startswith(('#', '--')) for line in lines)
