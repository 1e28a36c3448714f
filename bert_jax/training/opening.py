"""Any model that can be had: trained here, or published."""

import pathlib

from bert_jax.interop.pretrained import Pretrained
from bert_jax.interop.published import open_published
from bert_jax.training import workdir


def open_model(where: str | pathlib.Path) -> Pretrained:
  """Reads all but the weights of a model.

  Args:
    where: the `--workdir` of a run, or what `open_published` takes.

  Raises:
    UserError: there is no such model, or it is damaged or not supported.
  """
  folder = pathlib.Path(where)
  if (folder / workdir.MODEL_FILE).is_file():
    return workdir.open_workdir(folder)
  return open_published(where)
