"""Kernels as Pallas' interpreter runs them, in the place of the compiled."""

import functools

import jax

from ports.kernels import depthwise, flash

FLASH, DEPTHWISE = (
  {
    platform: functools.partial(getattr(kernel, name), interpret=True)
    for platform, kernel in of.KERNELS.items()
  }
  for of, name in ((flash, 'flash_attention'), (depthwise, 'depthwise'))
)
# What Pallas' Triton is lowered for, where the process has no GPU.
OF_A_GPU = jax.sharding.AbstractMesh(
  *((), ()),
  abstract_device=jax.sharding.AbstractDevice(
    device_kind='NVIDIA H100', num_cores=132, platform='gpu'
  ),
)


def taken(monkeypatch, platform):
  """Takes what `platform_dependent` does there; the kernels' operands."""
  calls = {'flash_attention': [], 'depthwise': []}

  def chosen(*operands, default, **forms):
    return forms.get(platform, default)(*operands)

  def of(name, kernel):
    def called(*operands, **options):
      calls[name].append(operands)
      return kernel(*operands, **options)

    return called

  monkeypatch.setattr(jax.lax, 'platform_dependent', chosen)
  for module, name, kernels in (
    (flash, 'flash_attention', FLASH),
    (depthwise, 'depthwise', DEPTHWISE),
  ):
    place = module.KERNELS[platform]
    monkeypatch.setattr(place, name, of(name, kernels[platform]))
  return calls
