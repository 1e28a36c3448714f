"""Checkpoints on the Hugging Face Hub: `hf://org/name[@revision]`.

`huggingface_hub` downloads and caches. It reads its environment variables
HF_TOKEN, HF_HOME, HF_HUB_OFFLINE and HF_ENDPOINT when it is imported, which
takes half a second, so it is imported on use.
"""

import pathlib
import re

from bert_jax.interop import pickles
from bert_jax.settings import UserError
from bert_jax.text import files

PREFIX = "hf://"

# Only the files that are read: a repository may have the weights in five more
# formats.
_FILES = [
  "adapter_config.json",
  "adapter_model.safetensors",
  "config.json",
  "model.safetensors",
  "model-*.safetensors",
  "model.safetensors.index.json",
  *files.NAMES,
  "*.model",
  "modules.json",
  "sentence_bert_config.json",
  "config_sentence_transformers.json",
  "*_*/config.json",
  "*_Dense/model.safetensors",
  "*_LayerNorm/model.safetensors",
]
# A revision becomes a path in the cache: no leading slash and no `..`.
_ADDRESS = re.compile(
  r"hf://([\w.-]+(?:/[\w.-]+)?)(?:@(\w(?:(?!\.\.)[\w./+-])*))?", re.ASCII
)


def download(where: str) -> pathlib.Path:
  """Downloads the files of a repository that are read, or finds them cached.

  A file appears in the cache under its name only when it is complete.

  Args:
    where: `hf://org/name` or `hf://org/name@revision`, where the revision is a
      branch, a tag or a commit; some old repositories have no organization.

  Returns:
    A folder of the cache, whose files are symbolic links.

  Raises:
    UserError: the address is malformed; the repository or the revision does
      not exist; access is refused; the Hub cannot be reached and the files are
      not cached; the disk is full; or the only weights are pickles, with the
      command that converts them.
  """
  import huggingface_hub
  from huggingface_hub import errors, utils

  found = _ADDRESS.fullmatch(where)
  try:
    utils.validate_repo_id(found[1] if found else "")
  except errors.HFValidationError as error:
    raise UserError(
      f"{where}: expected hf://ORG/NAME or hf://ORG/NAME@REVISION"
    ) from error
  name, revision = found[1], found[2]
  try:
    folder = pathlib.Path(
      huggingface_hub.snapshot_download(
        name, revision=revision, allow_patterns=_FILES
      )
    )
  # The errors of networks, servers and disks have no common type, and recent
  # versions of huggingface_hub use different HTTP libraries.
  except Exception as error:
    raise UserError(f"{where}: {_reason(error)}") from error
  if not any(folder.glob("*model*.safetensors*")):
    raise UserError(f"{where}: {_without_weights(name, revision)}")
  return folder


def _without_weights(name: str, revision: str | None) -> str:
  """The message for a repository of which no weights were downloaded."""
  import huggingface_hub

  try:
    files = huggingface_hub.HfApi().list_repo_files(name, revision=revision)
  except Exception as error:  # As in `download`.
    return f"its weights are not cached; {_reason(error)}"
  target = name.split("/")[-1]
  advice = pickles.advice(files, name, target, revision)
  return advice or "it has no model.safetensors"


def _reason(error: BaseException) -> str:
  """The reason of a failure and its remedy, in one line."""
  from huggingface_hub import constants, errors

  with_token = "set HF_TOKEN or run `hf auth login`"
  match error:
    case errors.GatedRepoError():
      return f"gated: ask for access on its page, then {with_token}"
    case errors.RepositoryNotFoundError():
      return f"no such repository; if it is private, {with_token}"
    case errors.RevisionNotFoundError():
      return "no such revision"
    case errors.OfflineModeIsEnabled():
      return "HF_HUB_OFFLINE is set"
    case errors.LocalEntryNotFoundError(__cause__=BaseException() as cause):
      return f"not all of it is cached; {_reason(cause)}"
    case errors.HfHubHTTPError():
      status = error.response.status_code
      hint = f"; {with_token}" if status in (401, 403) else ""
      return f"{constants.ENDPOINT} answered with HTTP status {status}{hint}"
    case OSError(errno=int()):
      return f"{error.strerror} ({error.filename or constants.HF_HUB_CACHE})"
  message = " ".join(str(error).split())[:300]
  return (
    f"download from {constants.ENDPOINT} failed:"
    f" {type(error).__name__}: {message}"
  )
