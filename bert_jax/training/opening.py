"""Any model that can be had: trained here, or published."""

import pathlib

from bert_jax.interop import hub
from bert_jax.interop.pretrained import Pretrained
from bert_jax.interop.published import open_published
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.training import workdir


def open_model(where: paths.Path) -> Pretrained:
  """Reads all but the weights of a model.

  Args:
    where: the `--workdir` of a run, or what `open_published` takes.

  Raises:
    UserError: there is no such model, or it is damaged or not supported.
  """
  if workdir.is_run(where):
    return workdir.open_workdir(where)
  return open_published(where)


def vocabulary_of(where: paths.Path) -> pathlib.Path:
  """The folder of a model's vocabulary, as `bert_jax.text.load` reads it.

  Args:
    where: what `open_model` takes, but no zip.

  Raises:
    UserError: there is no such model.
  """
  if str(where).startswith(hub.PREFIX):
    return hub.download(str(where))
  folder = paths.as_path(where)
  if not paths.is_folder(folder):
    raise UserError(
      f"config.init: {where}: expected a folder or hf://ORG/NAME; unpack a zip"
      " to prepare text for it"
    )
  is_run = workdir.is_run(folder)
  return paths.local(folder / workdir.TOKENIZER if is_run else folder)
