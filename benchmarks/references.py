"""The encoders of transformers and PyTorch that extraction is timed against.

Released widths, few layers, random weights: the same modules that the tests
compare every stage with. `save` writes a checkpoint that jaxrep loads, and the
module's own state beside it, in each dtype that is asked for.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from benchmarks import inputs
from tests.ports import (
  beats_reference,
  reference,
  salmonn_reference,
  sonar_reference,
  test_llama,
  test_nllb,
  test_w2vbert,
  test_whisper,
)
from tests.ports.test_seamless import FULL_WIDTH, RELEASED_POSITIONS

VOCABULARY = 8000  # the size of the embedding table costs no arithmetic
WIDE = {**FULL_WIDTH, 'vocab_size': VOCABULARY, 'decoder_ffn_dim': 64}
SONAR_TEXT = {
  'model_dim': 1024,
  'num_heads': 16,
  'ffn_inner_dim': 8192,
  'vocab_size': VOCABULARY,
}
SONAR_SPEECH = {'model_dim': 1024, 'num_heads': 16, 'ffn_inner_dim': 4096}
W2V_BERT = {
  'hidden_size': 1024,
  'num_attention_heads': 16,
  'intermediate_size': 4096,
  'left_max_position_embeddings': 64,
  'right_max_position_embeddings': 8,
}
NLLB = {
  'd_model': 1024,
  'vocab_size': VOCABULARY,
  'encoder_attention_heads': 16,
  'encoder_ffn_dim': 4096,
}


WHISPER = {
  'd_model': 1280,
  'encoder_attention_heads': 20,
  'encoder_ffn_dim': 5120,
}
BEATS = {
  'encoder_embed_dim': 768,
  'encoder_ffn_embed_dim': 3072,
  'encoder_attention_heads': 12,
  'embed_dim': 512,
  'conv_pos_groups': 16,
}
VICUNA = {
  'hidden_size': 4096,
  'intermediate_size': 11008,
  'num_attention_heads': 32,
  'vocab_size': VOCABULARY,
}


class Case(NamedTuple):
  """One encoder: its model and modality, and how the reference is made.

  `save` writes the checkpoint and returns the module, `build` makes one of the
  same shape, `stages` names modules whose outputs are compared and timed.
  `inputs` makes what turns a batch into the module's arguments and the masks of
  valid steps, by their number. `lists_states` says whether the module takes
  `output_hidden_states`.
  """

  model: str
  modality: str
  save: Callable[[pathlib.Path, int], nn.Module]
  build: Callable[[int], nn.Module]
  stages: Callable[[nn.Module], dict[str, nn.Module]]
  inputs: Callable[[], inputs.Prepare]
  width: int = 1024
  lists_states: bool = True


def save(
  case: Case, folder: str, layers: int, dtypes: Sequence[str] = ()
) -> None:
  """Writes the checkpoint, and the reference's own state in these dtypes."""
  path = pathlib.Path(folder)
  path.mkdir(parents=True, exist_ok=True)
  state = case.save(path, layers).state_dict()
  for dtype in dtypes:
    cast = {name: _as(x, dtype) for name, x in state.items()}
    torch.save(cast, _state_file(folder, dtype))


def load(case: Case, folder: str, layers: int, dtype: str) -> nn.Module:
  """The reference with its weights, of which one copy is in memory.

  As `from_pretrained` makes it: in its dtype, and without values of its own
  before the weights are read.
  """
  usual = torch.get_default_dtype()
  torch.set_default_dtype(getattr(torch, dtype))
  try:
    model = case.build(layers)
  finally:
    torch.set_default_dtype(usual)
  model = model.to(getattr(torch, dtype))
  for module in model.modules():
    for name, parameter in module.named_parameters(recurse=False):
      setattr(module, name, nn.Parameter(parameter.to('meta')))
  model.load_state_dict(torch.load(_state_file(folder, dtype)), assign=True)
  return model.eval()


def _as(x: torch.Tensor, dtype: str) -> torch.Tensor:
  return x.to(getattr(torch, dtype)) if x.is_floating_point() else x


def _state_file(folder: str, dtype: str) -> pathlib.Path:
  return pathlib.Path(folder) / f'reference_{dtype}.pt'


def _layers(
  layers: Mapping[int, nn.Module] | nn.ModuleList, stage: str
) -> dict[str, nn.Module]:
  return {f'{stage}_{i:02}': layer for i, layer in enumerate(layers, 1)}


