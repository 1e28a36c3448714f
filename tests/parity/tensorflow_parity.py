"""Checkpoints that real TensorFlow has written, read without TensorFlow.

TensorFlow has an environment of its own: TENSORFLOW_PYTHON is its interpreter.
A difference is a tensor that is missing, unexpected, of another type or
shape, or not the same bit for bit.
"""

import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator

import numpy as np

from bert_jax.interop.tensorflow.tensor_bundle import TensorBundle

_WRITER = (
  pathlib.Path(__file__).parent / "tensorflow_peer" / "write_checkpoints.py"
)
# Strings that TF2's checkpoints have besides the variables.
_STRUCTURE = "_CHECKPOINTABLE_OBJECT_GRAPH"


def checks() -> Iterator[tuple[str, float, float]]:
  python = os.environ["TENSORFLOW_PYTHON"]
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    writer = subprocess.run(
      [python, _WRITER, folder], capture_output=True, text=True
    )
    if writer.returncode:
      raise RuntimeError(f"{_WRITER} failed:\n{writer.stderr}")
    for index in sorted(folder.glob("*.ckpt.index")):
      yield _compare(index.with_suffix(""))


def _compare(prefix: pathlib.Path) -> tuple[str, float, float]:
  kinds = json.loads(prefix.with_suffix(".json").read_text())
  bundle = TensorBundle.open(prefix)
  pieces = [piece for name in kinds for piece in bundle.pieces.get(name, ())]
  files = {piece.path for piece in pieces}
  found = set(bundle.shapes) - {_STRUCTURE}
  assert len(kinds) > 10
  differing = len(found ^ set(kinds))
  with np.load(prefix.with_suffix(".npz")) as contents:
    for name in found & set(kinds):
      value, (dtype, *shape) = bundle.read(name), kinds[name]
      differing += (
        (value.dtype.name, value.shape) != (dtype, tuple(shape))
        or (value.dtype, value.shape) != bundle.shapes[name][::-1]
        or value.tobytes() != contents[name].tobytes()
      )
  counts = f"{len(kinds)} tensors, {len(pieces)} pieces, {len(files)} files"
  return f"tensorflow, {prefix.stem}: {counts}", differing, 0
