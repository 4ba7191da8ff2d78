"""Composes parallel sentences from the bundled lexicon and patterns.

A sentence is, in no language, a pattern and a concept for each of its slots.
`bundled/patterns/*.toml` renders a pattern in every language; in a template

  {who}          is the first form of the concept in slot `who`,
  {who.gen}      its form `gen`,
  {is@who}       the word `is`, agreeing with the class of slot `who`,
  {how.acc@who}  the form `acc_<class>` of `how`, agreeing with `who`.

`bundled/lexicon/<language>.toml` lists all forms by concept and, under
`words`, the agreeing words of the templates. Nothing is inflected by code.
"""

import dataclasses
import itertools
import pathlib
import random
import re
import tomllib
import unicodedata
from collections.abc import Collection, Iterator

BUNDLED = pathlib.Path(__file__).parent / 'bundled'
LANGUAGES = ('eng', 'rus', 'hin', 'arb', 'cmn', 'swh', 'ind', 'tur')

_FIELD = re.compile(r'\{(\w+)(?:\.(\w+))?(?:@(\w+))?\}')
_ARABIC_VOWELS = re.compile('[\u064b-\u0652\u0670]')

Forms = dict[str, str]


@dataclasses.dataclass(frozen=True, order=True)
class Combination:
  """One sentence in no language: a pattern and a concept for each slot."""

  pattern: str
  concepts: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Slot:
  """The concepts of `type` that may stand in one place of a pattern."""

  type: str
  concepts: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Pattern:
  """Slots by name, in order, and a template by language."""

  slots: dict[str, Slot]
  templates: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Grammar:
  """Patterns by name; forms by language, type and concept.

  The type `words` holds the words that belong to no slot.
  """

  patterns: dict[str, Pattern]
  lexicon: dict[str, dict[str, dict[str, Forms]]]


def load_grammar(folder: pathlib.Path = BUNDLED) -> Grammar:
  """Reads `patterns/*.toml` and `lexicon/*.toml`."""
  lexicon = {
    language: _lexicon(folder / 'lexicon' / f'{language}.toml')
    for language in LANGUAGES
  }
  patterns = {}
  for path in sorted((folder / 'patterns').glob('*.toml')):
    for name, row in _read(path).items():
      slots = {
        slot: _slot(spec, lexicon[LANGUAGES[0]])
        for slot, spec in row.pop('slots').items()
      }
      patterns[name] = Pattern(slots, row)
  return Grammar(patterns, lexicon)


def render(grammar: Grammar, combination: Combination, language: str) -> str:
  """The sentence as it is written in `language`."""
  return _ARABIC_VOWELS.sub('', vocalised(grammar, combination, language))


def vocalised(grammar: Grammar, combination: Combination, language: str) -> str:
  """The sentence as it is read aloud: Arabic keeps its vowel signs."""
  pattern = grammar.patterns[combination.pattern]
  lexicon = grammar.lexicon[language]
  filled = {
    name: lexicon[slot.type][concept]
    for (name, slot), concept in zip(
      pattern.slots.items(), combination.concepts, strict=True
    )
  }

  text = _FIELD.sub(
    lambda field: _form(*field.groups(), filled, lexicon['words']),
    pattern.templates[language],
  )
  return _capitalised(text, language)


def pattern_combinations(grammar: Grammar, name: str) -> list[Combination]:
  """All sentences of one pattern, in a fixed order.

  Two slots of one type never hold the same concept.
  """
  slots = grammar.patterns[name].slots.values()
  found = []
  for concepts in itertools.product(*(slot.concepts for slot in slots)):
    typed = [(slot.type, c) for slot, c in zip(slots, concepts, strict=True)]
    if len(set(typed)) == len(typed):
      found.append(Combination(name, concepts))
  return found


def combinations(
  grammar: Grammar, seed: int, exclude: Collection[Combination] = ()
) -> Iterator[Combination]:
  """Every sentence once, in an order that depends on `seed` alone.

  Each pattern is equally likely until its sentences are used up. `exclude`
  is left out: give `test_combinations(grammar).values()` for training text.
  """
  generator = random.Random(seed)
  excluded = set(exclude)
  decks = []
  for name in grammar.patterns:
    deck = pattern_combinations(grammar, name)
    generator.shuffle(deck)
    decks.append([item for item in deck if item not in excluded])
  while decks := [deck for deck in decks if deck]:
    yield generator.choice(decks).pop()


def test_combinations(
  grammar: Grammar, folder: pathlib.Path = BUNDLED
) -> dict[str, Combination]:
  """The sentences of the bundled corpus by id (`test.tsv`)."""
  found = {}
  _, *rows = (folder / 'test.tsv').read_text('utf-8').splitlines()
  for row in rows:
    sentence, pattern, fillers = row.split('\t')
    concepts = dict(filler.split('=') for filler in fillers.split())
    slots = grammar.patterns[pattern].slots
    found[sentence] = Combination(pattern, tuple(concepts[s] for s in slots))
  return found


def _read(path: pathlib.Path) -> dict:
  # One normal form for text typed in several: letters with nukta, with accents.
  return tomllib.loads(unicodedata.normalize('NFC', path.read_text('utf-8')))


def _lexicon(path: pathlib.Path) -> dict[str, dict[str, Forms]]:
  lexicon = _read(path)
  for section, rows in lexicon.items():
    if section != 'words':
      names = rows.pop('forms').split(' | ')
      for concept, row in rows.items():
        rows[concept] = dict(zip(names, row.split(' | '), strict=True))
  return lexicon


def _slot(spec: str, lexicon: dict[str, dict[str, Forms]]) -> Slot:
  """'place' or 'place: market bank' → the type, and all or the named ones."""
  kind, _, named = spec.partition(': ')
  return Slot(kind, tuple(named.split() or lexicon[kind]))


def _form(
  name: str,
  form: str | None,
  agrees_with: str | None,
  filled: dict[str, Forms],
  words: dict[str, Forms],
) -> str:
  forms = filled[name] if name in filled else words[name]
  if agrees_with:
    form = '_'.join(filter(None, (form, filled[agrees_with]['class'])))
  return forms[form or next(key for key in forms if key != 'class')]


def _capitalised(text: str, language: str) -> str:
  first = 'İ' if language == 'tur' and text[0] == 'i' else text[0].upper()
  return first + text[1:]
