"""Pickles that would run code are refused, and those that are a trap end."""

import argparse
import enum
import functools
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import typing

import numpy as np
import pytest
import torch

from ports.checkpoints import CheckpointError, open_checkpoint
from ports.checkpoints.pickles import INERT
from ports.checkpoints.torchfile import open_torch
from tests.ports.checkpoints import saved


class Reduced:
  """Pickles as the call of a function."""

  def __init__(self, function, *arguments):
    self.function, self.arguments = function, arguments

  def __reduce__(self):
    return self.function, self.arguments

  def __call__(self):
    """A pickler wants what it writes as a function to be callable."""


class Options(argparse.Namespace):
  """A harmless class with a harmful heir."""

  def __setstate__(self, state):
    pathlib.Path(state['witness']).touch()


def through_subclasses(witness):
  """Finds its way from a literal to `os`, naming no more than `eval`."""
  return (
    '[c for c in ().__class__.__base__.__subclasses__()'
    " if c.__name__ == '_wrap_close'][0].__init__.__globals__"
    f"['system']('touch {witness}')"
  )


ATTACKS = {
  'system': lambda w: Reduced(os.system, f'touch {w}'),
  'eval': lambda w: Reduced(eval, f'open({w!r}, "w")'),
  'exec': lambda w: Reduced(exec, f'open({w!r}, "w")'),
  'subclasses': lambda w: Reduced(eval, through_subclasses(w)),
  'getattr': lambda w: Reduced(Reduced(getattr, pathlib.Path(w), 'touch')),
  'subprocess': lambda w: Reduced(subprocess.call, ['touch', w]),
  'heir': lambda w: Options(witness=w),
}
NAMES = {
  'system': r'\w+\.system',
  'subclasses': r'\w+\.eval',
  'subprocess': r'(subprocess|commands)\.call',
  'heir': r'tests\.ports\.checkpoints\.test_pickles\.Options',
}
PLACES = {
  'top': lambda model, evil: {'evil': evil, 'model': model},
  'optimizer': lambda model, evil: {
    'model': model,
    'last_optimizer_state': {'state': {0: {'exp_avg': [{'x': evil}]}}},
  },
}


@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('attack', ATTACKS)
def test_code_is_refused_and_not_run(tmp_path, attack, place, protocol):
  witness = tmp_path / 'witness'
  path = tmp_path / 'checkpoint.pt'
  evil = ATTACKS[attack](str(witness))
  tree = PLACES[place](saved.weights(), evil)
  torch.save(tree, path, pickle_protocol=protocol)
  name = NAMES.get(attack, rf'\w+\.{attack}')
  match = rf'checkpoint\.pt: refused, .*would call {name}\. Nothing'
  with pytest.raises(CheckpointError, match=match):
    open_checkpoint(path)
  assert not witness.exists()
  # The attack is one: the same file harms whoever loads it without care.
  torch.load(path, weights_only=False)
  assert witness.exists()


def test_the_witness_is_one_of_plain_pickle(tmp_path):
  for attack, make in ATTACKS.items():
    witness = tmp_path / attack
    pickle.loads(pickle.dumps(make(str(witness))))
    assert witness.exists()


@pytest.fixture
def opened(tmp_path):
  """Opens a file of torch.save whose pickle is given as bytes."""

  def call(pickled):
    path = tmp_path / 'checkpoint.pt'
    torch.save({'model': saved.weights()}, path)
    saved.put(path, 'data.pkl', pickled)
    return open_torch(path)

  return call


def text(value):
  return b'X' + struct.pack('<I', len(value)) + value.encode()


def name(module, name):
  """A global of protocol 4."""
  return text(module) + text(name) + b'\x93'


@pytest.mark.parametrize(
  'named',
  [
    b'cposix\nsystem\n',
    b'c__builtin__\neval\n',
    b'c__builtin__\ngetattr\n',
    b'c__builtin__\ntype\n',
    b'cimportlib\nimport_module\n',
    b'ctorch.jit\nload\n',
    b'ctorch\nload\n',
    b'cnumpy\nload\n',
    b'cargparse\nFileType\n',
    b'cfairseq_evil\nThing\n',
    b'cfunctools\npartial\n',
    name('builtins', '__import__'),
    name('fairseq.utils', 'os.system'),
    name('numpy', 'dtype.__class__'),
  ],
)
def test_a_name_that_is_only_mentioned_is_refused(opened, named):
  with pytest.raises(CheckpointError, match=r'checkpoint\.pt: refused'):
    opened(b'\x80\x04}' + text('x') + named + b's.')


