"""BERT's pretraining: masked words and the next sentence.

The targets of a batch:

  masked_positions: int32 [batch, predictions], where words are hidden.
  masked_ids: int32 [batch, predictions], the words that were there.
  masked_weights: float32 [batch, predictions], 0 where a slot is unused.
  next_sentence_labels: int32 [batch], 0 for the true next, 1 for a random.
  next_sentence_weights: float32 [batch], 0 where there is no pair.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bert_jax import text
from bert_jax.data import shards
from bert_jax.data.examples import ExamplesConfig, PretrainingExamples
from bert_jax.data.sources import files, pretraining_records
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import fill_mask
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean


@dataclasses.dataclass(frozen=True)
class Data(ExamplesConfig):
  """The section `config.data` of a pretraining recipe.

  Besides these, the fields of `ExamplesConfig`.

  Attributes:
    corpus: a folder made by `launch.prepare`.
    records: instead of `corpus`, globs of static TFRecords of Google's,
      NVIDIA's or MLPerf's form.
    evaluation_records: the same, for the held-out examples.
    tokenizer: with `records`, the folder of their vocabulary; needed to fill
      masks in text later.
  """

  corpus: str | None = None
  records: tuple[str, ...] = ()
  evaluation_records: tuple[str, ...] = ()
  tokenizer: str | None = None

  def __post_init__(self):
    super().__post_init__()
    if self.corpus and self.records:
      raise ValueError("records: give either corpus or records, not both")


def load_tokenizer(data: Data) -> Tokenizer | None:
  """The tokenizer that made the data, None when only ids are at hand."""
  folder = data.tokenizer or data.corpus
  if folder is None and not data.records:
    raise UserError(
      "config.data.corpus: missing; give the folder of a corpus, made by"
      " `python -m launch.prepare --config CONFIG --output FOLDER`"
    )
  if data.corpus:
    shards.read_manifest(pathlib.Path(data.corpus))
  return text.load(pathlib.Path(folder)) if folder else None


def make(
  config: EncoderConfig, data: Data, tokenizer: Tokenizer | None, seed: int
) -> Task:
  """Makes the task; examples are opened when they are asked for."""
  if data.length > config.max_positions:
    raise UserError(
      f"config.data.length: {data.length} is longer than"
      f" config.model.max_positions, {config.max_positions}"
    )
  return Task(
    config=config,
    tokenizer=tokenizer,
    model=heads.PretrainingModel(config),
    length=data.length,
    blank=_blank(data),
    predictions=data.max_predictions,
    training=functools.partial(
      _examples, config, data, tokenizer, "train", seed
    ),
    evaluation=functools.partial(
      _examples, config, data, tokenizer, "held_out", 0
    ),
    fingerprint=functools.partial(_fingerprint, data),
    loss=loss,
    metrics=metrics,
    baselines=baselines,
    prepare=functools.partial(
      fill_mask.prepare, tokenizer, config.max_positions
    ),
    answer=functools.partial(fill_mask.answer, tokenizer),
  )


def _examples(
  config: EncoderConfig,
  data: Data,
  tokenizer: Tokenizer | None,
  split: str,
  seed: int,
) -> PretrainingExamples | pretraining_records.PretrainingRecords:
  if data.records:
    name = "records" if split == "train" else "evaluation_records"
    return pretraining_records.PretrainingRecords(
      getattr(data, name), data, config.vocab_size, f"config.data.{name}"
    )
  corpus = shards.Corpus.open(pathlib.Path(data.corpus), split)
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
    identity = shards.read_manifest(pathlib.Path(data.corpus))["files"]
  else:
    paths = map(pathlib.Path, files.find(data.records, "config.data.records"))
    identity = [[path.name, path.stat().st_size] for path in paths]
  return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _blank(data: Data) -> Batch:
  row = np.zeros(data.length, np.int32)
  places = np.zeros(data.max_predictions, np.int32)
  return Batch(
    token_ids=row,
    segment_ids=row,
    position_ids=row,
    sequence_ids=row,
    targets={
      "masked_positions": places,
      "masked_ids": places,
      "masked_weights": places.astype(np.float32),
      "next_sentence_labels": np.zeros((), np.int32),
      "next_sentence_weights": np.zeros((), np.float32),
    },
  )


def loss(outputs: heads.PretrainingOutputs, batch: Batch) -> dict[str, Mean]:
  """Cross-entropy of the masked words and of the pair, in nats."""
  targets = batch.targets
  return {
    "mlm_loss": _mean(
      _cross_entropy(outputs.masked_lm, targets["masked_ids"]),
      targets["masked_weights"],
    ),
    "nsp_loss": _mean(
      _cross_entropy(outputs.next_sentence, targets["next_sentence_labels"]),
      targets["next_sentence_weights"],
    ),
  }


def metrics(outputs: heads.PretrainingOutputs, batch: Batch) -> dict[str, Mean]:
  """The share of masked words, and of pairs, that the model gets right."""
  targets = batch.targets
  return {
    "mlm_accuracy": _mean(
      outputs.masked_lm.argmax(-1) == targets["masked_ids"],
      targets["masked_weights"],
    ),
    "nsp_accuracy": _mean(
      outputs.next_sentence.argmax(-1) == targets["next_sentence_labels"],
      targets["next_sentence_weights"],
    ),
  }


def _cross_entropy(
  logits: Float[Array, "*rows classes"], labels: Int[Array, "*rows"]
) -> Float[Array, "*rows"]:
  picked = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
  return jax.nn.logsumexp(logits, axis=-1) - picked


def _mean(values: Array, weights: Float[Array, "*rows"]) -> Mean:
  return Mean((values * weights).sum(), weights.sum())


def baselines(batches: Iterable[Batch]) -> dict[str, float]:
  """What always guessing the commonest word, or pair label, would score.

  The commonest is taken among the given targets themselves, so that no
  constant answer can do better on them.
  """
  words, labels = np.zeros(1), np.zeros(2)
  for batch in batches:
    targets = batch.targets
    found = np.bincount(
      targets["masked_ids"].ravel(), targets["masked_weights"].ravel()
    )
    if len(found) > len(words):
      words, found = found, words
    words[: len(found)] += found
    labels += np.bincount(
      targets["next_sentence_labels"],
      targets["next_sentence_weights"],
      minlength=2,
    )
  return {
    "mlm_accuracy_unigram_baseline": float(words.max() / max(words.sum(), 1)),
    "nsp_accuracy_majority_baseline": float(
      labels.max() / max(labels.sum(), 1)
    ),
  }
