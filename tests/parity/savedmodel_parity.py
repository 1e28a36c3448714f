"""SavedModels of every family, run by real TensorFlow.

TensorFlow and bert_jax have an environment of their own: SAVEDMODEL_PYTHON is
its interpreter. The models are run in a process without bert_jax.
"""

import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator

_PEER = pathlib.Path(__file__).parent / "savedmodel_peer"
_BOUND = 1e-5


def checks() -> Iterator[tuple[str, float, float]]:
  with tempfile.TemporaryDirectory() as folder:
    _run("-m", "tests.parity.savedmodel_peer.write_models", folder)
    found = json.loads(_run(_PEER / "run_models.py", folder))
  for name, worst in found.items():
    yield f"savedmodel, {name}", worst, _BOUND


def _run(*arguments) -> str:
  done = subprocess.run(
    [os.environ["SAVEDMODEL_PYTHON"], *arguments],
    capture_output=True,
    text=True,
  )
  if done.returncode:
    raise RuntimeError(f"{arguments[0]} failed:\n{done.stderr[-3000:]}")
  return done.stdout.splitlines()[-1] if done.stdout else ""
