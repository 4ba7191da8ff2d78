"""Which layers of two sides are compared."""

from jaxrep.jobs import batch


def test_cells_by_hand():
  eng, fra, said = ('eng', 'text'), ('fra', 'text'), ('eng', 'speech')
  counterparts = {'s1': 't1', 's2': 't1'}

  def taps(pair, layers):
    both = tuple(
      ['t1', 't2'] if kind == 'text' else ['s1', 's2'] for _, kind in pair
    )
    cells = batch.cells_of(pair, both, counterparts, layers)
    return [(cell.a.tap, cell.b.tap, cell.matching) for cell in cells]

  assert taps((eng, eng), 'all') == [
    *(('t1', 't1', True), ('t1', 't2', False), ('t2', 't2', True))
  ]
  assert taps((eng, fra), 'all') == [
    *(('t1', 't1', True), ('t1', 't2', False)),
    *(('t2', 't1', False), ('t2', 't2', True)),
  ]
  assert taps((eng, said), 'all') == [
    *(('t1', 's1', True), ('t1', 's2', True)),
    *(('t2', 's1', False), ('t2', 's2', False)),
  ]
  assert taps((eng, said), 'matching') == [
    *(('t1', 's1', True), ('t1', 's2', True))
  ]
  assert taps((eng, eng), 'matching') == [
    *(('t1', 't1', True), ('t2', 't2', True))
  ]


def test_between_languages_figures_need_each_layer_with_itself():
  counterparts = {'s1': 't1', 's2': 't1'}

  def cells(a, b):
    taps = tuple(
      ['t1', 't2'] if kind == 'text' else ['s1', 's2'] for _, kind in (a, b)
    )
    found = batch.cells_of((a, b), taps, counterparts, 'within')
    return {(cell.a.tap, cell.b.tap) for cell in found}

  eng, fra, said = ('eng', 'text'), ('fra', 'text'), ('eng', 'speech')
  assert cells(eng, said) == {
    (t, s) for t in ('t1', 't2') for s in ('s1', 's2')
  }
  assert cells(eng, eng) == {('t1', 't1'), ('t1', 't2'), ('t2', 't2')}
  assert cells(eng, fra) == {('t1', 't1'), ('t2', 't2')}
  assert cells(fra, said) == {('t1', 's1'), ('t1', 's2')}


def test_cells_of_encoders_of_different_depth():
  """The one of a language may have layers that another's lacks."""
  eng, fra, text = ('eng', 'speech'), ('fra', 'speech'), ('eng', 'text')
  counterparts = {'s1': 't1', 's2': 't2'}

  def taps(pair, sides, layers):
    cells = batch.cells_of(pair, sides, counterparts, layers)
    return [(cell.a.tap, cell.b.tap, cell.matching) for cell in cells]

  deep, flat = ['s1', 's2'], ['s1']
  assert taps((eng, fra), (deep, flat), 'matching') == [('s1', 's1', True)]
  assert taps((eng, fra), (deep, flat), 'all') == [
    *(('s1', 's1', True), ('s2', 's1', False))
  ]
  assert taps((text, fra), (['t1', 't2'], flat), 'matching') == [
    ('t1', 's1', True)
  ]