LEFTOVERS = {
  'namespace': argparse.Namespace(deep=argparse.Namespace(lr=1.0)),
  'device': torch.device('cpu'),
  'size': torch.Size([2, 3]),
  'dtype': torch.bfloat16,
  'version': torch.torch_version.TorchVersion('2.1.0'),
  'scalar': np.float64(2.5),
  'array': np.arange(6).reshape(2, 3),
  'numpy dtype': np.dtype('f4'),
  'numpy type': np.float32,
  'path': pathlib.Path('/data/train'),
  'set': {1, 2},
  'frozenset': frozenset({1}),
  'empty frozenset': frozenset(),
  'bytearray': bytearray(b'abc'),
  'complex': 1j,
  'type': int,
}


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_leftovers_are_inert(tmp_path, protocol):
  path = tmp_path / 'checkpoint.pt'
  torch.save(LEFTOVERS, path, pickle_protocol=protocol)
  found = open_torch(path)
  assert set(found) == set(LEFTOVERS)
  plain = {key for key, value in found.items() if value is not INERT}
  assert plain <= {'bytearray'}  # protocol 5 has an opcode for it


def test_plain_data_is_kept(tmp_path):
  plain = {
    'numbers': [0, 255, -1, 70_000, 1 << 40, -(1 << 90), 0.5, True, None],
    'texts': ['', 'α' * 300, ('a', ('b',), ())],
    1: {2.5: {None: {False: 'keys'}}},
  }
  for protocol in (2, 3, 4, 5):
    torch.save(plain, tmp_path / 'a.pt', pickle_protocol=protocol)
    assert open_torch(tmp_path / 'a.pt') == plain


def planted(monkeypatch, module, name, base):
  """A class of a package that need not be installed to read its pickles."""
  made = type(name, (base,), {'__module__': module})
  for place in (module.split('.')[0], module):
    monkeypatch.setitem(sys.modules, place, types.ModuleType(place))
  setattr(sys.modules[module], name, made)
  return made


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_configurations_of_trainers_are_inert(tmp_path, protocol):
  with pytest.MonkeyPatch.context() as patch:
    plant = functools.partial(planted, patch)
    config = plant('omegaconf.dictconfig', 'DictConfig', Options)()
    config._metadata = plant('omegaconf.base', 'Metadata', argparse.Namespace)()
    config._metadata.ref_type = typing.Any
    meters = plant('fairseq.logging.meters', 'MetersDict', dict)(loss=1.0)
    kinds = plant('fairseq2.nn', 'Stack', list)([torch.ones(2), {'a'}])
    module = 'fairseq.dataclass.constants'
    plant(module, 'Choices', object)
    choices = enum.Enum('Choices', 'slow fast', module=module)
    sys.modules[module].Choices = choices
    tree = {'cfg': config, 'meters': meters, 'kinds': [kinds, choices.slow]}
    torch.save(tree, tmp_path / 'a.pt', pickle_protocol=protocol)
  found = open_torch(tmp_path / 'a.pt')
  assert found == {'cfg': INERT, 'meters': INERT, 'kinds': [INERT, INERT]}


def test_keys_that_are_not_flat_are_left_out(tmp_path):
  path = tmp_path / 'checkpoint.pt'
  model = {'a': torch.ones(1), ('b', 1): torch.ones(1), 2**80: torch.ones(1)}
  torch.save(model | {frozenset({1}): 2}, path)
  assert set(open_checkpoint(path)) == {'a'}
  torch.save({'a': torch.ones(1), 7: torch.ones(1)}, path)
  with pytest.raises(CheckpointError, match='without a proper name'):
    open_checkpoint(path)


