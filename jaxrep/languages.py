"""The 102 languages of FLEURS, and what each model calls them.

`languages.tsv` holds one language a line; its header names the fields of
`Language`. `nllb_codes.txt` holds the 202 languages and scripts that NLLB-200
and SONAR read as text, in the order of their tokens.
"""

import dataclasses
import difflib
import itertools
import pathlib
import re
from typing import Literal, get_args

from jaxrep.types import InputError

ResourceClass = Literal['high', 'medium', 'low']
RESOURCE_CLASSES = get_args(ResourceClass)
HIGH_HOURS = 1000
MEDIUM_HOURS = 100


@dataclasses.dataclass(frozen=True)
class Language:
  """One language of FLEURS; an empty code means that a model lacks it.

  `iso` is the ISO 639-3 code of what is spoken, `nllb` that of what is written
  (also SONAR's text code), `region` one of the seven groups of FLEURS: WE and
  EE (Western and Eastern Europe), CMN (Central Asia, Middle East and North
  Africa), SSA (sub-Saharan Africa), SA and SEA (South and South-East Asia),
  CJK. `nllb_level` is NLLB's 'high' or 'low'. `seamless_tier` says what
  SeamlessM4T v2 does with it: T1 speech output too, T2 speech and text in, T3
  speech in only, T4 nothing. Of the SONAR speech encoder `sonar_licence` is
  MIT, NC (non-commercial) or unlisted, `sonar_file` the released file and
  `sonar_pooler` the number of layers of its pooler. SONAR lists a Swedish
  encoder but publishes no model card for it, so the table has none. `train`,
  `dev` and `test` count the recordings in FLEURS, `gib` is the size of their
  archives in GiB.
  """

  iso: str
  name: str
  fleurs: str
  nllb: str
  script: str
  family: str
  subgroup: str
  region: str
  nllb_level: str
  seamless_speech: str
  seamless_text: str
  seamless_tier: str
  sonar_speech: str
  sonar_licence: str
  sonar_file: str
  sonar_pooler: int
  train: int
  dev: int
  test: int
  gib: float

  @property
  def codes(self) -> tuple[str, ...]:
    """Every code of any model or corpus that means this language."""
    return (
      *(self.iso, self.fleurs, self.nllb),
      *(self.seamless_speech, self.seamless_text, self.sonar_speech),
    )

  @property
  def seamless_medium_text(self) -> str:
    """SeamlessM4T medium reads NLLB-200's languages as text, all of these."""
    return self.seamless_text or self.iso


def _load() -> dict[str, Language]:
  table = pathlib.Path(__file__).with_name('languages.tsv')
  names, *rows = (
    line.split('\t') for line in table.read_text('utf-8').splitlines()
  )
  types = {field.name: field.type for field in dataclasses.fields(Language)}
  return {
    language.iso: language
    for row in rows
    for language in [
      Language(**{n: types[n](v) for n, v in zip(names, row, strict=True)})
    ]
  }


LANGUAGES = _load()
NLLB_CODES = tuple(
  pathlib.Path(__file__).with_name('nllb_codes.txt').read_text().split()
)
# What SeamlessM4T reads as text beyond the table: each version these, and
# medium all of NLLB-200's that have one script.
_SEAMLESS_TEXT = {
  **{code: code[:3] for code in ('ary_Arab', 'arz_Arab', 'eus_Latn')},
  **{code: code[:3] for code in ('mai_Deva', 'mni_Beng', 'nno_Latn')},
  **{'sat_Beng': 'sat', 'zho_Hant': 'cmn_Hant'},
}
_BY_CODE = {
  code: language
  for language in LANGUAGES.values()
  for code in language.codes
  if code
}

