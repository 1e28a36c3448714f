"""Opens published models: on the Hub, in a folder, in a zip or in a store."""

import contextlib
import dataclasses
import pathlib
import weakref
from collections.abc import Callable

from bert_jax.interop import archives, google, hub, huggingface, peft
from bert_jax.interop.pretrained import Pretrained
from bert_jax.settings import UserError
from bert_jax.storage import paths


def open_published(
  where: paths.Path,
  ignore_unexpected: bool = False,
  open_base: Callable[[str], Pretrained] | None = None,
) -> Pretrained:
  """Opens a published model without reading its weights.

  Args:
    where: `hf://org/name[@revision]`; a folder in the Hugging Face format, or
      of peft; or the folder or zip archive of a Google release. Local or in a
      store.
    ignore_unexpected: see `name_table.read_params`.
    open_base: opens the model that an adapter of peft is for; by default this
      function.

  Raises:
    UserError: there is no such model, or it is damaged or not supported.
  """
  if str(where).startswith(hub.PREFIX):
    folder = hub.download(str(where))
    if peft.is_adapter(folder):
      return peft.open_folder(folder, open_base or open_published)
    pretrained = huggingface.open_folder(folder, ignore_unexpected)
    return dataclasses.replace(pretrained, where=str(where))
  path = paths.local(where)
  if peft.is_adapter(path):
    return peft.open_folder(path, open_base or open_published)
  if path.is_file() and path.suffix == ".zip":
    return _open_zip(path, ignore_unexpected)
  is_google = (path / google.CONFIG_FILE).is_file()
  if (path / huggingface.CONFIG_FILE).is_file():
    # Some folders have the files of both formats, but the weights of one.
    has_weights = any(path.glob("*.safetensors"))
    if has_weights or not (is_google and any(path.glob("*.index"))):
      return huggingface.open_folder(path, ignore_unexpected)
  if is_google:
    return google.open_folder(path, ignore_unexpected)
  raise UserError(f"{where}: {_fault(path)}")


def _open_zip(path: pathlib.Path, ignore_unexpected: bool) -> Pretrained:
  """Opens a release; its extracted files live as long as the result."""
  with contextlib.ExitStack() as stack:
    folder = stack.enter_context(archives.extracted(path))
    pretrained = google.open_folder(folder, ignore_unexpected)
    pretrained = dataclasses.replace(pretrained, where=str(path))
    weakref.finalize(pretrained, stack.pop_all().close)
  return pretrained


def _fault(path: pathlib.Path) -> str:
  """The reason why a path is not a published model."""
  expected = (
    "expected the --workdir of a run, a folder with config.json (Hugging"
    " Face), adapter_config.json (peft) or bert_config.json (Google), Google's"
    " zip, or hf://ORG/NAME"
  )
  if not path.exists():
    return f"no such file or folder; {expected}"
  if not path.is_dir():
    return f"a file; {expected}"
  names = sorted(entry.name for entry in path.iterdir())
  return f"{expected}; found {', '.join(names[:8]) or 'an empty folder'}"
