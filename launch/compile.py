"""Compiles the update of a recipe for a TPU slice, without a TPU.

    bert-jax compile --config CONFIG --topology v5e:16x16 [--json FILE]

Runs the TPU compiler (`pip install 'bert_jax[tpu]'`) and reports the memory of
a chip by kind, the communication of an update, and estimates of its duration.
If the update does not fit, the largest buffers are listed and the exit code is
1.
"""

import functools
import json
import os
import sys
import tempfile

from . import cli


def define(values: cli.Values) -> None:
  """Defines the flags."""
  cli.define_config(values)
  values.define(
    "topology", "CHIP:SHAPE; chips are v4, v5e, v5p and v6e.", required=True
  )
  values.define("json", "A file to write the figures to, too.")


def compile_update(values: cli.Values) -> int:
  """Compiles and reports."""
  # The compiler must not look for chips or for Google's machines; jax reads
  # this when it is imported.
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", "none")
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  from bert_jax.aot import analysis, kernels
  from bert_jax.storage import folders
  from bert_jax.training.recipe import Recipe

  recipe = Recipe.from_dict(values.config.to_dict())
  with tempfile.TemporaryDirectory() as schedules:
    kernels.write_schedules(schedules)
    found = analysis.analyze(recipe, values.topology, schedules)
  analysis.print_report(found)
  if values.json:
    text = json.dumps(found.to_dict(), indent=2) + "\n"
    folders.write_text(values.json, text)
  return 0 if found.fits else 1


main = functools.partial(cli.run, compile_update, define)

if __name__ == "__main__":
  sys.exit(main())
