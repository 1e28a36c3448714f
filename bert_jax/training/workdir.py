"""A run's folder: its config, its vocabulary, and the lock on it."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from bert_jax import text
from bert_jax.settings import UserError
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training.recipe import Recipe, differences

CONFIG_FILE = "config.json"
TOKENIZER = "tokenizer"
CHECKPOINTS = "checkpoints"


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
  """Holds the folder for one run; the system lets go when the process ends.

  Raises:
    UserError: another run holds it, or it cannot be made.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    file = (workdir / ".lock").open("a+")
  except (FileExistsError, NotADirectoryError, PermissionError) as error:
    raise UserError(f"--workdir {workdir}: {error.strerror}") from error
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise UserError(
        f"--workdir {workdir}: in use by another run"
        f" (process {file.read().strip() or 'unknown'})"
      ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    yield


def claim(workdir: pathlib.Path, recipe: Recipe, task: Task) -> None:
  """Writes config and vocabulary, or checks that they are still the same.

  Args:
    workdir: the run's folder.
    recipe: what to run now.
    task: made by the recipe.

  Raises:
    UserError: the folder holds a run of another config or other data.
  """
  # Through JSON and back, so that what is compared is what is kept.
  config = json.loads(json.dumps(recipe.to_dict()))
  config["model"]["vocab_size"] = task.config.vocab_size
  entry = {
    "config": config,
    "data": task.data.fingerprint(),
    "vocabulary": _fingerprint(task.tokenizer),
  }
  path = workdir / CONFIG_FILE
  if path.exists():
    old = _read(path)
    changes = differences(old["config"], config)
    if old["data"] != entry["data"]:
      changes.append("the training data are not those that the run began with")
    if changes:
      raise UserError(
        f"--workdir {workdir} holds a run with another config; take another"
        f" folder, or undo: {'; '.join(changes)}"
      )
    return
  if task.tokenizer is not None:
    task.tokenizer.save(workdir / TOKENIZER)
  partial = path.with_suffix(".tmp")
  partial.write_text(json.dumps(entry, indent=2) + "\n")
  partial.replace(path)


def read(workdir: pathlib.Path) -> tuple[Recipe, Tokenizer | None]:
  """The recipe and the tokenizer of a run.

  Raises:
    UserError: the folder holds no run, or its files are damaged.
  """
  path = workdir / CONFIG_FILE
  if not path.exists():
    what = "no such folder" if not workdir.exists() else f"no {CONFIG_FILE}"
    raise UserError(f"{workdir}: {what}; expected the --workdir of a run")
  entry = _read(path)
  folder = workdir / TOKENIZER
  tokenizer = text.load(folder) if folder.exists() else None
  if _fingerprint(tokenizer) != entry["vocabulary"]:
    raise UserError(
      f"{folder}: this is not the vocabulary that the model was trained with"
    )
  return Recipe.from_dict(entry["config"]), tokenizer


def _read(path: pathlib.Path) -> Mapping[str, Any]:
  try:
    entry = json.loads(path.read_text(encoding="utf-8"))
    return {key: entry[key] for key in ("config", "data", "vocabulary")}
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f"{path}: damaged ({error!r})") from error


def _fingerprint(tokenizer: Tokenizer | None) -> str | None:
  """A hash of the vocabulary, by which ids keep their meaning."""
  if tokenizer is None:
    return None
  tokens = (tokenizer.token(id) for id in range(len(tokenizer)))
  return hashlib.sha256("\n".join(tokens).encode()).hexdigest()
