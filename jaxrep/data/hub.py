"""Files of FLEURS from the Hugging Face hub, one at a time."""

import pathlib

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, HTTPError

from jaxrep.types import InputError

REPO = 'google/fleurs'


def download(name: str) -> pathlib.Path:
  """A file of the data set in the hub's own cache, downloaded if need be.

  HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE act as in huggingface_hub. An
  unreachable hub is tried for about 20 s.

  Raises:
    InputError: the file cannot be had; names it and the remedy.
  """
  try:
    path = huggingface_hub.hf_hub_download(REPO, name, repo_type='dataset')
  except (EntryNotFoundError, HTTPError, OSError) as error:
    reason = str(error.__cause__ or error).split('\n', 1)[0]
    raise InputError(
      f'Cannot download {name} of {REPO} ({reason}). Check the network and '
      'HF_ENDPOINT, or copy the data set here by other means and give '
      f'--corpus_source=<the folder that holds {name}>.'
    ) from error
  return pathlib.Path(path)
