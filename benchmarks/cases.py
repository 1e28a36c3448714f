"""The cases of the speed benchmarks, and their text."""

import argparse
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from bert_jax import settings
from bert_jax.data.corpus import build
from bert_jax.interop.families.bert import KEYS
from bert_jax.models.config import EncoderConfig, encoder_config
from bert_jax.training import sweep
from bert_jax.training.optim.optimizer import OptimizerConfig
from configs.pretrain import bert_base

PREDICTIONS = {128: 20, 512: 76}
"""The maximum number of masked tokens of a sequence, by the row length."""

VOCABULARY = 30522
TINY = {
  "hidden_size": 64,
  "num_layers": 2,
  "num_heads": 2,
  "intermediate_size": 128,
}
"""The sizes of a model for testing the benchmarks themselves."""

_OPTIMIZER = ("learning_rate", "b1", "b2", "eps", "weight_decay", "clip_norm")


@dataclasses.dataclass(frozen=True)
class Case:
  """A case, which every implementation runs.

  Attributes:
    kind: `training` or `inference`.
    length: the positions of a row.
    rows: the rows of a batch.
    real: whether sequences have the lengths of the text; otherwise all rows are
      full.
    model: a `preset`, or sizes of `EncoderConfig`.
  """

  kind: str
  length: int
  rows: int
  real: bool
  model: Mapping[str, Any]

  @property
  def name(self) -> str:
    """The name, such as `training-512-real`."""
    return f"{self.kind}-{self.length}{'-real' if self.real else ''}"

  @property
  def encoder(self) -> EncoderConfig:
    """The configuration of the encoder."""
    return encoder_config({"vocab_size": VOCABULARY, **self.model})

  @property
  def bert_config(self) -> dict[str, Any]:
    """The encoder as arguments of `transformers.BertConfig`."""
    return {key.name: getattr(self.encoder, key.field) for key in KEYS}


@dataclasses.dataclass(frozen=True)
class Text:
  """The text of all cases, as a prepared corpus."""

  config: build.CorpusConfig
  folder: str

  @classmethod
  def prepare(
    cls, files: Sequence[str], documents: str, folder: pathlib.Path
  ) -> "Text":
    """Prepares a corpus of files, or of the documentation of packages."""
    config = build.CorpusConfig(
      "text_files" if files else "installed_docs",
      tuple(os.path.abspath(name) for name in files),
      documents=documents,
      vocab_size=VOCABULARY,
      eval_fraction=0.0,
      shards=2,
    )
    build.prepare(config, folder / "corpus")
    return cls(config, str(folder / "corpus"))


def config(
  case: Case, folder: str, max_sequences: int, changes: Mapping[str, Any]
) -> dict[str, Any]:
  """The recipe of a training case: that of BERT-base, with AdamW.

  `max_sequences` is that of a row; `changes` are values by dotted keys.
  """
  made = bert_base.get_config().to_dict()
  del made["corpus"]
  made |= {"steps": 1_000_000, "batch_size": case.rows}
  made["model"] |= {"dtype": "float32", "vocab_size": VOCABULARY, **case.model}
  made["data"] = {
    "corpus": folder,
    "max_length": case.length,
    "max_predictions": PREDICTIONS[case.length],
    "max_sequences": max_sequences,
  }
  made["optimizer"]["name"] = "adamw"
  return sweep.changed(made, changes, "--ours")


def optimizer(made: Mapping[str, Any]) -> dict[str, Any]:
  """The hyperparameters of the optimizer, for `Job.optimizer`."""
  found = settings.from_dict(OptimizerConfig, made["optimizer"], "optimizer")
  return {name: getattr(found, name) for name in _OPTIMIZER}


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the flags for the text."""
  parser.add_argument(
    "--text",
    nargs="+",
    default=[],
    metavar="FILE",
    help="text files; by default the documentation of the installed packages",
  )
  parser.add_argument(
    "--documents", default="blank_line", choices=("blank_line", "line", "file")
  )
  parser.add_argument(
    "--max_sequences", type=int, default=16, help="of a packed row"
  )
