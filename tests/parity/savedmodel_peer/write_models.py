"""Writes small models as SavedModels, with inputs and JAX's outputs.

    python -m tests.parity.savedmodel_peer.write_models FOLDER

Needs bert_jax and TensorFlow in one environment. FOLDER/NAME is an export,
FOLDER/NAME.npz has arrays `input/...` and `output/...`.
"""

import pathlib
import sys

import jax
import numpy as np

from bert_jax.export import check, folder, function
from bert_jax.export.parts import parts
from bert_jax.model import Model
from tests.interop import folders

# One task of each kind of head, and every family.
CASES = (
  ("bert", "embedding"),
  ("bert", "multiple_choice"),
  ("roberta", "classification"),
  ("xlm-roberta", "tagging"),
  ("distilbert", "question_answering"),
  ("electra", "replaced_tokens"),
  ("albert", "masked_lm"),
  ("modernbert", "embedding"),
  ("mpnet", "multi_label"),
  ("deberta-v2", "regression"),
)


def write(model: Model, path: pathlib.Path) -> None:
  folder.export(model, path, "savedmodel")
  made = function.make(model.task, model.params)
  arrays = {}
  for length in (1, 7, 32):
    inputs = _inputs(model, made, length)
    outputs = jax.jit(made.call)(made.weights, inputs)
    for kind, found in (("input", inputs), ("output", outputs)):
      for name, x in found.items():
        arrays[f"{length}/{kind}/{name}"] = np.asarray(x)
  np.savez(path.with_name(f"{path.name}.npz"), **arrays)


def _inputs(model, made, length):
  (part,) = parts(model.task, model.params)
  batch = check.random_batch(part, length)
  arrays = {
    "input_ids": batch.token_ids,
    "attention_mask": batch.sequence_ids,
    "token_type_ids": batch.segment_ids,
    "masked_positions": batch.targets.get("masked_lm/positions"),
  }
  return {name: arrays[name] for name in made.inputs}


if __name__ == "__main__":
  for family, task in CASES:
    model = folders.model(family, task)
    write(model, pathlib.Path(sys.argv[1]) / f"{family}, {task}")
