"""The implementations that benchmarks compare: bert_jax and its peers.

`python -m benchmarks.peers JOB` runs one implementation, in a new process and
in the environment that has its packages. Its module has some of the functions

  training(job)   updates of BERT pretraining, as users of the library do them
  inference(job)  a vector for each text, the mean of its tokens
  peak(job)       products of square float32 matrices (option `size`), one for
                  each batch

Each sets up the work and returns the function that is timed. That function
takes batches, returns when the work is done, and returns the last loss if there
is one. A batch is a dict of NumPy arrays: the id arrays of
`bert_jax.types.Batch` and the targets of `bert_jax.tasks.pretraining`, by name.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Rows = Mapping[str, np.ndarray]
Run = Callable[[Sequence[Any]], float | None]


@dataclasses.dataclass(frozen=True)
class Job:
  """The work of an implementation; plain values, for JSON.

  Attributes:
    module: a module of this package.
    kind: `training`, `inference` or `peak`.
    model: arguments of `transformers.BertConfig`; for bert_jax, `config.model`.
    optimizer: hyperparameters of AdamW, by the names of `OptimizerConfig`.
    options: options of the module.
    config: the recipe, for bert_jax.
    batches: the file of the batches; for texts, a JSON list of lists.
    warmup: the number of batches before the clock starts. Training continues
      with the others; inference then runs all of them. For texts, the warm-up
      is all batches.
    platform: `cpu` or `gpu`.
    threads: the number of CPU threads.
  """

  module: str
  kind: str
  model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  optimizer: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  batches: str = ""
  warmup: int = 1
  platform: str = "cpu"
  threads: int = 2


def save(path: pathlib.Path, batches: Sequence[Rows]) -> None:
  """Writes batches of equal shapes, for `load`."""
  names = batches[0]
  np.savez(path, **{n: np.stack([x[n] for x in batches]) for n in names})


def load(path: str) -> list[Any]:
  """Reads the batches of a file: rows, or texts (`.json`)."""
  if path.endswith(".json"):
    return json.loads(pathlib.Path(path).read_text())
  with np.load(path) as arrays:
    stacked = {name: arrays[name] for name in arrays.files}
  count = len(stacked["token_ids"])
  return [{name: x[i] for name, x in stacked.items()} for i in range(count)]


def labels(rows: Rows, ignored: int) -> np.ndarray:
  """The ids of masked tokens, and `ignored` elsewhere; int64 [rows, length]."""
  found = np.full(rows["token_ids"].shape, ignored, np.int64)
  row, slot = np.nonzero(rows["masked_lm/weights"])
  positions = rows["masked_lm/positions"][row, slot]
  found[row, positions] = rows["masked_lm/ids"][row, slot]
  return found