def _seamless(version: str, modality: str) -> Case:
  def config(layers: int) -> Any:
    sizes = {'encoder_layers': layers, 'speech_encoder_layers': layers}
    positions = RELEASED_POSITIONS[version]
    return reference.config(version, **WIDE | positions | sizes)

  def write(folder: pathlib.Path, layers: int) -> nn.Module:
    made = config(layers)
    text, speech = reference.encoders(made)
    reference.save(folder, made, text, speech)
    return text if modality == 'text' else speech

  def build(layers: int) -> nn.Module:
    text, speech = reference.classes(version)
    return (text if modality == 'text' else speech)(config(layers))

  def stages(model: nn.Module) -> dict[str, nn.Module]:
    if modality == 'text':
      found = {'text/output': model.layer_norm}
      return found | _layers(model.layers, 'text/layer')
    return {
      'speech/embed': model.feature_projection,
      'speech/norm': model.encoder.layer_norm,
      'speech/adaptor': model.adapter,
      'speech/output': model.inner_layer_norm,
    } | _layers(model.encoder.layers, 'speech/layer')

  reader = inputs.seamless if modality == 'speech' else inputs.tokens
  name = f'seamless-m4t-{version}-large'
  return Case(name, modality, write, build, stages, reader)


def _sonar_speech() -> Case:
  def build(layers: int) -> nn.Module:
    return sonar_reference.speech(3, num_layers=layers, **SONAR_SPEECH)

  def write(folder: pathlib.Path, layers: int) -> nn.Module:
    path = folder / 'spenc.eng.pt'
    sizes = {'num_layers': layers, **SONAR_SPEECH}
    return sonar_reference.save_speech(path, 3, **sizes)

  def stages(model: nn.Module) -> dict[str, nn.Module]:
    return {
      'speech/embed': model.feature_projection,
      'speech/norm': model.encoder.layer_norm,
      'speech/sentence': model.embed_out,
      **_layers(model.encoder.layers, 'speech/layer'),
      **_layers(model.pooler, 'speech/pooler'),
    }

  reader = inputs.seamless
  return Case(
    'sonar', 'speech', write, build, stages, reader, lists_states=False
  )


def _sonar_text() -> Case:
  def sizes(layers: int) -> dict[str, int]:
    return {'num_layers': layers, **SONAR_TEXT}

  def write(folder: pathlib.Path, layers: int) -> nn.Module:
    path = folder / 'sonar_text_encoder.pt'
    return sonar_reference.save_text(path, **sizes(layers))

  def stages(model: nn.Module) -> dict[str, nn.Module]:
    found = {'text/output': model.layer_norm}
    return found | _layers(model.layers, 'text/layer')

  def build(layers: int) -> nn.Module:
    return sonar_reference.text(**sizes(layers))

  reader = inputs.tokens
  return Case('sonar', 'text', write, build, stages, reader, lists_states=False)


def _nllb() -> Case:
  def write(folder: pathlib.Path, layers: int) -> nn.Module:
    return test_nllb.save(folder, encoder_layers=layers, **NLLB)

  def build(layers: int) -> nn.Module:
    return test_nllb.encoder(encoder_layers=layers, **NLLB)

  stages = _sonar_text().stages
  return Case('nllb-200-600m', 'text', write, build, stages, inputs.tokens)


def _w2v_bert() -> Case:
  def write(folder: pathlib.Path, layers: int) -> nn.Module:
    return test_w2vbert.save(folder, num_hidden_layers=layers, **W2V_BERT)

  def build(layers: int) -> nn.Module:
    return test_w2vbert.model(num_hidden_layers=layers, **W2V_BERT)

  def stages(model: nn.Module) -> dict[str, nn.Module]:
    found = {'speech/embed': model.feature_projection}
    return found | _layers(model.encoder.layers, 'speech/layer')

  return Case('w2v-bert-2.0', 'speech', write, build, stages, inputs.seamless)


def _whisper() -> Case:
  def write(folder: pathlib.Path, layers: int) -> nn.Module:
    return test_whisper.save(folder, encoder_layers=layers, **WHISPER)

  def build(layers: int) -> nn.Module:
    made = test_whisper.model(encoder_layers=layers, **WHISPER)
    return made.model.encoder

  def stages(model: nn.Module) -> dict[str, nn.Module]:
    found = {'speech/output': model.layer_norm}
    return found | _layers(model.layers, 'speech/layer')

  reader = inputs.whisper
  return Case('whisper-large-v2', 'speech', write, build, stages, reader, 1280)


