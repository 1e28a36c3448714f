"""Training on a corpus: its config, its examples."""

import dataclasses
import functools
import hashlib
import json
import math
from typing import ClassVar, Self

import numpy as np

from bert_jax import text
from bert_jax.batch import Batch
from bert_jax.data.corpus import shards
from bert_jax.data.pretraining.examples import (
  ExamplesConfig,
  PretrainingExamples,
)
from bert_jax.data.sources import files, pretraining_records
from bert_jax.data.stream import Stream
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.tasks.data import TrainingData
from bert_jax.tasks.inputs import rows
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer, mask_name


@dataclasses.dataclass(frozen=True)
class CorpusDataConfig(ExamplesConfig):
  """The section `config.data` of a task that learns from a corpus.

  Besides these, the fields of `ExamplesConfig`.

  Attributes:
    corpus: a folder made by `bert-jax prepare`.
    train: instead of `corpus`, globs of static TFRecords of Google's,
      NVIDIA's or MLPerf's form, to train on.
    eval: the same, to evaluate on.
    tokenizer: with `train`, the folder of their vocabulary; needed to fill
      masks in text later.
    eval_mask_rate: with `corpus`, the `mask_rate` of evaluation examples,
      whatever that of training, so that losses of different runs compare.
  """

  corpus: str | None = None
  train: tuple[str, ...] = ()
  eval: tuple[str, ...] = ()
  tokenizer: str | None = None
  eval_mask_rate: float = 0.15

  TASK: ClassVar[Task]

  def __post_init__(self):
    super().__post_init__()
    if self.corpus and self.train:
      raise ValueError("train: give either corpus or train, not both")
    if self.train and self.max_sequences > 1:
      raise ValueError(
        f"max_sequences: expected 1 with train, got {self.max_sequences};"
        " only a corpus can be packed"
      )
    if not 0 <= self.eval_mask_rate <= 1:
      raise ValueError(
        f"eval_mask_rate: expected 0 to 1, got {self.eval_mask_rate}"
      )

  @property
  def for_eval(self) -> Self:
    """The config of evaluation examples; `max_predictions` follows the rate."""
    rate = self.eval_mask_rate
    if self.train or rate == self.mask_rate:
      return self  # Static records have their masks.
    slots = rate * (
      self.max_predictions / self.mask_rate
      if self.mask_rate
      else self.max_length
    )
    # The tolerance keeps rounding errors from adding a slot.
    slots = max(math.ceil(slots - 1e-6), 1)
    return dataclasses.replace(self, mask_rate=rate, max_predictions=slots)


def config_class(task: Task) -> type[CorpusDataConfig]:
  """The dataclass of a task's section `config.data`."""
  pairs = dataclasses.field(default=task.inputs.pairs)
  return dataclasses.make_dataclass(
    f"CorpusDataConfig_{task.name}",
    [("next_sentence", bool, pairs)],
    bases=(CorpusDataConfig,),
    namespace={"TASK": task, "__doc__": CorpusDataConfig.__doc__},
    frozen=True,
  )


def load_tokenizer(config: CorpusDataConfig) -> Tokenizer | None:
  """The tokenizer that made the data, None when only ids are at hand."""
  folder = config.tokenizer or config.corpus
  if folder is None and not config.train:
    raise UserError(
      "config.data.corpus: missing; give the folder of a corpus, made by"
      " `bert-jax prepare --config CONFIG --output FOLDER`"
    )
  if config.corpus:
    shards.read_manifest(config.corpus)
  return text.load(folder) if folder else None


def make(
  config: CorpusDataConfig,
  encoder: EncoderConfig,
  tokenizer: Tokenizer | None,
  seed: int = 0,
) -> tuple[Task, TrainingData]:
  """A task and its training data; examples are opened when asked for.

  Args:
    config: the section `config.data`.
    encoder: the encoder's configuration.
    tokenizer: the vocabulary; None where only ids are at hand.
    seed: of the order and masks of the training examples.

  Raises:
    UserError: the data do not fit the encoder.
  """
  task = config.TASK.bind(encoder, tokenizer)
  if config.max_length > encoder.max_positions:
    raise UserError(
      f"config.data.max_length: {config.max_length} is longer than"
      f" config.model.max_positions, {encoder.max_positions}"
    )
  examples = functools.partial(_examples, encoder, tokenizer)
  return task, TrainingData(
    max_length=config.max_length,
    predictions=config.predictions,
    training=lambda size, order, start: Stream(
      examples(config, "train", seed), size, order, start
    ),
    evaluation=functools.partial(examples, config.for_eval, "eval", 0),
    fingerprint=functools.partial(_fingerprint, config),
    baselines=task.corpus_baselines,
  )


def _examples(
  encoder: EncoderConfig,
  tokenizer: Tokenizer | None,
  config: CorpusDataConfig,
  split: str,
  seed: int,
) -> PretrainingExamples | pretraining_records.PretrainingRecords:
  if config.train:
    return pretraining_records.PretrainingRecords(
      getattr(config, split), config, encoder.vocab_size, f"config.data.{split}"
    )
  mask_name(tokenizer)  # Raises an error if there is none.
  corpus = shards.Corpus.open(config.corpus, split)
  return PretrainingExamples(
    corpus,
    tokenizer.special,
    len(tokenizer),
    tokenizer.continuations,
    config,
    seed,
  )


def _fingerprint(config: CorpusDataConfig) -> str:
  """A hash of the corpus's files, or the names and sizes of the records."""
  if config.corpus:
    identity = shards.read_manifest(config.corpus)["files"]
  else:
    found = files.find(config.train, "config.data.train")
    found = map(paths.local, found)
    identity = [[path.name, path.stat().st_size] for path in found]
  return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def dummy_batch(config: CorpusDataConfig) -> Batch:
  """An example of zeros of the shape of the training rows."""
  positions = np.zeros(config.predictions, np.int32)
  pairs = np.zeros(config.max_sequences, np.int32)
  return rows.dummy_example(
    {
      "masked_lm/positions": positions,
      "masked_lm/ids": positions,
      "masked_lm/weights": positions.astype(np.float32),
      "next_sentence/labels": pairs,
      "next_sentence/weights": pairs.astype(np.float32),
    },
    shape=(config.max_length,),
  )