# The published study names few of its 30 languages, so this is our choice.
# Lines 1 and 2 are reported by, or in a public replication of, the study; line
# 3 completes the scripts reported for it (18) and line 4 its families (13).
# All of these but the five that SONAR is reported to lack (amh khm kat hye
# sna; Lao is reported so too, yet its encoder exists) have a SONAR speech
# encoder, so the last line keeps to languages that have one. It holds medium
# resource languages only (`resource_classes`), since the first four lines
# hold 14 high, 2 medium and 8 low ones; within them it adds branches and a
# second language for the Arabic and Cyrillic scripts. Every one is text and
# speech input of SeamlessM4T v2. Cantonese is left out because its FLEURS text
# is standard written Chinese, Icelandic for its 46 recordings; Igbo and Xhosa
# are known not to be in the study.
PAPER30 = (
  *('eng', 'fra', 'hin', 'ind', 'swh', 'amh'),
  *('khm', 'lao', 'kat', 'hye', 'sna'),
  *('cmn', 'jpn', 'kor', 'heb', 'tha', 'ben', 'tam', 'tel', 'mal'),
  *('arb', 'rus', 'fin', 'tur'),
  *('bul', 'cym', 'hrv', 'lit', 'lvs', 'urd'),
)
PRESETS = {'paper30': PAPER30, 'all': tuple(LANGUAGES)}


def find(code: str) -> Language:
  """The language that an ISO 639-3, FLEURS, NLLB, Seamless or SONAR code means.

  No code means two languages of the table. Two are worth knowing: `zho_Hant`
  is Cantonese, whose text in FLEURS is traditional Chinese (Mandarin is
  `zho_Hans`), and `zlm`, Seamless's Malay speech, is the table's `zsm`.
  Two-letter codes and macrolanguages (`en`, `zho`) are refused rather than
  guessed.

  Raises:
    InputError: no language has this code; names the nearest.
  """
  if code in _BY_CODE:
    return _BY_CODE[code]
  spellings = {known.lower(): known for known in _BY_CODE}
  spellings |= {one.name.lower(): one.iso for one in LANGUAGES.values()}
  longer = [known for known in spellings if known.startswith(code.lower())]
  near = longer or difflib.get_close_matches(code.lower(), spellings, n=1)
  hint = ''
  if code and near:
    known = spellings[near[0]]
    hint = f' Did you mean {known} ({_BY_CODE[known].name})?'
  raise InputError(
    f'Unknown language {code!r}.{hint} Give an ISO 639-3 code (eng), a FLEURS '
    'name (en_us) or an NLLB code (eng_Latn); `run.py list languages` shows '
    'them.'
  )


def canonical(code: str) -> str:
  """The ISO 639-3 code that `code` means.

  Three lower-case letters and NLLB codes outside the table pass as they are:
  people's own corpora may hold languages that FLEURS does not. In these
  `zho_Hant` is Mandarin, and passes too; Cantonese is `yue_Hant`.
  """
  if code == 'zho_Hant':
    return code
  if code == 'yue_Hant':
    return 'yue'
  spelt = code in NLLB_CODES or re.fullmatch('[a-z]{3}', code)
  return code if spelt and code not in _BY_CODE else find(code).iso


def nllb(code: str) -> str:
  """The NLLB code of a `canonical` one; empty where there is none, or two."""
  if code in LANGUAGES:
    return LANGUAGES[code].nllb
  written = [one for one in NLLB_CODES if code in (one, one.split('_')[0])]
  return written[0] if len(written) == 1 else ''


def beyond(code: str, field: str) -> str:
  """As that field of `Language`, of a `canonical` code outside the table."""
  written = nllb(code)
  if not field.endswith('_text') or not written:
    return ''
  iso = written.partition('_')[0]
  if field == 'seamless_medium_text' and nllb(iso) == written:
    return iso
  return _SEAMLESS_TEXT.get(written, '')


def select(spec: str) -> tuple[Language, ...]:
  """The languages of a comma list of codes and presets.

  Order is kept; a language that is named twice, by whatever codes, comes once.

  Raises:
    InputError: a code is unknown, or the list is empty.
  """
  return tuple(dict.fromkeys(find(code) for code in _expand(spec)))


