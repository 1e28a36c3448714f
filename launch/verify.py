"""Verifies the files of runs and exports by their manifests.

    bert-jax verify runs/sentiment exports/sentiment

Each FOLDER is the --workdir of a run, of which every checkpoint is verified, or
a folder of `bert-jax export`. One line says `OK`, or which file is damaged,
missing or extra; the exit code is 1 if any is.
"""

import functools
import sys
from collections.abc import Iterator

from bert_jax import exported
from bert_jax.checkpointing import manifest
from bert_jax.settings import UserError
from bert_jax.storage import paths

from . import cli


def define(values: cli.Values) -> None:
  """Defines no flags."""


def verify(values: cli.Values, arguments: list[str]) -> int:
  """Verifies each folder."""
  if not arguments:
    raise UserError("expected at least one FOLDER, got none")
  found_fault = False
  for where in arguments:
    for folder, faults in _checked(where):
      print(f"{folder}: {'; '.join(faults) or 'OK'}", flush=True)
      found_fault |= bool(faults)
  return int(found_fault)


def _checked(where: str) -> Iterator[tuple[str, list[str]]]:
  """The folders with a manifest, and what is wrong with each.

  Raises:
    UserError: the folder is no run and no export.
  """
  where = where.rstrip("/") or "/"
  folder = paths.as_path(where)
  if paths.exists(folder / manifest.NAME) or exported.is_export(where):
    yield where, [*manifest.faults(folder)]
    return
  # It imports jax, which exports do without.
  from bert_jax.training import workdir

  steps = manifest.steps(folder / workdir.CHECKPOINTS)
  if not steps and not paths.is_folder(where):
    raise UserError(f"{where}: no such folder")
  if not steps:
    raise UserError(
      f"{where}: expected the --workdir of a run, or the folder of an export;"
      f" it has no checkpoints and no {manifest.NAME}"
    )
  for step in steps:
    name = f"{workdir.CHECKPOINTS}/{step}"
    yield f"{where}/{name}", [*manifest.faults(folder / name)]
  try:
    workdir.verify(where)
  except UserError as error:
    yield where, [str(error)]
  else:
    yield where, []


main = functools.partial(cli.run, verify, define, takes_arguments=True)

if __name__ == "__main__":
  sys.exit(main())
