"""What is compared: bert_jax and its peers, one file each.

`python -m benchmarks.peers JOB` does the work of one side, in a process of its
own and in the environment that has its packages. A side's module has one or
more of

  training(job)   updates of BERT's pretraining, as the side's users make them
  inference(job)  a vector for each text: the mean of its tokens'
  peak(job)       products of square float32 matrices (option `size`), one for
                  each batch

each of which makes what it takes and gives the function that is timed. That
takes batches, returns once all the work is done, and gives the last loss, if
there is any. A batch is a dict of NumPy arrays: the fields of
`bert_jax.types.Batch` and the targets of `bert_jax.tasks.pretraining` by name.
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
  """What a side is to do; plain values, for JSON.

  Attributes:
    module: the side's module here.
    kind: `training`, `inference` or `peak`.
    model: sizes and dropout rates, by the names of `EncoderConfig`.
    optimizer: of AdamW, by the names of `OptimizerConfig`.
    options: what the side does in another way than by default.
    config: the recipe, for bert_jax.
    batches: the file with the batches, or, of texts, with a list of lists.
    warmup: how many of them are done before the clock starts. Training goes on
      with the rest; inference does all of them, of texts twice.
    platform: `cpu` or `gpu`.
    threads: of the CPU.
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
  """Writes batches of one shape, for `load`."""
  names = batches[0]
  np.savez(path, **{n: np.stack([x[n] for x in batches]) for n in names})


def load(path: str) -> list[Any]:
  """The batches of a file: rows, or texts (`.json`)."""
  if path.endswith(".json"):
    return json.loads(pathlib.Path(path).read_text())
  with np.load(path) as arrays:
    stacked = {name: arrays[name] for name in arrays.files}
  count = len(stacked["token_ids"])
  return [{name: x[i] for name, x in stacked.items()} for i in range(count)]


def labels(rows: Rows, ignored: int) -> np.ndarray:
  """The masked words where they were, `ignored` elsewhere; [rows, length]."""
  found = np.full(rows["token_ids"].shape, ignored, np.int64)
  row, slot = np.nonzero(rows["masked_lm/weights"])
  positions = rows["masked_lm/positions"][row, slot]
  found[row, positions] = rows["masked_lm/ids"][row, slot]
  return found