@pytest.mark.parametrize(
  ('pickled', 'message'),
  [
    (b'', 'exhausted'),
    (b'\x80\x02}', 'exhausted'),
    (b'\x80\x02.', 'a value is missing'),
    (b'\x80\x02((.', 'a value is missing'),
    (b'\x80\x02}}.', 'left over'),
    (b'\x80\x02(}.', 'left over'),
    (b'\x80\x02h\x09.', 'a reference to nothing'),
    (b'\x80\x02}u.', 'a mark is missing'),
    (b'\x80\x02}(K\1u.', 'a key without a value'),
    (b'\x80\x02]K\1K\1s.', 'not a dict'),
    (b'\x80\x02}K\1a.', 'not a list'),
    (b'\x80\x02K\1Nb.', 'not an object'),
    (b'\x80\x02K\1)R.', 'not a function'),
    (b'\x80\x02ccollections\nOrderedDict\nNR.', 'not a tuple'),
    (b'\x80\x02ccollections\nOrderedDict\n]\x85R.', 'with arguments'),
    (b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.', 'without a shape'),
    (b'\x80\x02ctorch._utils\n_rebuild_parameter\nN\x85R.', 'without a tensor'),
    (b'\x80\x02K\1Q.', 'persistent id'),
    (b'\x80\x04K\1K\1\x93.', 'without a name'),
    (b"\x80\x02S'old'\n.", 'opcode STRING'),
    (b'\x80\x02\x82\x01.', 'opcode EXT1'),
    (b'\x80\x05\x97.', 'opcode NEXT_BUFFER'),
    (b'\x80\x02X\xff\xff\xff\x7fabc.', 'expected 2147483647 bytes'),
  ],
)
def test_a_damaged_pickle_says_what_is_wrong(opened, pickled, message):
  with pytest.raises(
    CheckpointError, match=rf'data\.pkl is damaged.*{message}'
  ):
    opened(pickled)


def storage(kind='FloatStorage', key='0', count=16, label='storage'):
  pid = text(label) + f'ctorch\n{kind}\n'.encode() + text(key) + text('cpu')
  return b'(' + pid + number(count) + b'tQ'


def number(value):
  return b'\x8a\x0a' + value.to_bytes(10, 'little', signed=True)


def numbers(values):
  return b'(' + b''.join(map(number, values)) + b't'


def tensor(stored=None, offset=0, shape=(4, 4), strides=(4, 1)):
  stored = storage() if stored is None else stored
  arguments = stored + number(offset) + numbers(shape) + numbers(strides)
  return b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(' + arguments + b'tR.'


def test_tensors_by_hand_are_read(opened):
  """What the cases below change does open."""
  expected = next(iter(saved.weights().values())).numpy()
  whole, row = tensor(), tensor(offset=4, shape=(1, 4), strides=(2**62, 1))
  np.testing.assert_array_equal(opened(whole).read(), expected)
  np.testing.assert_array_equal(opened(row).read(), expected[1:2])


@pytest.mark.parametrize(
  ('pickled', 'message'),
  [
    (tensor(storage(label='module')), 'persistent id'),
    (tensor(storage(key='99')), 'storage 99 is not in the archive'),
    (tensor(storage(key='../data.pkl')), 'not in the archive'),
    (tensor(storage(count=-1)), 'storage 0 is shorter'),
    (tensor(storage(count=17)), 'storage 0 is shorter'),
    (tensor(storage(kind='DoubleStorage')), 'storage 0 is shorter'),
    (tensor(offset=1), 'storage 0 ends behind it'),
    (tensor(offset=-1), 'storage 0 begins in front'),
    (tensor(strides=(-4, 1)), 'storage 0 begins in front'),
    (tensor(strides=(4,)), 'storage 0 begins in front'),
    (tensor(strides=(5, 1)), 'storage 0 ends behind it'),
    (tensor(shape=(-4, 4)), 'no tensor has'),
    (tensor(shape=(2**70, 4)), 'no tensor has'),
    (tensor(shape=(1,) * 65, strides=(0,) * 65), 'no tensor has'),
    (tensor(shape=(2**40, 2**40), strides=(0, 0)), 'no memory'),
    (tensor(shape=(0, 2**62), strides=(1, 1)), 'no memory'),
  ],
)
def test_a_tensor_outside_its_storage_is_refused(opened, pickled, message):
  with pytest.raises(CheckpointError, match=rf'checkpoint\.pt: .*{message}'):
    opened(pickled)
