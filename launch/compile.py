"""Compiles a recipe's update for a TPU slice, with no TPU at hand.

`python -m launch.compile --config CONFIG --topology v5e:16x16 [--json FILE]`
runs the real TPU compiler (extra `tpu`) and reports the memory of a chip by
kind, the communication of an update, and estimates of its time. What does not
fit is told with the largest buffers, and exit code 1.
"""

import json
import os
import tempfile

from absl import flags

from bert_jax.aot import kernels
from bert_jax.storage import folders
from bert_jax.training.recipe import Recipe
from launch import cli

_CONFIG = cli.define_config()
_TOPOLOGY = flags.DEFINE_string(
  "topology", None, "CHIP:SHAPE; chips are v4, v5e, v5p and v6e."
)
_JSON = flags.DEFINE_string("json", None, "Where to write the figures, too.")


def main(_) -> int:
  """Compiles and reports."""
  # The compiler looks for no chip, and for none of Google's machines.
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", "none")
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  from bert_jax.aot import forecast

  recipe = Recipe.from_dict(_CONFIG.value.to_dict())
  with tempfile.TemporaryDirectory() as schedules:
    kernels.write_schedules(schedules)
    found = forecast.forecast(recipe, _TOPOLOGY.value, schedules)
  forecast.print_report(found)
  if _JSON.value:
    text = json.dumps(found.to_dict(), indent=2) + "\n"
    folders.write_text(_JSON.value, text)
  return 0 if found.fits else 1


if __name__ == "__main__":
  flags.mark_flag_as_required("topology")
  cli.run(main)