def _beats() -> Case:
  def write(folder: pathlib.Path, layers: int) -> nn.Module:
    path = folder / 'checkpoint.pt'
    return beats_reference.save(path, encoder_layers=layers, **BEATS)

  def build(layers: int) -> nn.Module:
    return beats_reference.model(encoder_layers=layers, **BEATS)

  def stages(model: nn.Module) -> dict[str, nn.Module]:
    found = {'speech/embed': model.encoder.layer_norm}
    return found | _layers(model.encoder.layers, 'speech/layer')

  return Case('beats', 'speech', write, build, stages, inputs.beats, 768, False)


def _vicuna() -> Case:
  def write(folder: pathlib.Path, layers: int) -> nn.Module:
    made = test_llama.model(num_hidden_layers=layers, **VICUNA)
    test_llama.save(folder, made)
    return made.model

  def build(layers: int) -> nn.Module:
    made = test_llama.model(num_hidden_layers=layers, **VICUNA).model
    made.config._attn_implementation = 'sdpa'
    return made

  def stages(model: nn.Module) -> dict[str, nn.Module]:
    found = {'text/output': model.norm}
    return found | _layers(model.layers, 'text/layer')

  reader = inputs.decoder_tokens
  return Case('vicuna-7b-v1.5', 'text', write, build, stages, reader, 4096)


def _salmonn() -> Case:
  def sizes(layers: int) -> dict[str, dict[str, int]]:
    return {
      'whisper': {'encoder_layers': layers, **WHISPER},
      'beats': {'encoder_layers': layers, **BEATS},
      'qformer': {'hidden_size': 768, 'heads': 12, 'intermediate_size': 3072},
      'llama': {'num_hidden_layers': layers, **VICUNA},
    }

  def write(folder: pathlib.Path, layers: int) -> nn.Module:
    return salmonn_reference.save(folder, **sizes(layers))

  def build(layers: int) -> nn.Module:
    made = Salmonn(salmonn_reference.sizes_of(**sizes(layers)))
    made.llm.config._attn_implementation = 'sdpa'
    return made

  def stages(model: nn.Module) -> dict[str, nn.Module]:
    return {
      'speech/audio_tokens': model.joints['speech_llama_proj'],
      **_layers(model.whisper.model.encoder.layers, 'speech/whisper_layer'),
      **_layers(model.beats.encoder.layers, 'speech/beats_layer'),
      **_layers(model.llm.get_decoder().layers, 'speech/layer'),
    }

  reader = inputs.salmonn
  return Case('salmonn-7b', 'speech', write, build, stages, reader, 4096, False)


class Salmonn(salmonn_reference.Salmonn):
  """All of SALMONN for a batch of clips of 30 s, without a prompt."""

  def forward(self, mels: torch.Tensor, fbank: torch.Tensor) -> torch.Tensor:
    spoken = self.whisper.model.encoder(mels).last_hidden_state
    speech = self.joints['ln_speech'](spoken)
    audio = self.joints['ln_audio'](self.beats(fbank))
    missing = speech.shape[1] - audio.shape[1]
    audio = nn.functional.pad(audio, (0, 0, 0, missing))
    both = torch.cat([speech, audio], dim=-1)
    frames, windows = salmonn_reference.FRAMES, salmonn_reference.WINDOWS
    cut = both[:, : frames * windows].reshape(-1, frames, both.shape[-1])
    query = self.query.expand(len(cut), -1, -1)
    read = self.qformer(query_embeds=query, encoder_hidden_states=cut)
    read = read.last_hidden_state.reshape(len(mels), windows, -1)
    tokens = self.joints['speech_llama_proj'](read)
    start = torch.ones(len(mels), 1, dtype=torch.long, device=mels.device)
    table = self.llm.get_input_embeddings()
    embeds = torch.cat([table(start), tokens], dim=1)
    return self.llm.get_decoder()(inputs_embeds=embeds).last_hidden_state


CASES = {
  f'{case.model} {case.modality}': case
  for case in (
    *(_seamless(v, m) for v in ('v2', 'v1') for m in ('speech', 'text')),
    *(_sonar_speech(), _sonar_text(), _w2v_bert(), _nllb()),
    *(_whisper(), _beats(), _vicuna(), _salmonn()),
  )
}
