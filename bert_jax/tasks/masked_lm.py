"""Masked words alone: RoBERTa's pretraining, and going on from a checkpoint.

The targets of a batch:

  masked_positions: int32 [batch, predictions], where words are hidden.
  masked_ids: int32 [batch, predictions], the words that were there.
  masked_weights: float32 [batch, predictions], 0 where a slot is unused.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable

import numpy as np

from bert_jax import text
from bert_jax.data.corpus import shards
from bert_jax.data.pretraining.examples import (
  ExamplesConfig,
  PretrainingExamples,
)
from bert_jax.data.sources import files, pretraining_records
from bert_jax.data.stream import Stream
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.tasks.common import fill_mask, losses
from bert_jax.tasks.task import Task, TrainingData
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean


@dataclasses.dataclass(frozen=True)
class Data(ExamplesConfig):
  """The section `config.data` of a recipe.

  Besides these, the fields of `ExamplesConfig`.

  Attributes:
    corpus: a folder made by `launch.prepare`.
    train: instead of `corpus`, globs of static TFRecords of Google's,
      NVIDIA's or MLPerf's form, to train on.
    eval: the same, to evaluate on.
    tokenizer: with `train`, the folder of their vocabulary; needed to fill
      masks in text later.
  """

  next_sentence: bool = False

  corpus: str | None = None
  train: tuple[str, ...] = ()
  eval: tuple[str, ...] = ()
  tokenizer: str | None = None

  def __post_init__(self):
    super().__post_init__()
    if self.corpus and self.train:
      raise ValueError("train: give either corpus or train, not both")
    if self.train and self.max_sequences > 1:
      raise ValueError(
        f"max_sequences: expected 1 with train, got {self.max_sequences};"
        " only a corpus can be packed"
      )


def load_tokenizer(data: Data) -> Tokenizer | None:
  """The tokenizer that made the data, None when only ids are at hand."""
  folder = data.tokenizer or data.corpus
  if folder is None and not data.train:
    raise UserError(
      "config.data.corpus: missing; give the folder of a corpus, made by"
      " `python -m launch.prepare --config CONFIG --output FOLDER`"
    )
  if data.corpus:
    shards.read_manifest(data.corpus)
  return text.load(folder) if folder else None


def make(
  config: EncoderConfig,
  tokenizer: Tokenizer | None,
  head: None = None,
  data: Data | None = None,
  seed: int = 0,
) -> Task:
  """Makes the task; examples are opened when they are asked for.

  Args:
    config: the encoder's.
    tokenizer: None where only ids go in.
    head: this task has nothing to set.
    data: what to learn from; None to predict only.
    seed: of the order and masks of the training examples.

  Raises:
    UserError: the data do not suit the encoder.
  """
  del head
  return Task(
    name="masked_lm",
    config=config,
    tokenizer=tokenizer,
    model=heads.MaskedLanguageModel(config),
    blank=_blank(data or Data(max_length=5, max_predictions=1)),
    loss=loss,
    metrics=metrics,
    prepare=functools.partial(
      fill_mask.prepare, tokenizer, config.max_positions
    ),
    answer=functools.partial(fill_mask.answer, tokenizer),
    data=data and _training_data(config, data, tokenizer, seed),
  )


def _training_data(
  config: EncoderConfig, data: Data, tokenizer: Tokenizer | None, seed: int
) -> TrainingData:
  if data.max_length > config.max_positions:
    raise UserError(
      f"config.data.max_length: {data.max_length} is longer than"
      f" config.model.max_positions, {config.max_positions}"
    )
  examples = functools.partial(_examples, config, data, tokenizer)
  return TrainingData(
    length=data.max_length,
    predictions=data.predictions,
    training=lambda size, order, start: Stream(
      examples("train", seed), size, order, start
    ),
    evaluation=functools.partial(examples, "eval", 0),
    fingerprint=functools.partial(_fingerprint, data),
    baselines=baselines,
  )


def _examples(
  config: EncoderConfig,
  data: Data,
  tokenizer: Tokenizer | None,
  split: str,
  seed: int,
) -> PretrainingExamples | pretraining_records.PretrainingRecords:
  if data.train:
    return pretraining_records.PretrainingRecords(
      getattr(data, split), data, config.vocab_size, f"config.data.{split}"
    )
  corpus = shards.Corpus.open(data.corpus, split)
  return PretrainingExamples(
    corpus,
    tokenizer.special,
    len(tokenizer),
    tokenizer.continuations,
    data,
    seed,
  )


def _fingerprint(data: Data) -> str:
  """A hash of the corpus's files, or the names and sizes of the records."""
  if data.corpus:
    identity = shards.read_manifest(data.corpus)["files"]
  else:
    found = files.find(data.train, "config.data.train")
    found = map(paths.local, found)
    identity = [[path.name, path.stat().st_size] for path in found]
  return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _blank(data: Data) -> Batch:
  row = np.zeros(data.max_length, np.int32)
  places = np.zeros(data.predictions, np.int32)
  pairs = np.zeros(data.max_sequences, np.int32)
  return Batch(
    token_ids=row,
    segment_ids=row,
    position_ids=row,
    sequence_ids=row,
    targets={
      "masked_positions": places,
      "masked_ids": places,
      "masked_weights": places.astype(np.float32),
      "next_sentence_labels": pairs,
      "next_sentence_weights": pairs.astype(np.float32),
    },
  )


def loss(outputs: heads.PretrainingOutputs, batch: Batch) -> dict[str, Mean]:
  """Cross-entropy of the masked words, in nats."""
  targets = batch.targets
  return {
    "mlm_loss": losses.mean(
      losses.cross_entropy(outputs.masked_lm, targets["masked_ids"]),
      targets["masked_weights"],
    )
  }


def metrics(outputs: heads.PretrainingOutputs, batch: Batch) -> dict[str, Mean]:
  """The share of masked words that the model gets right."""
  targets = batch.targets
  return {
    "mlm_accuracy": losses.mean(
      outputs.masked_lm.argmax(-1) == targets["masked_ids"],
      targets["masked_weights"],
    )
  }


def baselines(batches: Iterable[Batch]) -> dict[str, float]:
  """What always guessing the commonest word would score.

  The commonest is taken among the given targets themselves, so that no
  constant answer can do better on them.
  """
  words = np.zeros(1)
  for batch in batches:
    targets = batch.targets
    found = np.bincount(
      targets["masked_ids"].ravel(), targets["masked_weights"].ravel()
    )
    if len(found) > len(words):
      words, found = found, words
    words[: len(found)] += found
  return {
    "mlm_accuracy_unigram_baseline": float(words.max() / max(words.sum(), 1))
  }
