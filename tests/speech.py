"""A small parallel corpus of people's own: sentences and noisy tones."""

import numpy as np
import soundfile

from tests import checkpoint


def waveform(seed: int, seconds: float) -> np.ndarray:
  """A few gliding tones in noise: never silent, different for every seed."""
  rng = np.random.default_rng(seed)
  time = np.arange(round(seconds * 16_000)) / 16_000
  wave = 0.02 * rng.standard_normal(len(time))
  for _ in range(4):
    pitch, glide = rng.uniform(100, 3000), rng.uniform(-50, 50)
    wave += 0.1 * np.sin(2 * np.pi * (pitch + glide * time) * time)
  return wave.astype(np.float32)


def swell(samples: int) -> np.ndarray:
  """Noise whose colour drifts and that swells every 40 ms."""
  rng = np.random.default_rng(samples)
  white = rng.standard_normal(samples + 1)
  time = np.arange(samples) / 16_000
  colour = np.sin(2 * np.pi * 7 * time + 1)
  wave = white[1:] + colour * white[:-1]
  return (0.01 * np.exp(60 * (time % 0.04)) * wave).astype(np.float32)


def write(folder, count: int = 24, voices: int = 1) -> str:
  """Writes manifest.tsv and its audio; returns the manifest's path."""
  folder.mkdir(parents=True, exist_ok=True)
  lines = ['id\tlanguage\ttext\taudio\tspeaker\tsplit']
  for index, language in enumerate(checkpoint.LANGUAGES):
    for i, text in enumerate(checkpoint.sentences(language, count)):
      for voice in range(voices):
        name = f'{language}-{i:03}-{voice}.wav'
        seed = 1000 * index + 10 * i + voice
        wave = waveform(seed, 0.5 + 0.11 * (7 * i % count) + 0.05 * voice)
        soundfile.write(folder / name, wave, 16_000, subtype='PCM_16')
        row = (f's{i:03}', language, text, name, f'v{voice}', 'test')
        lines.append('\t'.join(row))
  path = folder / 'manifest.tsv'
  path.write_text('\n'.join(lines) + '\n')
  return str(path)
