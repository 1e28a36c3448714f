"""Runs SavedModels with TensorFlow alone; see `write_models.py`.

    python run_models.py FOLDER

Prints JSON: for each model the largest difference of an output from JAX's.
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf


def difference(path):
  serve = tf.saved_model.load(str(path / "1")).signatures["serving_default"]
  worst = 0.0
  with np.load(path.with_name(f"{path.name}.npz")) as arrays:
    for length in sorted({name.split("/")[0] for name in arrays}):
      start = f"{length}/input/"
      inputs = {
        name.removeprefix(start): tf.constant(arrays[name])
        for name in arrays
        if name.startswith(start)
      }
      outputs = serve(**inputs)
      wanted = {
        name.split("/", 2)[2]: arrays[name]
        for name in arrays
        if name.startswith(f"{length}/output/")
      }
      assert wanted.keys() == outputs.keys()
      for name, array in wanted.items():
        found = outputs[name].numpy()
        assert found.shape == array.shape, name
        worst = max(worst, float(abs(found - array).max()))
  return worst


if __name__ == "__main__":
  assert "bert_jax" not in sys.modules
  paths = sorted(pathlib.Path(sys.argv[1]).glob("*.npz"))
  print(json.dumps({x.stem: difference(x.with_suffix("")) for x in paths}))