def select_codes(spec: str) -> tuple[str, ...]:
  """As `select`, for corpora that may hold languages outside the table."""
  return tuple(dict.fromkeys(canonical(code) for code in _expand(spec)))


def _expand(spec: str) -> list[str]:
  items = [item.strip() for item in spec.split(',') if item.strip()]
  if not items:
    raise InputError(
      '--languages names no language; give codes (eng,fra) or a preset '
      f'({", ".join(PRESETS)}).'
    )
  return list(
    itertools.chain.from_iterable(PRESETS.get(item, (item,)) for item in items)
  )


def resource_classes(table_path: str | None = None) -> dict[str, ResourceClass]:
  """ISO 639-3 code → resource class.

  Without a table this is our proxy, because hours of training speech per
  language are not published: high = NLLB level high and Seamless tier T1, low
  = NLLB level low and tier not T1, medium = the rest.

  A table has one language a line, `language<TAB>hours` or, for classes of
  one's own, `language<TAB>high|medium|low`. Hours of at least 1000 are high, of
  at least 100 medium, below that low. Empty lines and lines that begin with #
  are passed over. Languages that it leaves out have no class.

  Raises:
    InputError: the table cannot be read; names the line.
  """
  if not table_path:
    return {iso: _proxy(language) for iso, language in LANGUAGES.items()}
  table = _resource_table(table_path)
  return {
    iso: value if isinstance(value, str) else _class_of(value)
    for iso, value in table.items()
  }


def resource_hours(table_path: str) -> dict[str, float]:
  """ISO 639-3 code → hours above 0, of a table as of `resource_classes`."""
  if not table_path:
    return {}
  table = _resource_table(table_path)
  return {
    iso: value
    for iso, value in table.items()
    if not isinstance(value, str) and value > 0
  }


def _resource_table(path: str) -> dict[str, ResourceClass | float]:
  try:
    lines = pathlib.Path(path).read_text('utf-8-sig').split('\n')
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(
      f'--resource_table={path} cannot be read: {error}.'
    ) from error
  found: dict[str, ResourceClass | float] = {}
  for number, line in enumerate(lines, 1):
    if not line.strip() or line.startswith('#'):
      continue
    try:
      iso, resource = _resource_line(line)
      if iso in found:
        raise InputError(f'{iso} is there already.')
    except InputError as error:
      raise InputError(
        f'--resource_table={path}, line {number}: {error}'
      ) from error
    found[iso] = resource
  return found


def resource_source(table_path: str = '') -> str:
  """One sentence for the report: where the classes come from."""
  if table_path:
    return f'Resource classes from {pathlib.Path(table_path).name}.'
  return (
    "Resource classes are this tool's proxy from NLLB's level and "
    "SeamlessM4T's tier, since hours of training per language are not "
    'published.'
  )


def _proxy(language: Language) -> ResourceClass:
  high, spoken = language.nllb_level == 'high', language.seamless_tier == 'T1'
  if high and spoken:
    return 'high'
  return 'medium' if high or spoken else 'low'


def _resource_line(line: str) -> tuple[str, ResourceClass | float]:
  cells = [cell.strip() for cell in line.split('\t')]
  if len(cells) != 2:
    raise InputError('expected language<TAB>hours.')
  code, value = cells
  iso = canonical(code)
  if value in RESOURCE_CLASSES:
    return iso, value
  if not re.fullmatch(r'\d+(\.\d+)?', value):
    raise InputError(
      f'{value!r} is neither hours nor one of {", ".join(RESOURCE_CLASSES)}.'
    )
  return iso, float(value)


def _class_of(hours: float) -> ResourceClass:
  if hours >= HIGH_HOURS:
    return 'high'
  return 'medium' if hours >= MEDIUM_HOURS else 'low'
